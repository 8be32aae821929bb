"""Draws a traced graph as an SVG picture, with boxes coloured and labelled by the decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree as Xml

from quanthost.report.decision_table import short_operator
from quanthost.report.picture_layout import Layout, lay_out
from quanthost.values.traced_graph import Mark, TracedGraph, TracedNode

__all__ = ["picture"]

_WIDTH, _HEIGHT, _ROW, _STEP, _MARGIN, _TOP = 232, 44, 84, 252, 24, 104
_CHARACTERS = 31
# fill and border; dark text has a contrast above 7 to 1 on each fill, and each box also names its mark
_COLOURS = {
    Mark.INPUT: ("#ffffff", "#4a4a4a"),
    Mark.OUTPUT: ("#ffffff", "#4a4a4a"),
    Mark.QUANTIZED: ("#bfe5c8", "#1b6b33"),
    Mark.FLOAT: ("#fde2a7", "#8a5a00"),
    Mark.OUTSIDE: ("#fde2a7", "#8a5a00"),
    Mark.FOLDED: ("#e3e3e3", "#6b6b6b"),
    Mark.CONVERSION: ("#cfe3fa", "#1f5a9a"),
    Mark.OBSERVER: ("#cfe3fa", "#1f5a9a"),
    Mark.DELEGATED: ("#e0d1f5", "#5b2d91"),
    Mark.DELEGATE: ("#e0d1f5", "#5b2d91"),
}
_NAMELESS = ("placeholder", "call_module", "output")
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1a1a1a }
.name { font-weight: 600 }
.head { font-size: 16px; font-weight: 600 }
.edge { fill: none; stroke: #6b6b6b; stroke-width: 1.2 }
rect { stroke-width: 1.4 }
"""


def picture(graph: TracedGraph, title: str) -> str:
    """The SVG document, without constants; each box has its full text as a title, shown on hovering."""
    nodes = [node for node in graph.nodes if node.mark is not Mark.CONSTANT]
    names = {node.name for node in nodes}
    layout = lay_out({node.name: [read for read in node.inputs if read in names] for node in nodes})
    width = max(round(_MARGIN * 2 + _WIDTH + (layout.width - 1) * _STEP), 720)
    height = round(_TOP + layout.layers * _ROW)
    root = Xml.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", width=str(width), height=str(height),
        viewBox=f"0 0 {width} {height}", role="img",
    )  # fmt: skip
    root.set("aria-labelledby", "title desc")
    counts = Counter(node.mark for node in nodes)
    totals = ", ".join(f"{counts[mark]} {mark.value}" for mark in Mark if counts[mark])
    _text(root, "title", f"{title}, {graph.stage}", id="title")
    _text(root, "desc", f"A graph of {len(nodes)} nodes from top to bottom: {totals}.", id="desc")
    _text(root, "style", _STYLE)
    _add(root, "rect", x=0, y=0, width=width, height=height, fill="#ffffff", stroke="none")
    _text(root, "text", f"{title}: {graph.stage}", x=str(_MARGIN), y="34", **{"class": "head"})
    _legend(root, counts)
    for route in layout.routes.values():
        _edge(root, route)
    for node in nodes:
        _box(root, node, layout)
    Xml.indent(root, " ")
    return Xml.tostring(root, encoding="unicode") + "\n"


def _add(parent: Xml.Element, tag: str, **attributes: object) -> Xml.Element:
    return Xml.SubElement(parent, tag, {key.replace("_", "-"): str(v) for key, v in attributes.items()})


def _text(parent: Xml.Element, tag: str, text: str, **attributes: str) -> None:
    Xml.SubElement(parent, tag, attributes).text = text


def _legend(root: Xml.Element, counts: Counter[Mark]) -> None:
    x = _MARGIN
    for mark in (mark for mark in Mark if counts[mark]):
        fill, border = _COLOURS[mark]
        label = f"{counts[mark]} {mark.value}"
        _add(root, "rect", x=x, y=54, width=14, height=14, rx=3, fill=fill, stroke=border)
        _text(root, "text", label, x=str(x + 20), y="66")
        x += 36 + 8 * len(label)


def _point(x: float, layer: int) -> tuple[float, float]:
    """The middle of the upper side of a box."""
    return round(_MARGIN + _WIDTH / 2 + x * _STEP, 1), float(_TOP + layer * _ROW)


def _edge(root: Xml.Element, route: Sequence[tuple[float, int]]) -> None:
    """Draw an edge from the lower side of a box to the upper side of another, vertical in layers between."""
    start, *between = (_point(x, layer) for x, layer in route)
    x, y = start[0], start[1] + _HEIGHT
    path = [f"M{x:g} {y:g}"]
    for i, (to_x, to_y) in enumerate(between):
        middle = (y + to_y) / 2
        path.append(f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}")
        x, y = to_x, to_y
        if i < len(between) - 1:
            y += _HEIGHT
            path.append(f"V{y:g}")
    _add(root, "path", d=" ".join(path), **{"class": "edge"})


def _box(root: Xml.Element, node: TracedNode, layout: Layout) -> None:
    middle, top = _point(layout.x[node.name], layout.layer[node.name])
    fill, border = _COLOURS[node.mark]
    box = _add(root, "g")
    facts = (node.line, node.tensor, _mark_text(node), node.reason)
    _text(box, "title", "\n".join(fact for fact in facts if fact))
    left = middle - _WIDTH / 2
    _add(box, "rect", x=left, y=top, width=_WIDTH, height=_HEIGHT, rx=6, fill=fill, stroke=border)
    at = {"x": f"{middle:g}", "text-anchor": "middle"}
    _text(box, "text", _short(node.name), y=f"{top + 18:g}", **at, **{"class": "name"})
    operator = "" if node.operator in _NAMELESS else short_operator(node.operator)
    operator = operator.removeprefix("quantized_decomposed.")
    # the names of these nodes already contain the operator
    if node.mark in (Mark.DELEGATE, Mark.CONVERSION):
        operator = ""
    second = " · ".join(part for part in (_mark_text(node), operator) if part)
    _text(box, "text", _short(second), y=f"{top + 35:g}", **at)


def _mark_text(node: TracedNode) -> str:
    if node.mark is Mark.DELEGATE:
        return node.reason
    return node.partition or node.mark.value


def _short(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"
