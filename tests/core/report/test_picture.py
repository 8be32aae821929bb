"""Pictures of traced graphs: well-formed, accessible and correct."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from quanthost.errors import ProgramError
from quanthost.report import picture as module
from quanthost.report.picture import picture
from quanthost.report.trace_text import graph_text, save_trace
from quanthost.values.traced_graph import Mark, Trace, TracedGraph, TracedNode

SVG = "{http://www.w3.org/2000/svg}"
GRAPH = TracedGraph(
    stage="captured",
    nodes=[
        TracedNode(name="w", operator="get_attr", mark=Mark.CONSTANT, line="w = get_attr w()"),
        TracedNode(name="x", operator="placeholder", mark=Mark.INPUT, line="x = placeholder x()"),
        TracedNode(
            name="conv2d", operator="aten.conv2d.default", mark=Mark.QUANTIZED, inputs=["x", "w"],
            line="conv2d = aten.conv2d.default(%x, %w)", tensor="float32[1, 4]", reason="row conv <&> more",
        ),
        TracedNode(
            name="a_very_long_name_of_a_node_that_no_box_holds", operator="aten.sin.default",
            mark=Mark.DELEGATED, inputs=["conv2d"], line="…", partition="b_0",
        ),
        TracedNode(name="output", operator="output", mark=Mark.OUTPUT, line="output", inputs=["conv2d"]),
    ],
)  # fmt: skip
TRACE = Trace(model="m.Net", backends=["b"], recipe="r", graphs=[GRAPH])


def parsed(graph: TracedGraph = GRAPH) -> Xml.Element:
    return Xml.fromstring(picture(graph, "m.Net for b (r)"))


def boxes(root: Xml.Element) -> dict[str, Xml.Element]:
    """The boxes by the first line in them."""
    return {str(group[2].text): group for group in root.findall(f"{SVG}g")}


def test_each_node_but_constants_is_a_box_with_its_whole_text() -> None:
    """Long names are cut in the box and complete in its title; reserved characters are escaped."""
    shown = boxes(parsed())
    assert list(shown) == ["x", "conv2d", "a_very_long_name_of_a_node_tha…", "output"]
    title = shown["conv2d"][0]
    assert title.tag == f"{SVG}title"
    assert title.text == ("conv2d = aten.conv2d.default(%x, %w)\nfloat32[1, 4]\nquantized\nrow conv <&> more")
    assert shown["conv2d"][3].text == "quantized · conv2d"
    assert shown["a_very_long_name_of_a_node_tha…"][3].text == "b_0 · sin"


def test_it_can_be_read_without_colours() -> None:
    """The document has a title and a description, the legend counts each mark in words."""
    root = parsed()
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "title desc"
    ids = {element.get("id"): element.text for element in root if element.get("id")}
    assert ids["title"] == "m.Net for b (r), captured"
    assert ids["desc"] == (
        "A graph of 4 nodes from top to bottom: 1 input, 1 quantized, 1 delegated, 1 output."
    )
    labels = [text.text for text in root.findall(f"{SVG}text")]
    assert labels == ["m.Net for b (r): captured", "1 input", "1 quantized", "1 delegated", "1 output"]


def test_edges_join_what_is_read() -> None:
    """One path for each drawn input, from the lower side of one box to the upper side of the other."""
    root = parsed()
    ends = set()
    for path in root.findall(f"{SVG}path"):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", str(path.get("d")))]
        ends.add((*numbers[:2], *numbers[-2:]))
    at = {}
    for name, group in boxes(root).items():
        x, y, width = (float(str(group[1].get(key))) for key in ("x", "y", "width"))
        at[name] = (x + width / 2, y)
    height = 44
    long = "a_very_long_name_of_a_node_tha…"
    wanted = [("x", "conv2d"), ("conv2d", long), ("conv2d", "output")]
    assert ends == {(at[a][0], at[a][1] + height, *at[b]) for a, b in wanted}


def _luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mark", [mark for mark in Mark if mark is not Mark.CONSTANT], ids=lambda m: m.value)
def test_text_and_borders_have_contrast(mark: Mark) -> None:
    """Text has a contrast of 7 to 1 (WCAG AAA), borders of 3 to 1."""
    fill, border = module._COLOURS[mark]
    assert _contrast("#1a1a1a", fill) >= 7
    assert _contrast(border, "#ffffff") >= 3


def test_text_has_the_stable_line_and_what_it_is() -> None:
    """Constants too; partitions by name."""
    assert graph_text(GRAPH).splitlines()[:4] == [
        "stage captured", "w = get_attr w()  # constant", "x = placeholder x()  # input",
        "conv2d = aten.conv2d.default(%x, %w)  # quantized, float32[1, 4], row conv <&> more",
    ]  # fmt: skip
    assert graph_text(GRAPH).splitlines()[4].endswith("# delegated in b_0")


def test_files_of_a_trace(tmp_path: Path) -> None:
    """Each stage has a numbered text and picture; the folder is created."""
    written = save_trace(TRACE, tmp_path / "new" / "deep")
    assert [path.name for path in written] == ["1-captured.txt", "1-captured.svg"]
    assert written[0].read_text() == graph_text(GRAPH)
    (tmp_path / "file").write_text("")
    with pytest.raises(ProgramError, match="file"):
        save_trace(TRACE, tmp_path / "file")
