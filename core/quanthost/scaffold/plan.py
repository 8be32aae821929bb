"""``Plan``: the names, kind and arithmetic of a new backend, checked before any file is written."""

from __future__ import annotations

import enum
import keyword
import re

import attrs

from quanthost.errors import RequestError
from quanthost.host.discovery import installed
from quanthost.host.module_files import is_importable
from quanthost.values import FP32_HALF_EVEN, PROFILES, ArithmeticProfile

__all__ = ["Kind", "Plan", "WrapTarget", "make_plan"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# longer names would not fit in the lines of the templates
_LONGEST = 24


class Kind(enum.Enum):
    """Where the backend's programs run: in its own delegate, in portable kernels or in a wrapped delegate."""

    DELEGATE = "delegate"
    PORTABLE = "portable"
    WRAP = "wrap"


@attrs.frozen(kw_only=True)
class WrapTarget:
    """An existing quantizer and partitioner, each as module and name to import.

    ``config`` is the function next to the quantizer whose result goes to ``set_global``, with its arguments.
    ``delegate`` is the id that the partitioner delegates to, empty if unknown.
    """

    quantizer: tuple[str, str]
    partitioner: tuple[str, str]
    config: tuple[str, str] | None = None
    delegate: str = ""


@attrs.frozen(kw_only=True)
class Plan:
    """A new backend; all its names derive from ``name``."""

    name: str
    kind: Kind
    profile: ArithmeticProfile
    wrapped: WrapTarget | None = None

    @property
    def distribution(self) -> str:
        return f"quanthost-{self.name.replace('_', '-')}"

    @property
    def package(self) -> str:
        return f"quanthost_{self.name}"

    @property
    def class_name(self) -> str:
        return "".join(part.capitalize() for part in self.name.split("_"))

    @property
    def runtime(self) -> str:
        """The id of the delegate; empty if there is none."""
        if self.wrapped is not None:
            return self.wrapped.delegate
        return f"{self.class_name}Backend" if self.kind is Kind.DELEGATE else ""


def make_plan(
    name: str, *, kind: Kind, profile: str | None = None, wrapped: WrapTarget | None = None
) -> Plan:
    """Make the plan of a new backend.

    Raises:
        RequestError: the name is invalid or already used, or the profile is unknown.
    """
    _check_name(name)
    profile = profile if profile is not None else FP32_HALF_EVEN.name
    if profile not in PROFILES:
        raise _error(
            f"the arithmetic profile {profile!r}", f"one of {', '.join(PROFILES)}", profile,
            "choose one of these; you can put your own ArithmeticProfile into backend.py later",
        )  # fmt: skip
    plan = Plan(name=name, kind=kind, profile=PROFILES[profile], wrapped=wrapped)
    _check_free(plan)
    return plan


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) and len(name) <= _LONGEST and not keyword.iskeyword(name):
        return
    word = f"the backend name {name!r}"
    raise _error(
        f"{word}, a keyword of Python" if keyword.iskeyword(name) else word,
        f"lower-case letters, digits and underscores, a letter first, at most {_LONGEST}, and no keyword",
        name, "choose another name, for example 'my_npu'",
    )  # fmt: skip


def _check_free(plan: Plan) -> None:
    for backend in installed():
        if backend.name == plan.name:
            raise _error(
                f"the backend name {plan.name!r}, which {backend.origin} has", "an unused name",
                plan.name, f"choose another name, or uninstall {backend.distribution}", backend.where,
            )  # fmt: skip
    if is_importable(plan.package):
        raise _error(
            f"the package name {plan.package!r}, which is installed already", "an unused name",
            plan.name, "choose another name, or uninstall the distribution of this package",
        )  # fmt: skip


def _error(seen: str, needed: str, value: str, remedy: str, where: str = "new-backend") -> RequestError:
    return RequestError(seen, needed=needed, remedy=remedy, where=where, value=value)
