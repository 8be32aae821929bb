"""Text in columns: tables without frames, for terminals and pipes of any width."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.table import Table
from rich.text import Text

__all__ = ["Cell", "byte_size", "columns", "facts"]

Cell = str | Text
_UNITS = ("B", "KiB", "MiB", "GiB")


def columns(
    headers: Sequence[str],
    rows: Iterable[Iterable[Cell]],
    *,
    numeric: Collection[str] = (),
    whole: Collection[str] = (),
) -> Table:
    """A table with headers; ``numeric`` columns are aligned right, ``whole`` columns are never wrapped."""
    table = _frameless(show_header=True)
    for header in headers:
        table.add_column(
            header,
            justify="right" if header in numeric else "left",
            no_wrap=header in numeric or header in whole,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(_as_text(cell) for cell in row))
    return table


def facts(pairs: Iterable[tuple[str, Cell]]) -> Table:
    """Labels with their values, one per line."""
    table = _frameless(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in pairs:
        table.add_row(label, _as_text(value))
    return table


def byte_size(count: int) -> str:
    """``"4.7 MiB"``, or ``"12 B"`` below 1 KiB."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _frameless(*, show_header: bool) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=show_header)


def _as_text(cell: Cell) -> Text:
    """Brackets in strings are text, not markup: shapes and messages have them."""
    return cell if isinstance(cell, Text) else Text(cell)
