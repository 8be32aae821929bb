"""Turns the annotations of an existing quantizer into matches: fused operators, their captures and qspecs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from torch import fx

from quanthost.graph.operators import arguments, operator_name
from quanthost.graph.sharing import DisjointSets, Point
from quanthost.graph.view import GraphView
from quanthost.hooks.annotated_match import AnnotatedMatch
from quanthost.toolchain.annotations import (
    OperatorAnnotation,
    Quantizer,
    qspec_of,
    read_annotations,
    shared_root,
)
from quanthost.values import AnyQSpec, Gain, Kernel, QSpecChoice, Refusal, Role

__all__ = ["find_matches"]

_ROLES = {"weight": Role.WEIGHT, "bias": Role.BIAS}


def find_matches(
    quantizer: Quantizer, graph_module: fx.GraphModule, backend: str, kernel: Kernel
) -> list[AnnotatedMatch]:
    """The matches that the quantizer would quantize, in graph order; the graph is not changed."""
    operators = read_annotations(quantizer, graph_module)
    specs: dict[Point, Any] = {}
    for operator in operators:
        specs.update({Point(source, operator.node): spec for source, spec in operator.inputs.items()})
        specs[Point(operator.node)] = operator.output
    view = GraphView(graph_module)
    return [_match(group, specs, view, backend, kernel) for group in _fuse(operators)]


def _fuse(operators: Sequence[OperatorAnnotation]) -> list[list[OperatorAnnotation]]:
    """Groups of operators with nothing quantized between them, in graph order."""
    by_node = {operator.node: operator for operator in operators}
    sets = DisjointSets(by_node)
    for operator in operators:
        for source in operator.node.all_input_nodes:
            before = by_node.get(source)
            only_reader = len(source.users) == 1
            is_float = before is not None and before.output is None and operator.inputs.get(source) is None
            if only_reader and is_float:
                sets.union(source, operator.node)
    return [[by_node[node] for node in group] for group in sets.groups()]


@attrs.frozen(kw_only=True)
class _Captures:
    """Nodes by capture, and the capture at each point; that of the result is ``"output"``."""

    nodes: dict[str, fx.Node]
    points: dict[Point, str]


def _captures(group: Sequence[OperatorAnnotation]) -> _Captures:
    nodes: dict[str, fx.Node] = {}
    points = {Point(group[-1].node): "output"}
    for each in group:
        for name, source in _operands(each.node):
            if source not in each.inputs:
                continue
            name = name if nodes.get(name, source) is source else f"{name}_{each.node.name}"
            nodes[name] = source
            points[Point(source, each.node)] = name
    return _Captures(nodes=nodes, points=points)


def _operands(node: fx.Node) -> Iterable[tuple[str, fx.Node]]:
    """Tensor operands by schema name; those of a list as ``tensors.0``, ``tensors.1``, …."""
    for name, value in arguments(node).items():
        if isinstance(value, fx.Node):
            yield name, value
        elif isinstance(value, (list, tuple)):
            yield from ((f"{name}.{i}", each) for i, each in enumerate(value) if isinstance(each, fx.Node))


def _match(
    group: Sequence[OperatorAnnotation],
    specs: Mapping[Point, Any],
    view: GraphView,
    backend: str,
    kernel: Kernel,
) -> AnnotatedMatch:
    captures = _captures(group)
    qspecs: dict[str, AnyQSpec] = {}
    shares: set[str] = set()
    problems: list[str] = []
    for point, name in captures.points.items():
        if specs.get(point) is None:
            continue
        spec, path = shared_root(specs[point], specs)
        partners = [_partner(each, captures) for each in path]
        value = qspec_of(spec, captures.points.get)
        if isinstance(value, str):
            problems.append(f"{name} has {value}, which no qspec can express")
            continue
        qspecs[name] = value
        if path and partners[0] is None:
            problems.append(f"{name} shares its parameters with a tensor of another operator")
        elif path:
            shares |= {each.partition(".")[0] for each in (name, *partners) if each is not None}
    return AnnotatedMatch(
        backend=backend, row=_row_name(group[0].node), kernel=kernel,
        nodes=[each.node.name for each in group],
        captures={name: node.name for name, node in captures.nodes.items()},
        roles={n: _ROLES[n] for n, node in captures.nodes.items() if n in _ROLES and view.is_constant(node)},
        shares=sorted(shares), gain=Gain.DRIVES,
        choice=Refusal(reason=problems[0]) if problems else QSpecChoice(qspecs=qspecs),
    )  # fmt: skip


def _partner(point: Point, captures: _Captures) -> str | None:
    """The capture at a point of the match; for a result of another operator, the capture that reads it."""
    if point in captures.points or point.consumer is not None:
        return captures.points.get(point)
    return next((name for name, node in captures.nodes.items() if node is point.producer), None)


def _row_name(node: fx.Node) -> str:
    """``"conv2d"`` of ``aten.conv2d.default``."""
    parts = operator_name(node).split(".")
    return parts[min(1, len(parts) - 1)].strip("_").lower()
