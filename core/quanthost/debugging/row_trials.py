"""Which rows of a table can concern one operator, and how far each of them came there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
from torch import fx

from quanthost.graph.matcher import refusal
from quanthost.graph.operators import arguments, name_matches, operator_name
from quanthost.graph.pattern import Binding, Mismatch, Op, bind
from quanthost.graph.table import Row, Site, SupportTable
from quanthost.graph.view import GraphView, tensor_meta
from quanthost.values import Kernel, Recipe
from quanthost.values.explanation import Outcome, RowTrial

__all__ = ["Answer", "Tried", "mentions", "tensor_text", "try_rows"]


@attrs.frozen(kw_only=True, eq=False)
class Answer:
    """A place that was chosen in the end: its row and operators, and why it was given up later, if it was."""

    row: str
    nodes: tuple[fx.Node, ...]
    dropped: str | None = None


@attrs.frozen(kw_only=True, eq=False)
class Tried:
    """What one search looked for, as the matcher did, and what came of it.

    ``closed`` gives the reason for which an operator was not open, ``accept`` is the matcher's last check,
    and ``accepts`` what that asks for in words.
    """

    view: GraphView
    kernel: Kernel
    answers: Sequence[Answer]
    closed: Callable[[fx.Node], str | None]
    accept: Callable[[Site], str | None]
    accepts: str
    recipe: Recipe | None = None


def try_rows(rows: SupportTable, target: fx.Node, tried: Tried) -> tuple[tuple[RowTrial, ...], int]:
    """A trial for each row and place that mentions the operator, and the number of rows that do not."""
    found: list[RowTrial] = []
    others = 0
    for row in rows:
        if not mentions(row.pattern, target):
            others += 1
        elif tried.kernel not in row.kernels:
            kernels = ", ".join(sorted(kernel.value for kernel in row.kernels))
            found.append(
                _trial(row, tried, Outcome.KERNEL, (target,), kernels, f"a {tried.kernel.value} kernel")
            )
        else:
            found.extend(_try_row(row, target, tried))
    return tuple(found), others


def mentions(pattern: Op, node: fx.Node) -> bool:
    """Whether the node's operator stands anywhere in the pattern."""
    return next(_chains(pattern, operator_name(node)), None) is not None


def _chains(pattern: Op, name: str) -> Iterator[tuple[Op, ...]]:
    """From each place of the pattern where an operator of that name may stand, outwards to its output."""
    if any(name_matches(wanted, name) for wanted in pattern.names):
        yield (pattern,)
    for _, part in pattern.operands:
        if isinstance(part, Op):
            for chain in _chains(part, name):
                yield (*chain, pattern)


def _try_row(row: Row, target: fx.Node, tried: Tried) -> Iterator[RowTrial]:
    roots: dict[fx.Node, None] = {}
    stopped: list[Mismatch] = []
    for chain in _chains(row.pattern, operator_name(target)):
        reached = _follow(chain, target)
        if isinstance(reached, Mismatch):
            stopped.append(reached)
        else:
            roots.update(dict.fromkeys(reached))
    bindings = [bind(row.pattern, root) for root in roots]
    held = [each for each in bindings if isinstance(each, Binding) and target in each.nodes]
    if held:
        yield from (_judge(row, binding, tried) for binding in held)
        return
    stopped.extend(each for each in bindings if isinstance(each, Mismatch))
    if stopped:
        deepest = max(stopped, key=lambda mismatch: mismatch.depth)
        yield _trial(row, tried, Outcome.PATTERN, (deepest.node,), deepest.found, deepest.expected)


def _follow(chain: tuple[Op, ...], target: fx.Node) -> list[fx.Node] | Mismatch:
    """The outputs that a pattern has if ``target`` is its inner operator, or what reads it instead."""
    reached = [target]
    for outer in chain[1:]:
        readers = list(dict.fromkeys(user for node in reached for user in node.users))
        fitting = [reader for reader in readers if _is_one(outer, reader)]
        if not fitting:
            found = ", ".join(_reader(reader) for reader in readers) or "nothing reads it"
            expected = f"{'|'.join(outer.names)} behind it"
            return Mismatch(depth=0, node=reached[0].name, found=found, expected=expected)
        reached = fitting
    return reached


def _is_one(pattern: Op, node: fx.Node) -> bool:
    return node.op == "call_function" and any(name_matches(n, operator_name(node)) for n in pattern.names)


def _reader(node: fx.Node) -> str:
    if node.op == "output":
        return "the model's output"
    return f"{node.name} ({operator_name(node)})" if node.op == "call_function" else node.name


def _judge(row: Row, binding: Binding, tried: Tried) -> RowTrial:
    """What stood against a row whose pattern holds, in the order in which the matcher looks."""
    site = Site(
        row=row, kernel=tried.kernel, view=tried.view, nodes=binding.nodes, captures=binding.captures,
        recipe=tried.recipe,
    )  # fmt: skip
    for answer in tried.answers:
        if answer.row == row.name and answer.nodes == binding.nodes:
            outcome = Outcome.TAKEN if answer.dropped is None else Outcome.DROPPED
            return _trial(row, tried, outcome, binding.nodes, answer.dropped or "")
    for node in binding.nodes:
        reason = tried.closed(node)
        if reason is not None:
            return _trial(row, tried, Outcome.CLOSED, binding.nodes, f"{node.name}: {reason}")
    refused = refusal(site)
    if refused is not None:
        made = _trial(row, tried, Outcome.CONSTRAINT, binding.nodes, refused.reason, refused.rule)
        return attrs.evolve(made, facts=tuple(_facts(site)))
    reason = tried.accept(site)
    if reason is not None:
        made = _trial(row, tried, Outcome.CONSTRAINT, binding.nodes, reason, tried.accepts)
        return attrs.evolve(made, facts=tuple(_facts(site)))
    return _trial(row, tried, Outcome.OUTDONE, binding.nodes, _winner(binding, tried))


def _winner(binding: Binding, tried: Tried) -> str:
    for answer in tried.answers:
        if not set(answer.nodes).isdisjoint(binding.nodes):
            return f"row {answer.row} has {', '.join(node.name for node in answer.nodes)}"
    return "the backend did not answer with it"


def _trial(
    row: Row,
    tried: Tried,
    outcome: Outcome,
    nodes: Sequence[fx.Node | str],
    found: str = "",
    expected: str = "",
) -> RowTrial:
    return RowTrial(
        row=row.name, pattern=str(row.pattern), kernel=tried.kernel, outcome=outcome, found=found,
        nodes=tuple(node if isinstance(node, str) else node.name for node in nodes), expected=expected,
    )  # fmt: skip


def _facts(site: Site) -> Iterator[tuple[str, str]]:
    """What a constraint can see: each captured tensor and the output, and arguments that are no tensors."""
    for capture in site.captures:
        for node in site.tensors(capture):
            kind = ", constant" if site.view.is_constant(node) else ""
            yield capture, f"{tensor_text(node)}{kind}"
    yield "output", tensor_text(site.output)
    for node in site.nodes:
        for name, value in arguments(node).items():
            if value is not None and not _holds_nodes(value):
                yield f"{node.name}.{name}", str(value)


def _holds_nodes(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_nodes, value))
    return isinstance(value, fx.Node)


def tensor_text(node: fx.Node) -> str:
    """``"float32[1, 8, 30, 30]"``, ``"?"`` where tracing left no single tensor."""
    meta = tensor_meta(node)
    if meta is None:
        return "?"
    return f"{str(meta.dtype).removeprefix('torch.')}[{', '.join(map(str, meta.shape))}]"
