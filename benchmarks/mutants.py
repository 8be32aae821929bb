"""Changes of a support table, one at a time: what an author may get wrong in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from quanthost.api import (
    AnyQSpec,
    DType,
    FixedQSpec,
    Granularity,
    Kernel,
    QSpec,
    Role,
    Row,
    SupportTable,
    Symmetry,
)
from quanthost.errors import QuanthostError

__all__ = ["MUTATORS", "Mutant", "mutants"]


@attrs.frozen(kw_only=True)
class Mutant:
    """A table with one change in one row; ``table`` raises where the change is refused as it is made."""

    kind: str
    row: str
    change: str
    table: Callable[[], SupportTable] = attrs.field(eq=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.row}: {self.change}"


# what a mutator gives: a sentence, and the row (or rows) in place of the one it was given
_Changes = Iterator[tuple[str, tuple[Row, ...]]]


def without_constraint(row: Row) -> _Changes:
    """Each constraint left out."""
    for place, rule in enumerate(row.constraints):
        left = (*row.constraints[:place], *row.constraints[place + 1 :])
        yield f"without “{rule.text}”", (attrs.evolve(row, constraints=left),)


def other_axis(row: Row) -> _Changes:
    """Output channels of the weight along the other axis."""
    if _captures(row, Role.WEIGHT):
        yield f"axis {1 - row.weight_axis}", (attrs.evolve(row, weight_axis=1 - row.weight_axis),)


def other_dtype(row: Row) -> _Changes:
    """A qspec of the row with other integers."""
    for capture, spec in row.qspecs:
        for dtype in (DType.UINT8, DType.INT16):
            made = _in_dtype(spec, dtype)
            if made is not None:
                yield f"{capture} in {dtype.value}", (_with_spec(row, capture, made),)


def other_sharing(row: Row) -> _Changes:
    """Nothing shares; or one of those that share is left out."""
    if row.shares:
        yield "nothing shares", (attrs.evolve(row, shares=()),)
    for name in row.shares:
        left = tuple(each for each in row.shares if each != name)
        yield f"{name} does not share", (attrs.evolve(row, shares=left),)


def other_symmetry(row: Row) -> _Changes:
    """A symmetric qspec of the row with a free zero point."""
    for capture, spec in row.qspecs:
        if isinstance(spec, QSpec) and spec.symmetry is Symmetry.SYMMETRIC:
            made = attrs.evolve(spec, symmetry=Symmetry.AFFINE, quant_min=spec.dtype.minimum)
            yield f"{capture} is affine", (_with_spec(row, capture, made),)


def other_granularity(row: Row) -> _Changes:
    """A scale for each channel, where the row has one for the tensor."""
    for capture, spec in row.qspecs:
        if isinstance(spec, QSpec) and spec.granularity is Granularity.PER_TENSOR:
            made = attrs.evolve(spec, granularity=Granularity.PER_CHANNEL, axis=row.weight_axis)
            yield f"{capture} has a scale for each channel", (_with_spec(row, capture, made),)
    if dict(row.qspecs).get("weight") is not None:
        left = tuple((name, spec) for name, spec in row.qspecs if name != "weight")
        yield "the weight has the recipe's qspec", (attrs.evolve(row, qspecs=left),)


def other_fixed_range(row: Row) -> _Changes:
    """A fixed range twice as large, half as large, or moved."""
    for capture, spec in row.qspecs:
        if not isinstance(spec, FixedQSpec):
            continue
        middle = (spec.quant_min + spec.quant_max + 1) // 2
        point = spec.quant_min if spec.zero_point == middle else middle
        for text, made in (
            ("twice the scale", attrs.evolve(spec, scale=spec.scale * 2)),
            ("half the scale", attrs.evolve(spec, scale=spec.scale / 2)),
            (f"zero point {point}", attrs.evolve(spec, zero_point=point)),
        ):
            yield f"{capture}: {text}", (_with_spec(row, capture, made),)
        left = tuple((name, each) for name, each in row.qspecs if name != capture)
        yield f"{capture} is observed", (attrs.evolve(row, qspecs=left),)


def other_role(row: Row) -> _Changes:
    """A weight or bias that counts as an activation."""
    for capture in (*_captures(row, Role.WEIGHT), *_captures(row, Role.BIAS)):
        left = {name: role for name, role in row.roles if name != capture}
        kept = tuple((name, spec) for name, spec in row.qspecs if name != capture)
        yield f"{capture} is an activation", (attrs.evolve(row, roles=left, qspecs=kept),)


def another_kernel(row: Row) -> _Changes:
    """An integer kernel for what the target has in float alone."""
    if row.kernels == {Kernel.FLOAT} and row.delegated and not row.converts:
        yield "with an integer kernel", (attrs.evolve(row, kernels={Kernel.FLOAT, Kernel.STATIC}),)


def not_kept(row: Row) -> _Changes:
    """An operator that is not kept whole for the delegate."""
    if row.keeps:
        yield "not kept whole", (attrs.evolve(row, keeps=()),)


def shadowed(row: Row) -> _Changes:
    """A second row of one pattern, with fewer constraints, that holds wherever the first one does."""
    if len(row.constraints) > 1 and not row.converts:
        loose = attrs.evolve(row, name=f"{row.name}_loose", constraints=row.constraints[:-1])
        yield "a looser row of its pattern before it", (loose, row)


MUTATORS: dict[str, Callable[[Row], _Changes]] = {
    "constraint deleted": without_constraint,
    "axis changed": other_axis,
    "dtype changed": other_dtype,
    "sharing group changed": other_sharing,
    "symmetry changed": other_symmetry,
    "granularity changed": other_granularity,
    "fixed range changed": other_fixed_range,
    "role changed": other_role,
    "kernel added": another_kernel,
    "operator not kept": not_kept,
    "row shadowed": shadowed,
}


def mutants(table: SupportTable) -> Iterator[Mutant]:
    """Each change of each row, by kind."""
    for kind, mutator in MUTATORS.items():
        for row in table:
            for change, rows in mutator(row):
                yield Mutant(kind=kind, row=row.name, change=change, table=_made(table, row, rows))


def refused_as_made(mutant: Mutant) -> str | None:
    """The error with which the table is refused as it is loaded, ``None`` where it is made."""
    try:
        mutant.table()
    except QuanthostError as error:
        return f"{type(error).__name__}: {error}"
    return None


def _made(table: SupportTable, old: Row, rows: tuple[Row, ...]) -> Callable[[], SupportTable]:
    def make() -> SupportTable:
        return SupportTable(each for row in table for each in (rows if row is old else (row,)))

    return make


def _captures(row: Row, role: Role) -> tuple[str, ...]:
    return tuple(name for name, each in row.roles if each is role)


def _with_spec(row: Row, capture: str, spec: AnyQSpec) -> Row:
    return attrs.evolve(row, qspecs={**dict(row.qspecs), capture: spec})


def _in_dtype(spec: AnyQSpec, dtype: DType) -> Any:
    """The same with the whole range of other integers; the zero point as far from the lowest one."""
    if isinstance(spec, FixedQSpec):
        point = dtype.minimum + (spec.zero_point - spec.quant_min)
        return attrs.evolve(
            spec, dtype=dtype, zero_point=point, quant_min=dtype.minimum, quant_max=dtype.maximum
        )
    if isinstance(spec, QSpec):
        return attrs.evolve(spec, dtype=dtype, quant_min=dtype.minimum, quant_max=dtype.maximum)
    return None
