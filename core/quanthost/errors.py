"""The error tree; every error says what was seen, what was needed, where, and what to do."""

from __future__ import annotations

from typing import Any

__all__ = [
    "ApiVersionError",
    "BackendLoadError",
    "BlockedBackendError",
    "CalibrationError",
    "CaptureError",
    "ConversionError",
    "DiscoveryError",
    "DuplicateBackendError",
    "EmptyProgramError",
    "HookError",
    "InputError",
    "LoweringError",
    "ManifestError",
    "NoDataError",
    "OverrideError",
    "ProgramError",
    "QuanthostError",
    "RequestError",
    "StatisticsError",
    "TableError",
    "UnknownBackendError",
    "ValueCheckError",
]


class QuanthostError(Exception):
    """Base of all errors that quanthost raises on purpose.

    Attributes hold the four parts of the message and what the error is about: ``plugin`` (backend or
    distribution name), ``stage`` (``"capture"``, ``"prepare"``, …), ``node`` (name of the graph node) and
    ``value`` (the offending value). Unset is ``None``.
    """

    def __init__(
        self,
        seen: str,
        *,
        needed: str,
        remedy: str,
        where: str | None = None,
        plugin: str | None = None,
        stage: str | None = None,
        node: str | None = None,
        value: Any = None,
    ) -> None:
        super().__init__(seen)
        self.seen = seen
        self.needed = needed
        self.remedy = remedy
        self.plugin = plugin
        self.stage = stage
        self.node = node
        self.value = value
        self._where = where

    @property
    def where(self) -> str:
        """The place in words: the one passed in, else stage, plugin and node."""
        if self._where is not None:
            return self._where
        parts = (("stage", self.stage), ("backend", self.plugin), ("node", self.node))
        return ", ".join(f"{label} {name}" for label, name in parts if name is not None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.seen, self.needed, self.remedy), self.__dict__

    def __str__(self) -> str:
        lines = [self.seen, f"  needed: {self.needed}"]
        if self.where:
            lines.append(f"  where:  {self.where}")
        lines.append(f"  to do:  {self.remedy}")
        return "\n".join(lines)


def _rebuild(kind: type[QuanthostError], seen: str, needed: str, remedy: str) -> QuanthostError:
    """Rebuild an error from a pickle or a copy; its attributes are set afterwards."""
    error = kind.__new__(kind, seen)
    QuanthostError.__init__(error, seen, needed=needed, remedy=remedy)
    return error


class ValueCheckError(QuanthostError, ValueError):
    """A value (qspec, recipe, override, manifest field …) that contradicts itself."""


class RequestError(QuanthostError, ValueError):
    """The request cannot be met: an unknown recipe, option or combination."""


class OverrideError(RequestError):
    """An override matches nothing, or the backend cannot honour it."""


class DiscoveryError(QuanthostError):
    """Base of the errors from an entry point to a loaded backend."""


class UnknownBackendError(DiscoveryError, LookupError):
    """No installed distribution offers a backend of that name."""


class BlockedBackendError(DiscoveryError, PermissionError):
    """The backend is installed, but an allow or block list keeps it from being imported."""


class DuplicateBackendError(DiscoveryError, LookupError):
    """Two distributions claim the same backend name."""


class BackendLoadError(DiscoveryError, ImportError):
    """The plugin's code failed to import or did not offer what its entry point promises."""


class ManifestError(DiscoveryError, ValueError):
    """A plugin's static manifest is missing, unreadable or wrong."""


class ApiVersionError(DiscoveryError, RuntimeError):
    """The plugin's API range excludes this host."""


class HookError(QuanthostError, TypeError):
    """A hook implementation is unknown, has the wrong signature or returned the wrong type."""


class TableError(QuanthostError, ValueError):
    """A support table that is ambiguous or contradicts itself."""


class CaptureError(QuanthostError, RuntimeError):
    """``torch.export`` could not trace the model."""


class InputError(QuanthostError, ValueError):
    """The inputs differ from the captured signature in number, shape, dtype or kind."""


class CalibrationError(QuanthostError, ValueError):
    """The calibration data gives no ranges: it is empty, not finite, or never reaches an observer."""


class NoDataError(CalibrationError):
    """No batch reached an observed tensor, or the tensor was empty in all of them."""


class StatisticsError(CalibrationError):
    """Range statistics cannot be read, do not belong together, or belong to another model."""


class ConversionError(QuanthostError, RuntimeError):
    """The observed graph could not be turned into a quantized one."""


class LoweringError(QuanthostError, RuntimeError):
    """The toolchain could not turn the converted graph into a program."""


class EmptyProgramError(LoweringError):
    """The model's outputs are all inputs or constants: there is nothing to compute."""


class ProgramError(QuanthostError, RuntimeError):
    """A program file cannot be read, loaded or executed."""
