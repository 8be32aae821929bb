"""The changes of a table that the suite is measured by: each is one, in one row, and none is lost."""

from __future__ import annotations

import attrs
import pytest
from mutants import MUTATORS, mutants, refused_as_made

from quanthost.api import FixedQSpec, Kernel, Row, SupportTable, op
from quanthost_xnnpack_like.rows import TABLE

ROW = TABLE.row("prelu")
FIXED = TABLE.row("sigmoid")
SHARING = TABLE.row("cat")


def changes(kind: str, row: Row) -> dict[str, tuple[Row, ...]]:
    return dict(MUTATORS[kind](row))


def test_each_changes_one_row() -> None:
    """All other rows stay as they are; a name stands for one mutant."""
    made = list(mutants(TABLE))
    assert len({mutant.name for mutant in made}) == len(made) > 250
    for mutant in made:
        if refused_as_made(mutant) is None:
            table = mutant.table()
            new = [row for row in table if row not in TABLE.rows]
            assert len(new) == 1, mutant.name
            assert {row.name for row in TABLE} - {row.name for row in table} == set()


def test_every_constraint_once() -> None:
    """As many as the table has."""
    count = sum(len(row.constraints) for row in TABLE)
    assert sum(mutant.kind == "constraint deleted" for mutant in mutants(TABLE)) == count


@pytest.mark.parametrize(
    ("kind", "row", "told"),
    [
        ("axis changed", ROW, ["axis 1"]),
        ("dtype changed", FIXED, ["output in uint8", "output in int16"]),
        ("sharing group changed", SHARING,
         ["nothing shares", "inputs does not share", "output does not share"]),
        ("symmetry changed", ROW, ["weight is affine"]),
        ("fixed range changed", FIXED,
         ["output: twice the scale", "output: half the scale", "output: zero point 0", "output is observed"]),
        ("role changed", ROW, ["weight is an activation"]),
        ("kernel added", TABLE.row("mm"), ["with an integer kernel"]),
        ("operator not kept", ROW, ["not kept whole"]),
        ("row shadowed", ROW, ["a looser row of its pattern before it"]),
    ],
)  # fmt: skip
def test_what_each_kind_changes(kind: str, row: Row, told: list[str]) -> None:
    """The changes of a row that has what the kind is about."""
    assert list(changes(kind, row)) == told


def test_a_dtype_keeps_what_it_can() -> None:
    """A fixed range lies as far from the lowest integer as before."""
    made = changes("dtype changed", FIXED)["output in uint8"][0]
    spec = dict(made.qspecs)["output"]
    assert isinstance(spec, FixedQSpec)
    assert (spec.zero_point, spec.quant_min, spec.quant_max) == (0, 0, 255)


def test_what_does_not_apply() -> None:
    """A row of one operator without weight, constraint or qspec has no change at all."""
    bare = Row(name="bare", pattern=op("relu", self="input"), kernels={Kernel.STATIC})
    assert list(mutants(SupportTable((bare,)))) == []


def test_a_table_that_is_refused() -> None:
    """Two rows that always tie are found as the table is made."""
    mutant = next(m for m in mutants(TABLE) if m.kind == "row shadowed")
    twin = attrs.evolve(mutant, table=lambda: SupportTable((*TABLE, attrs.evolve(ROW, name="twin"))))
    assert "always tie" in str(refused_as_made(twin))
