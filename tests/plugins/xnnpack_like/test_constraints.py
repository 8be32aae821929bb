"""Each constraint from both sides: it just accepts what the delegate runs, and refuses with a reason."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest
import torch
from builders import Apply
from edges import EDGES, Edge, Side
from executorch.exir import to_edge_transform_and_lower
from judging import KERNELS, MOST_RELATIVE, MOST_RELATIVE_DYNAMIC, MOST_STEPS, RECIPES, judge, lowered
from kit import Branches, Case, Output, Proof

import quanthost
from quanthost.api import Kernel
from quanthost.graph.matcher import Matches
from quanthost.graph.rewrite import origin
from quanthost.hooks import backend as annotation
from quanthost.hooks import claims
from quanthost.values import Cause, Decision, Verdict
from quanthost_xnnpack_like.constraints import product_fits, same_layout
from quanthost_xnnpack_like.layout import float_around
from quanthost_xnnpack_like.rows import TABLE

pytestmark = pytest.mark.slow

ACCEPTED = [recipe for recipe in RECIPES if any(edge.accepted.recipe == recipe for edge in EDGES)]


@attrs.frozen
class Refused:
    """A row that did not hold at a node of the captured graph, and why."""

    node: str | None
    row: str
    reason: str


def test_each_constraint_has_an_edge() -> None:
    """A constraint that nobody tries on both sides is not proved."""
    constraints = {constraint.text for row in TABLE for constraint in row.constraints}

    tried_below = {same_layout.text, float_around.text, product_fits.text}
    assert {edge.constraint.text for edge in EDGES} == constraints - tried_below


@pytest.mark.parametrize("edge", EDGES, ids=str)
def test_an_edge_is_of_its_row(edge: Edge) -> None:
    """The table has the constraint there, for the kernel of that recipe."""
    row = TABLE.row(edge.row)
    constraint = next(held for held in row.constraints if held.text == edge.constraint.text)

    assert constraint.applies_to(KERNELS[edge.refused.recipe])
    assert KERNELS[edge.refused.recipe] in row.kernels


@pytest.mark.parametrize("recipe", ACCEPTED)
def test_accepted(recipe: str) -> None:
    """Decided by the row, taken and compiled by the delegate, and right."""
    edges = [edge for edge in EDGES if edge.accepted.recipe == recipe]
    cases = [_case(edge, edge.accepted) for edge in edges]

    proof, calls = _lowered(recipe, [edge.accepted for edge in edges])

    assert judge(proof, cases, KERNELS[recipe], calls) == []


@pytest.mark.parametrize("edge", EDGES, ids=str)
def test_refused(edge: Edge) -> None:
    """The row does not hold and says why; another one takes the node, or its decision tells the reason."""
    edges = [other for other in EDGES if other.refused.recipe == edge.refused.recipe]
    proof, misses = _refused(edge.refused.recipe)
    decisions = {d.node: d for d in proof.of_case(edges.index(edge))}
    nodes = {m.node for m in misses if m.row == edge.row and edge.reason in m.reason} & decisions.keys()

    assert nodes
    assert all(_left(decisions[node], edge, KERNELS[edge.refused.recipe]) for node in nodes if node)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_same_layout(layout: torch.memory_format) -> None:
    """Capture drops every copy; the partitioner meets those of a graph that another flow made."""
    # hardswish is kept from decomposition, which makes the partitioner look at the graph as it was exported
    model = Apply(lambda x: torch.nn.functional.hardswish(torch.neg(x).clone(memory_format=layout)))
    exported = torch.export.export(model.eval(), (torch.randn(2, 4, 6, 6),))

    with _listen() as misses:
        edge = to_edge_transform_and_lower(
            exported, partitioner=quanthost.as_partitioners("xnnpack_like", "fp32")
        )

    refused = any(miss.row == "clone" and "it changes the dimension order" in miss.reason for miss in misses)
    assert refused == (layout is torch.channels_last)
    assert not refused or "_clone_dim_order" in edge.exported_program().graph_module.code


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_float_around(first: bool, stays: bool) -> None:
    """A 1-d convolution that stays float beside what is quantized is left to the runtime's kernels."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv1d(4, 4, 3, padding=1), torch.nn.Sigmoid()]
    model = torch.nn.Sequential(*(layers if first else layers[::-1])).eval()
    batch = torch.randn(2, 4, 9)
    prepared = quanthost.prepare(
        quanthost.capture(model, (batch,)), "xnnpack_like", "int8_static", placement="all",
        overrides=[quanthost.Override(operator="aten.conv1d", keep_float=True)] if stays else (),
    )  # fmt: skip
    converted = quanthost.convert(quanthost.calibrate(prepared, [batch]))

    with _listen() as misses:
        program = quanthost.lower(converted)

    decision = next(d for d in program.decisions if d.operator == "aten.conv1d.default")
    reasons = [miss.reason for miss in misses if miss.row == "conv" and "its weight is not" in miss.reason]
    assert (decision.verdict is Verdict.FLOAT, decision.delegated) == (stays, not stays)
    assert bool(reasons) == stays
    assert float((program.run(batch) - converted.module(batch)).abs().max()) <= 0.02


