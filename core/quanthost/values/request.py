"""The frozen record of what the app developer asked for; every hook receives it."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import attrs

from quanthost.values import checks
from quanthost.values.cost_table import CostTable
from quanthost.values.override import Override

__all__ = ["Io", "Objective", "Option", "Placement", "Representation", "Request", "Toolchain"]

Option: TypeAlias = str | int | float | bool


class Representation(enum.Enum):
    """What the converted graph looks like: q/dq around float operators, or integer forms."""

    QDQ = "qdq"
    REFERENCE = "reference"
    INTEGER = "integer"


class Placement(enum.Enum):
    """How an operator that gains nothing by itself is placed between float and integer neighbours."""

    COST = "cost"
    ALL = "all"


class Toolchain(enum.Enum):
    """Which functions make the program: shortcuts through the toolchain, or the toolchain's own alone."""

    FAST = "fast"
    UPSTREAM = "upstream"


class Objective(enum.Enum):
    """What an operator is quantized for: accuracy and size, or the time that the program takes."""

    ACCURACY = "accuracy"
    LATENCY = "latency"


class Io(enum.Enum):
    """The type of a program's inputs and outputs: float, or integers whose parameters the record has."""

    FLOAT = "float"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"


def _backends(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else checks.as_tuple(value)


def sorted_options(
    value: Mapping[str, Option] | Iterable[tuple[str, Option]],
) -> tuple[tuple[str, Option], ...]:
    """Names and values as pairs, sorted; what is neither a mapping nor pairs is left for the validator."""
    pairs = checks.as_pairs(value)
    return tuple(sorted(pairs, key=repr)) if isinstance(pairs, tuple) else pairs


def check_option(owner: object, attribute: Any, value: Any) -> None:
    """Validates the value of one option: text, a truth value, or a finite number."""
    checks.kind(str, int, float, bool)(owner, attribute, value)
    if isinstance(value, float) and not math.isfinite(value):
        checks.refuse(
            owner, attribute.name, f"the option {value!r}", needed="a finite number",
            remedy="leave the option out, or give a number", value=value,
        )  # fmt: skip


@attrs.frozen(kw_only=True)
class Request:
    """Backend(s) in order of priority, recipe, overrides in order, and the options of the backend."""

    backends: tuple[str, ...] = attrs.field(converter=_backends, validator=checks.each(checks.identifier()))
    recipe: str = attrs.field(validator=checks.identifier())
    overrides: tuple[Override, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.kind(Override))
    )
    qat: bool = attrs.field(default=False, validator=checks.kind(bool))
    placement: Placement = attrs.field(default=Placement.COST, validator=checks.kind(Placement))
    # with a table, what is faster in float on the machine where it was measured is left there
    costs: CostTable | None = attrs.field(
        default=None, validator=checks.kind(CostTable, optional=True), repr=False
    )
    toolchain: Toolchain = attrs.field(default=Toolchain.FAST, validator=checks.kind(Toolchain))
    # True, 1 and 1.0 are equal and mean three things to a backend
    options: tuple[tuple[str, Option], ...] = attrs.field(
        default=(), converter=sorted_options, validator=checks.each(checks.pair(check_option)), eq=repr
    )

    def __attrs_post_init__(self) -> None:
        if not self.backends or len(set(self.backends)) != len(self.backends):
            checks.refuse(
                self, "backends", f"the backends {self.backends!r}",
                needed="at least one backend, each once, the first preferred",
                remedy="name the backends in order of priority", value=self.backends,
            )  # fmt: skip
        names = [name for name, _ in self.options]
        if len(set(names)) != len(names):
            checks.refuse(
                self, "options", f"the options {names!r}", needed="each option once",
                remedy="remove the doubled option", value=self.options,
            )  # fmt: skip

    def option(self, name: str, default: Option | None = None) -> object:
        """The value of a backend's option, ``default`` where it was not given."""
        return dict(self.options).get(name, default)
