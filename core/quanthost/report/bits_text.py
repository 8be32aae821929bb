"""A comparison of bits as text: how many integers differ, by how much, and which operator differs first."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from quanthost.debugging.bits import BitComparison, BitDifference
from quanthost.report.columns import columns

__all__ = ["bits_table", "verdict"]


def verdict(comparison: BitComparison) -> str:
    """The result of the comparison, in one or two lines."""
    integers = [each for each in (*comparison.outputs, *comparison.operators) if each.steps]
    count = sum(each.elements for each in integers)
    if comparison.equal:
        return f"All {count:,} integers of {len(integers)} tensors are equal."
    first = comparison.first
    if first is None:
        return (
            "The outputs differ. The other side shows no operator that does: lower it with"
            " intermediates=True, or record the integers of its operators."
        )
    operator = f" ({first.operator})" if first.operator else ""
    return (
        f"The first operator that differs is {first.name}{operator}: {first.differing:,} of"
        f" {first.elements:,} integers, by {first.largest:.0f} at most."
    )


def bits_table(comparison: BitComparison, *, everything: bool = False) -> Table:
    """Outputs, then the operators that differ (or all operators), in execution order."""
    operators = [each for each in comparison.operators if everything or each.differing]
    rows = [*_rows("output", comparison.outputs), *_rows("operator", operators)]
    numbers = ["differing", "equal", "largest"]
    return columns(["", "name", "operator", *numbers], rows, numeric=numbers)


def _rows(kind: str, differences: Iterable[BitDifference]) -> Iterable[list[str]]:
    for each in differences:
        largest = f"{each.largest:.0f} LSB" if each.steps else f"{each.largest:.2g}"
        share = f"{each.equal_share:.4%}"
        operator = each.operator.removeprefix("aten.").removesuffix(".default")
        yield [kind, each.name, operator, f"{each.differing:,} of {each.elements:,}", share, largest]