@pytest.mark.parametrize("reach", [20.0, 4000.0])
def test_product_fits(reach: float) -> None:
    """Large factors before narrow bounds: beyond the kernel's ratio of scales they stay float."""
    model = Apply(lambda a, b: torch.nn.functional.relu6(a * b)).eval()
    batch = (reach * _ramp(), reach * _ramp().flip(0))
    captured = quanthost.capture(model, batch)
    prepared = quanthost.prepare(captured, "xnnpack_like", "int8_static", placement="all")
    converted = quanthost.convert(quanthost.calibrate(prepared, [batch]))

    with _listen() as misses:
        program = quanthost.lower(converted)

    refused = any("the product's scale is" in miss.reason for miss in misses)
    assert refused == (reach > 1000)
    assert all(decision.verdict is Verdict.QUANTIZED for decision in program.decisions)
    assert float((program.run(*batch) - converted.module(*batch)).abs().max()) <= 6 / 255 * MOST_STEPS


@pytest.mark.parametrize("bounds", [torch.relu, torch.nn.functional.relu6], ids=["relu", "hardtanh"])
def test_bounds_behind_a_max_pool(bounds: Any) -> None:
    """Read by them alone, the pool and its bounds become one operator of the runtime."""
    model = Apply(lambda x: bounds(torch.nn.functional.max_pool2d(x, 2))).eval()
    batch = 3 * _ramp().reshape(1, 1, 6, 10)
    prepared = quanthost.prepare(
        quanthost.capture(model, (batch,)), "xnnpack_like", "int8_static", placement="all"
    )
    converted = quanthost.convert(quanthost.calibrate(prepared, [batch]))

    program = quanthost.lower(converted)

    assert all(decision.placement == "taken by the delegate" for decision in program.decisions)
    assert torch.equal(program.run(batch), converted.module(batch))


def _ramp() -> torch.Tensor:
    return torch.linspace(-1.0, 1.5, 60).reshape(3, 20)


@pytest.mark.parametrize("recipe", sorted({edge.refused.recipe for edge in EDGES}))
def test_refused_ones_run(recipe: str) -> None:
    """A program of all that is refused computes what the q/dq form does."""
    proof, _ = _refused(recipe)

    assert [output for output in proof.outputs if not _is_right(output, KERNELS[recipe])] == []


def _left(decision: Decision, edge: Edge, kernel: Kernel) -> bool:
    if edge.instead is not None:
        return decision.row == edge.instead
    if kernel is Kernel.FLOAT:
        return not decision.delegated
    told = decision.cause is Cause.CONSTRAINT and edge.reason in decision.reason
    return decision.verdict is Verdict.FLOAT and told


def _is_right(output: Output, kernel: Kernel) -> bool:
    relative = MOST_RELATIVE_DYNAMIC if kernel is Kernel.DYNAMIC else MOST_RELATIVE
    most = MOST_STEPS * output.scale if output.scale is not None else 0.0
    most += relative * float(output.qdq.abs().max()) if output.qdq.numel() else 0.0
    return bool(((output.runtime - output.qdq).abs() <= most).all())


def _case(edge: Edge, side: Side) -> Case:
    taken = ("mean",) if edge.row == "adaptive_avg_pool2d" else (edge.row,)
    return Case(row=edge.row, module=side.module, inputs=side.inputs, taken=taken, varies=False)


def _lowered(recipe: str, sides: Sequence[Side]) -> tuple[Proof, Any]:
    """The networks as branches of one program."""
    cases = [Case(row="", module=side.module, inputs=side.inputs) for side in sides]
    inputs = [tensor for side in sides for tensor in side.inputs]
    shapes = (tuple(shape for side in sides for shape in side.shapes),)
    return lowered(Branches(cases), inputs, recipe, placement="all", dynamic_shapes=shapes)


@functools.cache
def _refused(recipe: str) -> tuple[Proof, tuple[Refused, ...]]:
    """The program of all that is refused in a recipe, and what was refused on the way."""
    with _listen() as misses:
        proof, _ = _lowered(recipe, [e.refused for e in EDGES if e.refused.recipe == recipe])
    return proof, tuple(misses)


@contextlib.contextmanager
def _listen() -> Iterator[list[Refused]]:
    """The misses of the captured and the edge graphs that are matched inside the block."""
    heard: list[Refused] = []
    match = claims.match_table

    def spy(*args: Any, **kwargs: Any) -> Matches:
        found = match(*args, **kwargs)
        heard.extend(Refused(origin(miss.node), miss.row, miss.reason) for miss in found.misses)
        return found

    with pytest.MonkeyPatch.context() as patch:
        for module in (annotation, claims):
            patch.setattr(module, "match_table", spy)
        yield heard
