"""Where a command's model, example inputs and data come from: references to functions, and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from quanthost.cli.references import Reference, is_reference
from quanthost.cli.usage import UsageError

if TYPE_CHECKING:
    from quanthost.host.target import Target

__all__ = ["Sources", "batches", "data_source"]


@attrs.frozen(kw_only=True)
class Sources:
    """References and paths; nothing is loaded yet."""

    model: Reference
    inputs: Reference | None
    dynamic_shapes: Reference | None
    calibration: Reference | Path | None

    @classmethod
    def of(cls, model: str, settings: Mapping[str, Any] | None = None) -> Sources:
        """Parse what was typed; the settings have ``inputs``, ``dynamic_shapes`` and ``calibration``.

        Raises:
            UsageError: one is neither a reference nor a path that exists.
        """
        settings = settings or {}
        calibration = settings.get("calibration")
        return cls(
            model=Reference.parse(model, where="MODEL"),
            inputs=_reference(settings.get("inputs"), "--inputs"),
            dynamic_shapes=_reference(settings.get("dynamic_shapes"), "--dynamic-shapes"),
            calibration=None if calibration is None else data_source(calibration, where="--calibration"),
        )

    def shapes(self) -> Any:
        """The sizes that vary, as ``capture`` takes them."""
        return None if self.dynamic_shapes is None else self.dynamic_shapes.call(where="--dynamic-shapes")

    def load(self, target: Target) -> tuple[Any, Any, Any]:
        """The model, its example inputs and its calibration batches."""
        from quanthost.host.discovery import load
        from quanthost.toolchain.quiet import quiet_imports

        with quiet_imports():
            # the plugins before the model, which may take long to build
            for backend in target.backend:
                load(str(backend), target.policy)
        model, inputs = self._model_and_inputs()
        data = self.calibration
        return model, inputs, None if data is None else batches(data, model, inputs, where="--calibration")

    def _model_and_inputs(self) -> tuple[Any, Any]:
        from torch import nn
        from torch.export import ExportedProgram

        result = self.model.call(where="MODEL")
        is_pair = isinstance(result, tuple) and len(result) == 2
        model, inputs = result if is_pair else (result, None)
        if not isinstance(model, (nn.Module, ExportedProgram)):
            raise UsageError(
                f"{self.model} with a result of type {type(result).__name__}", where="MODEL", value=result,
                needed="a torch.nn.Module, or a pair of it and its example inputs",
                remedy="return the model from the function",
            )  # fmt: skip
        if self.inputs is not None:
            return model, self.inputs.call(where="--inputs")
        if is_pair:
            return model, inputs
        raise UsageError(
            f"{self.model} without example inputs", needed="inputs to capture the model with", where="MODEL",
            remedy="return (model, inputs) from the function, or name one with --inputs",
        )  # fmt: skip


def _reference(text: str | None, where: str) -> Reference | None:
    return None if text is None else Reference.parse(text, where=where)


def data_source(text: str, *, where: str) -> Reference | Path:
    """A reference to a function, or a path that exists."""
    if is_reference(text):
        return Reference.parse(text, where=where)
    path = Path(text)
    if path.exists():
        return path
    raise UsageError(
        f"no file or folder {path}", needed="MODULE:CALLABLE, a file or a folder", where=where,
        remedy="correct the path", value=text,
    )  # fmt: skip


def batches(source: Reference | Path, model: Any, inputs: Any, *, where: str) -> Iterable[Any]:
    """The batches of a function, a file or a folder."""
    if isinstance(source, Path):
        # late: torch comes with it
        from quanthost.cli.data_files import Layout, batches_from

        return batches_from(source, Layout.of(model, inputs))
    result = source.call(where=where)
    if isinstance(result, Iterable):
        return result
    raise UsageError(
        f"{source} with a result of type {type(result).__name__}", where=where, value=result,
        needed="a list, loader or generator of batches", remedy="return the batches from the function",
    )  # fmt: skip
