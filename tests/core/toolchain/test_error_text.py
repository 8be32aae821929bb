"""Messages of the toolchain, without what only its authors can read."""

from __future__ import annotations

from quanthost.toolchain.error_text import chain_text, first_paragraph, on_one_line


def test_dumps_are_left_out() -> None:
    """What follows the first paragraph, or begins to print a graph."""
    assert first_paragraph(ValueError("a  size\nis wrong\n\nlong advice")) == "a size is wrong"
    assert first_paragraph(ValueError("no while_loop\nHere is the node\ngraph():\n %x")) == "no while_loop"
    assert first_paragraph(AssertionError()) == "AssertionError"


def test_long_texts_are_shortened() -> None:
    """To 300 characters, said so."""
    assert on_one_line("x" * 301) == "x" * 300 + " …"


def test_the_first_error_is_told_too() -> None:
    """It is the closest to the graph; the same text is not repeated."""
    outer = RuntimeError("a pass failed")
    outer.__cause__ = ValueError("conv wants NCHW")
    assert chain_text(outer) == "a pass failed; conv wants NCHW"
    assert chain_text(ValueError("once")) == "once"
