"""A match that is quantized: its nodes, its qspecs, and the points at which its tensors are quantized."""

from __future__ import annotations

import attrs
from torch import fx

from quanthost.graph.sharing import Point
from quanthost.graph.view import GraphView
from quanthost.stages.preparing.latency import sizes_of
from quanthost.values import AnyQSpec, DType, FixedQSpec, Match, QSpec, Role, Sizes

__all__ = ["PlannedMatch"]


@attrs.frozen(kw_only=True, eq=False)
class PlannedMatch:
    """A match that is quantized: its nodes in the graph, its qspecs and the recipe they come from."""

    match: Match
    recipe: str
    nodes: tuple[fx.Node, ...]
    captures: dict[str, fx.Node]
    qspecs: dict[str, AnyQSpec]

    @property
    def dtype(self) -> DType:
        """The dtype of the result's integers, or of another tensor's if the result stays float."""
        specs = (self.qspecs.get("output"), *self.qspecs.values())
        dtypes = (spec.dtype for spec in specs if isinstance(spec, (QSpec, FixedQSpec)))
        return next(dtypes, DType.INT8)

    @property
    def sizes(self) -> Sizes | None:
        """The sizes by which its time is looked up; ``None`` if a shape is unknown."""
        by_role: dict[Role, list[fx.Node]] = {}
        for name, node in self.captures.items():
            by_role.setdefault(self.match.role(name), []).append(node)
        weight = next(iter(by_role.get(Role.WEIGHT, ())), None)
        inputs = [*by_role.get(Role.ACTIVATION, ()), *by_role.get(Role.PASSTHROUGH, ())]
        return sizes_of(self.nodes, inputs, weight, self.nodes[-1])

    def varying_inputs(self, view: GraphView) -> tuple[fx.Node, ...]:
        """The quantized activations that are no constants, each once."""
        nodes = (
            node
            for name, node in self.captures.items()
            if name in self.qspecs and self.match.role(name) is Role.ACTIVATION
        )
        return tuple(dict.fromkeys(node for node in nodes if not view.is_constant(node)))

    def points(self, capture: str) -> list[Point]:
        """The points where a capture enters the match's operators; for ``"output"``, the result's point."""
        if capture == "output":
            return [Point(self.nodes[-1])]
        producers = [node for name, node in self.captures.items() if capture in (name, name.split(".")[0])]
        return [
            Point(producer, node)
            for producer in producers
            for node in self.nodes
            if producer in node.all_input_nodes
        ]

    def shared_points(self) -> tuple[Point, ...]:
        """The points that must have one set of parameters; none where one of them stays float."""
        names = [name for name in self.match.shares if name == "output" or self.points(name)]
        quantized = {name.split(".")[0] for name in self.qspecs}
        if not set(names) <= quantized:
            return ()
        return tuple(point for name in names for point in self.points(name))
