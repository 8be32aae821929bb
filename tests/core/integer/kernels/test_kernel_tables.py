"""Functions as tables and as straight lines between points."""

from __future__ import annotations

import itertools

import torch
from kernel_kit import WIDE, draw

from quanthost.integer.kernels.forms import Form, set_form
from quanthost.integer.kernels.tables import Interpolation, Lookup, function_operator, function_table
from quanthost.integer.numbers import Numbers
from quanthost.values import FP32_HALF_EVEN

NARROW = Numbers(scale=0.5, zero_point=-3, low=-128, high=127, dtype=torch.int8)


def test_lookup() -> None:
    """One table, or one for each index of dimension 1."""
    x = draw(2, 3, 4)
    tables = torch.arange(3 * 256).reshape(3, 256).remainder(251).to(torch.int16)
    for form in (Form.EAGER, Form.PORTABLE):
        one, many = Lookup(tables[1], low=-128, function="f"), Lookup(tables, low=-128, function="f")
        set_form(one, form)
        set_form(many, form)

        assert one(x).reshape(-1).tolist() == [int(tables[1, v + 128]) for v in x.reshape(-1).tolist()]
        assert all(
            int(many(x)[n, c, i]) == int(tables[c, int(x[n, c, i]) + 128])
            for n, c, i in itertools.product(range(2), range(3), range(4))
        )


def test_interpolation_is_straight_between_points() -> None:
    """A linear function is exact up to the last number, and rounded half up."""
    ends = torch.arange(-32768, 32769, 128)
    operator = Interpolation(ends * 2**6, WIDE, low=-32768, function="quarter")
    x = torch.arange(-32768, 32768).to(torch.int16)

    assert torch.equal(operator(x).long(), torch.floor(x.double() / 4 + 0.5).long())


def test_a_table_has_each_level() -> None:
    """What a function makes of each number, in the numbers of the result."""
    table = function_table(torch.relu, NARROW, NARROW, FP32_HALF_EVEN)

    assert table.dtype is torch.int8
    assert torch.equal(table.long(), NARROW.levels.clamp(min=-3))


def test_wide_integers_are_interpolated() -> None:
    """A table of 8 bits has an entry for each integer; one of 16 bits would have 65,536."""
    narrow = function_operator(torch.sigmoid, NARROW, NARROW, FP32_HALF_EVEN, "sigmoid")
    wide = function_operator(torch.sigmoid, WIDE, WIDE, FP32_HALF_EVEN, "sigmoid")

    assert isinstance(narrow, Lookup)
    assert isinstance(wide, Interpolation)
    assert 0 <= wide.error <= 1
