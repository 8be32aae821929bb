"""What is selected of a backend: rows, operators, and which samples share a program."""

from __future__ import annotations

from invented_plans import select
from toy_backends import ROWS

from quanthost.api import Kernel, Row, op
from quanthost.testing.proving.selection import group_alike


def test_selected_rows() -> None:
    """Rows that the patterns name, of a kernel; own ones are those of this process."""
    selection = select(includes=lambda name: name != "relu", owns=lambda name: name == "linear")

    assert [row.name for row in selection.rows()] == ["linear", "permute", "max_pool2d"]
    assert [row.name for row in selection.own_rows(Kernel.STATIC)] == ["linear"]
    assert selection.rows(Kernel.FLOAT) == []
    assert selection.samples(ROWS[0])
    assert selection.samples(ROWS[1]) == ()


def test_kinds_of_rows() -> None:
    """Rows that differ in name and operator alone are of one kind."""
    selection = select()

    assert selection.first_alike("max_pool2d") == "permute"
    assert selection.first_alike("relu") == "relu"
    assert selection.is_small


def test_fused_rows() -> None:
    """A row with an operator behind another row's pattern."""
    linear = ROWS[0]
    fused = Row(name="linear_relu", pattern=op("relu", self=linear.pattern), kernels={Kernel.STATIC})
    selection = select((*ROWS, fused))

    assert [row.name for row in selection.rows() if selection.is_fused(row)] == ["linear_relu"]


def test_samples_of_one_program() -> None:
    """Plain samples of the own rows stay together; dynamic and empty ones are apart."""
    selection = select()
    plain = [s for row in ROWS for s in selection.samples(row) if s.variation == "plain"]
    (dynamic,) = (s for s in selection.samples(ROWS[1]) if s.variation == "dynamic_batch")

    assert all(selection.planned_with(sample) == plain for sample in plain)
    assert dynamic in selection.planned_with(dynamic)
    assert all(s.is_dynamic for s in selection.planned_with(dynamic))
    assert [len(group) for group in group_alike([*plain, dynamic, plain[0]])] == [len(plain), 1]


def test_operators() -> None:
    """With a table: operators that no row has."""
    selection = select(includes=lambda name: name in ("tanh.default", "relu.default"))

    assert selection.operators == ()
    assert [s.name for s in selection.undeclared[Kernel.STATIC]] == ["tanh.default/plain"]
