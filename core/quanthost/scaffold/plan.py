"""What a new backend is to be: its names, its kind and arithmetic, checked before anything is written."""

from __future__ import annotations

import enum
import keyword
import re

import attrs

from quanthost.errors import RequestError
from quanthost.host.discovery import installed
from quanthost.host.module_files import is_importable
from quanthost.values import FP32_HALF_EVEN, PROFILES, ArithmeticProfile

__all__ = ["Kind", "Plan", "Wrapped", "make_plan"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# longer ones would not fit the lines of the templates
_LONGEST = 24


class Kind(enum.Enum):
    """Where the backend's programs run: in a delegate of its own, in portable kernels, in a wrapped one."""

    DELEGATE = "delegate"
    PORTABLE = "portable"
    WRAP = "wrap"


@attrs.frozen(kw_only=True)
class Wrapped:
    """An existing quantizer and partitioner, as the generated code makes them.

    Each is an import (module and name) and the call that makes one. ``config`` is a function beside the
    quantizer that its ``set_global`` takes the result of, with its arguments; ``delegate`` the id that the
    partitioner delegates to, empty where it does not say.
    """

    quantizer: tuple[str, str]
    partitioner: tuple[str, str]
    config: tuple[str, str] | None = None
    delegate: str = ""


@attrs.frozen(kw_only=True)
class Plan:
    """A new backend: all names in it follow from ``name``."""

    name: str
    kind: Kind
    profile: ArithmeticProfile
    wrapped: Wrapped | None = None

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
        """Id of the delegate; empty where there is none."""
        if self.wrapped is not None:
            return self.wrapped.delegate
        return f"{self.class_name}Backend" if self.kind is Kind.DELEGATE else ""


def make_plan(name: str, *, kind: Kind, profile: str | None = None, wrapped: Wrapped | None = None) -> Plan:
    """The plan of a new backend.

    Raises:
        RequestError: the name cannot be a backend's, or is taken; the profile is unknown.
    """
    _check_name(name)
    profile = profile if profile is not None else FP32_HALF_EVEN.name
    if profile not in PROFILES:
        raise _refused(
            f"the arithmetic profile {profile!r}", f"one of {', '.join(PROFILES)}", profile,
            "choose one of these; an ArithmeticProfile of your own goes into backend.py later",
        )  # fmt: skip
    plan = Plan(name=name, kind=kind, profile=PROFILES[profile], wrapped=wrapped)
    _check_free(plan)
    return plan


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) and len(name) <= _LONGEST and not keyword.iskeyword(name):
        return
    word = f"the backend name {name!r}"
    raise _refused(
        f"{word}, a keyword of Python" if keyword.iskeyword(name) else word,
        f"lower-case letters, digits and underscores, a letter first, {_LONGEST} at most, and no keyword",
        name, "choose another name, for example 'my_npu'",
    )  # fmt: skip


def _check_free(plan: Plan) -> None:
    for backend in installed():
        if backend.name == plan.name:
            raise _refused(
                f"the backend name {plan.name!r}, which {backend.origin} has", "a name that is not taken",
                plan.name, f"choose another name, or uninstall {backend.distribution}", backend.where,
            )  # fmt: skip
    if is_importable(plan.package):
        raise _refused(
            f"the package name {plan.package!r}, which can be imported already", "a name that is not taken",
            plan.name, "choose another name, or uninstall what has this package",
        )  # fmt: skip


def _refused(seen: str, needed: str, value: str, remedy: str, where: str = "new-backend") -> RequestError:
    return RequestError(seen, needed=needed, remedy=remedy, where=where, value=value)
