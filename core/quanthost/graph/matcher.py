"""Matching a support table against a graph: the longest match wins, a tie is an error."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs
from torch import fx

from quanthost.errors import QuanthostError, TableError
from quanthost.graph.operators import operator_name
from quanthost.graph.pattern import Binding, bind
from quanthost.graph.provenance import locations
from quanthost.graph.table import Constraint, Row, Site, SupportTable
from quanthost.graph.view import GraphView
from quanthost.values import Kernel, Recipe, Role

__all__ = ["Matches", "Miss", "Refused", "answer", "match_table", "refusal"]


@attrs.frozen(kw_only=True)
class Miss:
    """A row whose pattern held at a node, and the constraint that refused it."""

    node: fx.Node
    row: str
    reason: str


@attrs.frozen(kw_only=True)
class Refused:
    """What a row asks for, and the reason why a place does not have it."""

    rule: str
    reason: str


@attrs.frozen(kw_only=True)
class Matches:
    """The sites that were chosen, in graph order, and the misses."""

    sites: tuple[Site, ...]
    misses: tuple[Miss, ...]


@attrs.frozen(kw_only=True)
class _Search:
    """What one call of ``match_table`` looks for."""

    index: dict[str, list[Row]]
    view: GraphView
    kernel: Kernel
    recipe: Recipe | None
    is_open: Callable[[fx.Node], bool]
    accept: Callable[[Site], str | None]
    misses: list[Miss] = attrs.field(factory=list)


def match_table(
    table: SupportTable,
    view: GraphView,
    kernel: Kernel,
    *,
    recipe: Recipe | None = None,
    is_open: Callable[[fx.Node], bool] = lambda _: True,
    accept: Callable[[Site], str | None] = lambda _: None,
) -> Matches:
    """Choose at most one site for each operator, for one kernel.

    ``is_open`` says which operators may be covered; ``accept`` is a last check after the row's own
    constraints. Linear in nodes: rows are looked up by the operator at their output.

    Raises:
        TableError: two rows of one length hold at one node.
    """
    search = _Search(
        index=_index(row for row in table if kernel in row.kernels), view=view, kernel=kernel,
        recipe=recipe, is_open=is_open, accept=accept,
    )  # fmt: skip
    candidates: list[Site] = []
    for node in view.graph_module.graph.nodes:
        if node.op == "call_function":
            candidates.extend(_sites_at(node, search))
    chosen = _choose(candidates, view)
    return Matches(sites=tuple(chosen), misses=tuple(search.misses))


def _index(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by the base name of the operator at their output."""
    index: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        for base in {_base(name) for name in row.pattern.names}:
            index[base].append(row)
    return index


def _base(name: str) -> str:
    parts = name.split(".")
    return (
        parts[1] if len(parts) > 1 and parts[0] in ("aten", "quantized_decomposed", "torchao") else parts[0]
    )


def _sites_at(node: fx.Node, search: _Search) -> Iterator[Site]:
    accepted: dict[int, Site] = {}
    for row in search.index.get(_base(operator_name(node)), ()):
        binding = bind(row.pattern, node)
        if not isinstance(binding, Binding) or not all(map(search.is_open, binding.nodes)):
            continue
        site = Site(
            row=row, kernel=search.kernel, view=search.view, nodes=binding.nodes,
            captures=binding.captures, recipe=search.recipe,
        )  # fmt: skip
        refused = refusal(site)
        reason = search.accept(site) if refused is None else refused.reason
        if reason is not None:
            search.misses.append(Miss(node=site.anchor, row=row.name, reason=reason))
            continue
        rival = accepted.setdefault(row.size, site)
        if rival is not site:
            raise _tie(rival, site, node)
        yield site


def refusal(site: Site) -> Refused | None:
    """The first rule of the site's row that does not hold there, ``None`` where all do."""
    for capture, role in site.row.roles:
        if role in (Role.WEIGHT, Role.BIAS) and not site.is_constant(capture):
            reason = f"{capture} is computed, not a constant of the model"
            return Refused(rule=f"{capture} is a constant", reason=reason)
    for rule in site.row.constraints:
        if rule.applies_to(site.kernel):
            refused = answer(rule, site)
            if refused is not None:
                return Refused(rule=rule.text, reason=refused)
    return None


def answer(rule: Constraint, site: Site) -> str | None:
    """What a constraint says of a site.

    Raises:
        TableError: it raised, or gave neither a text nor ``None``.
    """
    try:
        reason = rule.check(site)
    except QuanthostError:
        raise
    except Exception as error:
        told = f"it raised {type(error).__name__}: {error}"
        raise _wrong_constraint(rule, site, told, _line_of(error, rule)) from error
    if reason is None or isinstance(reason, str):
        return reason
    raise _wrong_constraint(rule, site, f"it returned {reason!r}", _line_of(None, rule))


def _wrong_constraint(rule: Constraint, site: Site, told: str, line: str) -> TableError:
    return TableError(
        f"the constraint {rule.text!r} of the row {site.row.name!r} gave no answer: {told}",
        needed="None where the kernel exists, else the reason as text", node=site.anchor.name,
        where=", ".join(filter(None, (line, f"asked of node {site.anchor.name}"))),
        remedy="correct it; what is not there everywhere, as a dimension or the recipe, is asked for first",
    )  # fmt: skip


def _line_of(error: Exception | None, rule: Constraint) -> str:
    """File and line: where it was left last, else where it begins."""
    code = getattr(rule.check, "__code__", None)
    lines = [] if error is None else locations(error.__traceback__)
    own = [line for line in lines if code is not None and line.file == code.co_filename] or lines
    if own:
        return f"{Path(own[-1].file).name}, line {own[-1].line}"
    return "" if code is None else f"{Path(code.co_filename).name}, line {code.co_firstlineno}"


def _tie(first: Site, second: Site, node: fx.Node) -> TableError:
    return TableError(
        f"the rows {first.row.name!r} and {second.row.name!r} both hold at {node.name}",
        needed="one longest match at each operator", node=node.name,
        remedy="make one row's constraints exclude the other, or merge the rows",
        value=(first.row.name, second.row.name),
    )  # fmt: skip


def _choose(candidates: list[Site], view: GraphView) -> list[Site]:
    """Longest first, then in graph order; each operator belongs to one site."""
    order = view.order
    taken: set[fx.Node] = set()
    chosen = []
    for site in sorted(candidates, key=lambda s: (-len(s.nodes), order[s.anchor])):
        if taken.isdisjoint(site.nodes):
            taken.update(site.nodes)
            chosen.append(site)
    return sorted(chosen, key=lambda s: order[s.output])
