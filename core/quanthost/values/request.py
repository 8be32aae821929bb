"""The app developer's request as a frozen record; every hook receives it."""

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
    """The form of the converted graph: q/dq around float operators, or integer operators."""

    QDQ = "qdq"
    REFERENCE = "reference"
    INTEGER = "integer"


class Placement(enum.Enum):
    """Whether an operator that does not benefit alone is quantized, between float and integer neighbours."""

    COST = "cost"
    ALL = "all"


class Toolchain(enum.Enum):
    """Whether quanthost replaces functions of the toolchain for speed; the program is the same."""

    FAST = "fast"
    UPSTREAM = "upstream"


class Objective(enum.Enum):
    """The goal of quantization: accuracy and size, or the time that the program takes."""

    ACCURACY = "accuracy"
    LATENCY = "latency"


class Io(enum.Enum):
    """The type of a program's inputs and outputs: float, or integers with parameters in the record."""

    FLOAT = "float"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"


def _backends(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else checks.as_tuple(value)


def sorted_options(
    value: Mapping[str, Option] | Iterable[tuple[str, Option]],
) -> tuple[tuple[str, Option], ...]:
    """Names and values as sorted pairs; others are unchanged, and the validator refuses them."""
    pairs = checks.as_pairs(value)
    return tuple(sorted(pairs, key=repr)) if isinstance(pairs, tuple) else pairs


def check_option(owner: object, attribute: Any, value: Any) -> None:
    """Validate the value of one option: text, a boolean, or a finite number."""
    checks.kind(str, int, float, bool)(owner, attribute, value)
    if isinstance(value, float) and not math.isfinite(value):
        checks.refuse(
            owner, attribute.name, f"the option {value!r}", needed="a finite number",
            remedy="leave the option out, or give a number", value=value,
        )  # fmt: skip


@attrs.frozen(kw_only=True)
class Request:
    """The backends in order of priority, the recipe, the overrides in order, and the backends' options."""

    backends: tuple[str, ...] = attrs.field(converter=_backends, validator=checks.each(checks.identifier()))
    recipe: str = attrs.field(validator=checks.identifier())
    overrides: tuple[Override, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.kind(Override))
    )
    qat: bool = attrs.field(default=False, validator=checks.kind(bool))
    placement: Placement = attrs.field(default=Placement.COST, validator=checks.kind(Placement))
    # with a table, operators that are faster in float on the measured machine stay float
    costs: CostTable | None = attrs.field(
        default=None, validator=checks.kind(CostTable, optional=True), repr=False
    )
    toolchain: Toolchain = attrs.field(default=Toolchain.FAST, validator=checks.kind(Toolchain))
    # repr, since True, 1 and 1.0 are equal but differ for a backend
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
        """The value of a backend's option, ``default`` if it is not set."""
        return dict(self.options).get(name, default)
