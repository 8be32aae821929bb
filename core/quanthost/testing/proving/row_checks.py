"""Plans samples with a backend, and checks at the same nodes what its own table says."""

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
from quanthost.testing.proving.programs import select_branch
from quanthost.testing.proving.subject import Subject
from quanthost.values import Decision, Kernel, Recipe

__all__ = ["RowCheck", "SamplePlan", "check_rows", "plan_samples"]


@attrs.frozen(kw_only=True)
class RowCheck:
    """A row whose pattern is at a node, and each constraint that refuses it there as text and reason.

    ``whole`` is unset if a rewrite made more operators of these nodes than the pattern covers.
    """

    row: str
    nodes: tuple[str, ...]
    refusals: tuple[tuple[str, str], ...]
    whole: bool = True

    @property
    def holds(self) -> bool:
        return not self.refusals


@attrs.frozen(kw_only=True, eq=False)
class SamplePlan:
    """What the backend plans for one sample, and what its table says about the sample's nodes."""

    decisions: tuple[Decision, ...]
    matches: tuple[PlannedMatch, ...]
    row_checks: tuple[RowCheck, ...]

    def checks_of(self, row: str) -> tuple[RowCheck, ...]:
        """Where a row's pattern is."""
        return tuple(check for check in self.row_checks if check.row == row)

    def checks_at(self, node: str) -> tuple[RowCheck, ...]:
        """The rows whose pattern covers a captured node."""
        return tuple(check for check in self.row_checks if node in check.nodes)


def plan_samples(
    subject: Subject, recipe: str, samples: Sequence[Sample], captured: CapturedModel
) -> list[SamplePlan]:
    """Plan the samples, which are the branches of the captured program; no observer is inserted."""
    plugins, _ = subject.watch()
    graph = plan(captured, plugins, subject.request(recipe))
    checks = (
        [] if subject.table is None else check_rows(graph.rewritten, subject.table, subject.recipe(recipe))
    )
    plans = []
    for number, _ in enumerate(samples):
        decisions = select_branch(graph.decisions, number)
        nodes = {decision.node for decision in decisions}
        plans.append(
            SamplePlan(
                decisions=decisions,
                row_checks=tuple(check for check in checks if nodes.issuperset(check.nodes)),
                matches=tuple(m for m in graph.plan.matches if (origin(m.nodes[0]) or "") in nodes),
            )
        )
    return plans


def check_rows(graph_module: fx.GraphModule, table: SupportTable, recipe: Recipe) -> list[RowCheck]:
    """Each place where a row's pattern is, whatever its constraints say."""
    evaluator = RowEvaluator(
        view=GraphView(graph_module), kernel=recipe.kernel, recipe=recipe,
        accept=None if recipe.kernel is Kernel.FLOAT else float_operands,
    )  # fmt: skip
    rows = [row for row in table if recipe.kernel in row.kernels and not row.converts]
    pieces = Counter(origin(n) or n.name for n in graph_module.graph.nodes if n.op == "call_function")
    checks = []
    for node in graph_module.graph.nodes:
        if node.op != "call_function":
            continue
        for row in rows:
            site = evaluator.site_at(row, node)
            if isinstance(site, Site):
                check = _check_row(site, evaluator)
                whole = sum(pieces[name] for name in check.nodes) == len(site.nodes)
                checks.append(attrs.evolve(check, whole=whole))
    return checks


def _check_row(site: Site, evaluator: RowEvaluator) -> RowCheck:
    refusals = tuple((refusal.rule, refusal.reason) for refusal in evaluator.refusals(site))
    nodes = tuple(dict.fromkeys(origin(node) or node.name for node in site.nodes))
    return RowCheck(row=site.row.name, nodes=nodes, refusals=refusals)
