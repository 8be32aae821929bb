"""Matches a support table against a graph: the longest match wins, a tie is an error."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import attrs
from torch import fx

from quanthost.errors import TableError
from quanthost.graph.evaluation import RowEvaluator
from quanthost.graph.operators import operator_name
from quanthost.graph.table import Constraint, Row, Site, SupportTable
from quanthost.graph.view import GraphView
from quanthost.values import Kernel, Recipe

__all__ = ["Matches", "Miss", "match_table"]


@attrs.frozen(kw_only=True)
class Miss:
    """A row whose pattern held at a node, and the reason of the rule that refused it."""

    node: fx.Node
    row: str
    reason: str


@attrs.frozen(kw_only=True)
class Matches:
    """The sites that were chosen, in graph order, and the misses."""

    sites: tuple[Site, ...]
    misses: tuple[Miss, ...]


@attrs.frozen(kw_only=True)
class _Search:
    """One call of ``match_table``: rows by the operator at their output, what may be covered, misses."""

    index: dict[str, list[Row]]
    evaluator: RowEvaluator
    is_open: Callable[[fx.Node], bool]
    misses: list[Miss] = attrs.field(factory=list)


def match_table(
    table: SupportTable,
    view: GraphView,
    kernel: Kernel,
    *,
    recipe: Recipe | None = None,
    is_open: Callable[[fx.Node], bool] = lambda _: True,
    accept: Constraint | None = None,
) -> Matches:
    """Choose at most one site for each operator, for one kernel.

    ``is_open`` says which operators may be covered; ``accept`` is a last rule, after the row's own. Linear
    in nodes: rows are looked up by the operator at their output.

    Raises:
        TableError: two rows of one length hold at one node.
    """
    search = _Search(
        index=_index(row for row in table if kernel in row.kernels), is_open=is_open,
        evaluator=RowEvaluator(view=view, kernel=kernel, recipe=recipe, accept=accept),
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
    """The base name of a pattern's name, which may leave out namespace and overload."""
    parts = name.split(".")
    has_namespace = len(parts) > 1 and parts[0] in ("aten", "quantized_decomposed", "torchao")
    return parts[1] if has_namespace else parts[0]


def _sites_at(node: fx.Node, search: _Search) -> Iterator[Site]:
    accepted: dict[int, Site] = {}
    for row in search.index.get(_base(operator_name(node)), ()):
        site = search.evaluator.site_at(row, node)
        if not isinstance(site, Site) or not all(map(search.is_open, site.nodes)):
            continue
        refusal = search.evaluator.refusal(site)
        if refusal is not None:
            search.misses.append(Miss(node=site.anchor, row=row.name, reason=refusal.reason))
            continue
        rival = accepted.setdefault(row.size, site)
        if rival is not site:
            raise _tie(rival, site, node)
        yield site


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
    covered: set[fx.Node] = set()
    chosen = []
    for site in sorted(candidates, key=lambda s: (-len(s.nodes), order[s.anchor])):
        if covered.isdisjoint(site.nodes):
            covered.update(site.nodes)
            chosen.append(site)
    return sorted(chosen, key=lambda s: order[s.output])
