"""Tries the rows of a support table at one operator, and records where each one stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
from torch import fx

from quanthost.graph.evaluation import RowEvaluator
from quanthost.graph.operators import arguments, name_matches, operator_name
from quanthost.graph.pattern import Mismatch, Op
from quanthost.graph.table import Row, Site, SupportTable
from quanthost.graph.view import tensor_meta
from quanthost.values.explanation import Outcome, RowAttempt

__all__ = ["Answer", "SearchContext", "mentions", "tensor_text", "try_rows"]


@attrs.frozen(kw_only=True, eq=False)
class Answer:
    """A match or claim of the backend: its row and operators, and why it was dropped later, if it was."""

    row: str
    nodes: tuple[fx.Node, ...]
    dropped: str | None = None


@attrs.frozen(kw_only=True, eq=False)
class SearchContext:
    """The matcher's evaluator for one search, and what the matcher answered.

    ``closed`` gives the reason why an operator was closed.
    """

    evaluator: RowEvaluator
    answers: Sequence[Answer]
    closed: Callable[[fx.Node], str | None]


def try_rows(
    rows: SupportTable, target: fx.Node, context: SearchContext
) -> tuple[tuple[RowAttempt, ...], int]:
    """Try each row that mentions the operator; also return the number of rows that do not."""
    attempts: list[RowAttempt] = []
    others = 0
    for row in rows:
        refusal = context.evaluator.kernel_refusal(row)
        if not mentions(row.pattern, target):
            others += 1
        elif refusal is not None:
            attempts.append(_attempt(row, context, Outcome.KERNEL, (target,), refusal.reason, refusal.rule))
        else:
            attempts.extend(_try_row(row, target, context))
    return tuple(attempts), others


def mentions(pattern: Op, node: fx.Node) -> bool:
    """Whether the node's operator occurs anywhere in the pattern."""
    return next(_chains(pattern, operator_name(node)), None) is not None


def _chains(pattern: Op, name: str) -> Iterator[tuple[Op, ...]]:
    """For each place of the pattern that allows an operator of that name, the path from it to the output."""
    if any(name_matches(allowed, name) for allowed in pattern.names):
        yield (pattern,)
    for _, part in pattern.operands:
        if isinstance(part, Op):
            for chain in _chains(part, name):
                yield (*chain, pattern)


def _try_row(row: Row, target: fx.Node, context: SearchContext) -> Iterator[RowAttempt]:
    roots: dict[fx.Node, None] = {}
    stopped: list[Mismatch] = []
    for chain in _chains(row.pattern, operator_name(target)):
        reached = _follow(chain, target)
        if isinstance(reached, Mismatch):
            stopped.append(reached)
        else:
            roots.update(dict.fromkeys(reached))
    results = [context.evaluator.site_at(row, root) for root in roots]
    sites = [each for each in results if isinstance(each, Site) and target in each.nodes]
    if sites:
        yield from (_judge(site, context) for site in sites)
        return
    stopped.extend(each for each in results if isinstance(each, Mismatch))
    if stopped:
        deepest = max(stopped, key=lambda mismatch: mismatch.depth)
        yield _attempt(row, context, Outcome.PATTERN, (deepest.node,), deepest.found, deepest.expected)


def _follow(chain: tuple[Op, ...], target: fx.Node) -> list[fx.Node] | Mismatch:
    """The pattern's outputs if ``target`` is its inner operator, or the mismatch with its readers."""
    reached = [target]
    for outer in chain[1:]:
        readers = list(dict.fromkeys(user for node in reached for user in node.users))
        fitting = [reader for reader in readers if _allows(outer, reader)]
        if not fitting:
            actual = ", ".join(_reader(reader) for reader in readers) or "nothing reads it"
            expected = f"{'|'.join(outer.names)} behind it"
            return Mismatch(depth=0, node=reached[0].name, found=actual, expected=expected)
        reached = fitting
    return reached


def _allows(pattern: Op, node: fx.Node) -> bool:
    return node.op == "call_function" and any(name_matches(n, operator_name(node)) for n in pattern.names)


def _reader(node: fx.Node) -> str:
    if node.op == "output":
        return "the model's output"
    return f"{node.name} ({operator_name(node)})" if node.op == "call_function" else node.name


def _judge(site: Site, context: SearchContext) -> RowAttempt:
    """The outcome for a row whose pattern holds, with the checks in the matcher's order."""
    row, nodes = site.row, site.nodes
    for answer in context.answers:
        if answer.row == row.name and answer.nodes == nodes:
            outcome = Outcome.TAKEN if answer.dropped is None else Outcome.DROPPED
            return _attempt(row, context, outcome, nodes, answer.dropped or "")
    for node in nodes:
        reason = context.closed(node)
        if reason is not None:
            return _attempt(row, context, Outcome.CLOSED, nodes, f"{node.name}: {reason}")
    refusal = context.evaluator.refusal(site)
    if refusal is not None:
        attempt = _attempt(row, context, Outcome.CONSTRAINT, nodes, refusal.reason, refusal.rule)
        return attrs.evolve(attempt, facts=tuple(_facts(site)))
    return _attempt(row, context, Outcome.OUTDONE, nodes, _winner(nodes, context))


def _winner(nodes: Sequence[fx.Node], context: SearchContext) -> str:
    for answer in context.answers:
        if not set(answer.nodes).isdisjoint(nodes):
            return f"row {answer.row} has {', '.join(node.name for node in answer.nodes)}"
    return "the backend did not answer with it"


def _attempt(
    row: Row,
    context: SearchContext,
    outcome: Outcome,
    nodes: Sequence[fx.Node | str],
    found: str = "",
    expected: str = "",
) -> RowAttempt:
    return RowAttempt(
        row=row.name, pattern=str(row.pattern), kernel=context.evaluator.kernel, outcome=outcome, found=found,
        nodes=tuple(node if isinstance(node, str) else node.name for node in nodes), expected=expected,
    )  # fmt: skip


def _facts(site: Site) -> Iterator[tuple[str, str]]:
    """What a constraint can see: captured tensors, the output, and arguments that are not tensors."""
    for capture in site.captures:
        for node in site.tensors(capture):
            kind = ", constant" if site.view.is_constant(node) else ""
            yield capture, f"{tensor_text(node)}{kind}"
    yield "output", tensor_text(site.output)
    for node in site.nodes:
        for name, value in arguments(node).items():
            if value is not None and not _contains_nodes(value):
                yield f"{node.name}.{name}", str(value)


def _contains_nodes(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_contains_nodes, value))
    return isinstance(value, fx.Node)


def tensor_text(node: fx.Node) -> str:
    """``"float32[1, 8, 30, 30]"``, or ``"?"`` if the node's result is not a single tensor."""
    meta = tensor_meta(node)
    if meta is None:
        return "?"
    return f"{str(meta.dtype).removeprefix('torch.')}[{', '.join(map(str, meta.shape))}]"
