"""What a backend decides about samples, beside what its own table says at the same nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs
from torch import fx

from quanthost.graph.evaluation import RowEvaluator
from quanthost.graph.rewrite import origin
from quanthost.graph.table import Site, SupportTable
from quanthost.graph.view import GraphView
from quanthost.hooks.backend import float_operands
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.preparing.planning import PlannedMatch
from quanthost.stages.preparing.prepare import plan
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.flow import branch
from quanthost.testing.proving.subject import Subject
from quanthost.values import Decision, Kernel, Recipe

__all__ = ["Met", "Seen", "seen_of"]


@attrs.frozen(kw_only=True)
class Met:
    """A row whose pattern is at a node, with the reasons of all constraints that refuse it there, by text.

    ``whole`` is unset where a rewrite made more operators of these nodes than the pattern covers.
    """

    row: str
    nodes: tuple[str, ...]
    refusals: tuple[tuple[str, str], ...]
    whole: bool = True

    @property
    def holds(self) -> bool:
        return not self.refusals


@attrs.frozen(kw_only=True, eq=False)
class Seen:
    """One sample: its decisions, what was chosen, what the table says; ``changes`` are those of graphs."""

    decisions: tuple[Decision, ...]
    chosen: tuple[PlannedMatch, ...]
    met: tuple[Met, ...]
    changes: tuple[str, ...]

    def rows(self, name: str) -> tuple[Met, ...]:
        """Where a row's pattern is."""
        return tuple(each for each in self.met if each.row == name)

    def at(self, node: str) -> tuple[Met, ...]:
        """The rows whose pattern covers a captured node."""
        return tuple(each for each in self.met if node in each.nodes)


def seen_of(subject: Subject, recipe: str, samples: Sequence[Sample], captured: CapturedModel) -> list[Seen]:
    """Plan the samples, which are branches of the captured program; nothing is inserted."""
    plugins, watcher = subject.watched()
    looked = plan(captured, plugins, subject.request(recipe))
    found = [] if subject.table is None else met_in(looked.rewritten, subject.table, subject.recipe(recipe))
    made = []
    for number, _ in enumerate(samples):
        decisions = branch(looked.decisions, number)
        names = {decision.node for decision in decisions}
        made.append(
            Seen(
                decisions=decisions,
                met=tuple(met for met in found if names.issuperset(met.nodes)),
                chosen=tuple(c for c in looked.plan.matches if (origin(c.nodes[0]) or "") in names),
                changes=tuple(watcher.changes),
            )
        )
    return made


def met_in(graph_module: fx.GraphModule, table: SupportTable, recipe: Recipe) -> list[Met]:
    """Each place where a row's pattern is, whatever its constraints say."""
    evaluator = RowEvaluator(
        view=GraphView(graph_module), kernel=recipe.kernel, recipe=recipe,
        accept=None if recipe.kernel is Kernel.FLOAT else float_operands,
    )  # fmt: skip
    rows = [row for row in table if recipe.kernel in row.kernels and not row.converts]
    pieces = Counter(origin(n) or n.name for n in graph_module.graph.nodes if n.op == "call_function")
    found = []
    for node in graph_module.graph.nodes:
        if node.op != "call_function":
            continue
        for row in rows:
            site = evaluator.site_at(row, node)
            if isinstance(site, Site):
                met = _met(site, evaluator)
                whole = sum(pieces[name] for name in met.nodes) == len(site.nodes)
                found.append(attrs.evolve(met, whole=whole))
    return found


def _met(site: Site, evaluator: RowEvaluator) -> Met:
    refusals = tuple((refusal.rule, refusal.reason) for refusal in evaluator.refusals(site))
    nodes = tuple(dict.fromkeys(origin(node) or node.name for node in site.nodes))
    return Met(row=site.row.name, nodes=nodes, refusals=refusals)
