"""Tables keep every character at every width."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from quanthost.report.columns import byte_size, columns, facts


def _lines(renderable: object, width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [30, 80, 200])
def test_nothing_is_cut_off(width: int) -> None:
    """Long words fold instead of ending in an ellipsis, and no line is wider than the screen."""
    long = "x" * 70
    lines = _lines(columns(["name", "why"], [["relu", f"first {long} last"]]), width)
    assert all(len(line) <= width for line in lines)
    assert "".join(re.findall("x", "".join(lines))) == long
    assert "…" not in "".join(lines)


def test_whole_and_numeric_columns_are_not_wrapped() -> None:
    """Whole columns are not wrapped, at the cost of the others; numbers are aligned right."""
    rows = [["quantized thing", 8 * "word ", "7"], ["b", "c", "123"]]
    head, *lines = _lines(columns(["a", "b", "n"], rows, whole=["a"], numeric=["n"]), 40)
    assert lines[0].startswith("quantized thing ")
    assert lines[0].rindex("7") == lines[-1].rindex("3") == head.rindex("n")


def test_brackets_are_no_markup() -> None:
    """Brackets of shapes are not interpreted as markup."""
    assert "[1, 3] [bold]" in _lines(facts([("input", "[1, 3] [bold]")]), 80)[0]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (4928307, "4.7 MiB"), (5 << 40, "5120.0 GiB")],
)
def test_byte_size(count: int, text: str) -> None:
    """Powers of 1024, bytes exactly."""
    assert byte_size(count) == text
