"""An extension that watches a backend's hooks: it records graphs that they change and what they claim."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import attrs
from torch import fx

from quanthost.graph.digest import graph_text
from quanthost.graph.operators import operator_name
from quanthost.graph.rewrite import origin
from quanthost.graph.table import Claim, SupportTable
from quanthost.graph.view import is_dequantize, is_quantize
from quanthost.hooks.claims import find_claims
from quanthost.hooks.specs import hookimpl
from quanthost.values import Kernel, Match

__all__ = ["PartitionReport", "Watcher"]

_Problem = tuple[str | None, str, str]


@attrs.frozen(kw_only=True)
class PartitionReport:
    """What a partitioner did with one edge program: each problem as captured node, kind and text.

    ``kernels`` are the table's kernels for the operators that a captured node was lowered to.
    """

    problems: tuple[_Problem, ...]
    kernels: dict[str | None, frozenset[Kernel]] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Watcher:
    """Wraps hooks without changing their answers.

    ``changes`` says which hook changed its input graph, ``intrusions`` which match covers a closed node.
    """

    table: SupportTable | None = None
    changes: list[str] = attrs.field(factory=list)
    intrusions: list[str] = attrs.field(factory=list)
    reports: list[PartitionReport] = attrs.field(factory=list)

    @hookimpl(wrapper=True)
    def quanthost_annotate(
        self, graph_module: fx.GraphModule, open_nodes: frozenset[str]
    ) -> Generator[None, Any, Any]:
        before = _describe(graph_module)
        answer = yield
        self._compare("quanthost_annotate", before, graph_module)
        matches = [each for items in answer for each in items if isinstance(each, Match)]
        self.intrusions.extend(
            f"the row {match.row} takes {node}, which is closed to this backend"
            for match in matches for node in match.nodes if node not in open_nodes
        )  # fmt: skip
        return answer

    @hookimpl(wrapper=True)
    def quanthost_validate(self, graph_module: fx.GraphModule) -> Generator[None, Any, Any]:
        before = _describe(graph_module)
        answer = yield
        self._compare("quanthost_validate", before, graph_module)
        return answer

    @hookimpl(wrapper=True)
    def quanthost_create_partitioners(self) -> Generator[None, Any, Any]:
        answers = yield
        for partitioner in (each for answer in answers for each in answer):
            self._watch(partitioner)
        return answers

    def _compare(self, hook: str, before: list[str], graph_module: fx.GraphModule) -> None:
        after = _describe(graph_module)
        if before == after:
            return
        changed = next((a for a, b in zip(after, before) if a != b), f"{len(after)} nodes, not {len(before)}")
        self.changes.append(f"{hook} changed its input graph: {changed}")

    def _watch(self, partitioner: Any) -> None:
        partition = partitioner.partition

        def partition_and_report(exported: Any) -> Any:
            claims = None if self.table is None else find_claims(self.table, exported)
            result = partition(exported)
            self.reports.append(_report(result.tagged_exported_program.graph, claims))
            return result

        partitioner.partition = partition_and_report


def _describe(graph_module: fx.GraphModule) -> list[str]:
    """Each node as text, and the keys of its metadata."""
    metadata = (",".join(sorted(map(str, node.meta))) for node in graph_module.graph.nodes)
    lines = graph_text(graph_module).splitlines()
    return [*lines, *metadata]


def _report(graph: fx.Graph, claims: list[Claim] | None) -> PartitionReport:
    tagged = {n: str(n.meta["delegation_tag"]) for n in graph.nodes if "delegation_tag" in n.meta}
    problems = [*_find_seams(graph, tagged), *_find_cycles(graph, tagged), *_find_passed(graph, tagged)]
    kernels: dict[str | None, frozenset[Kernel]] = {}
    for claim in claims or ():
        for node in claim.site.nodes:
            kernels[origin(node)] = kernels.get(origin(node), frozenset()) | {claim.site.kernel}
    if claims is not None:
        computes = {node: claim.computes for claim in claims for node in claim.nodes}
        problems.extend(_find_differences(graph, tagged, computes))
    return PartitionReport(problems=tuple(problems), kernels=kernels)


def _find_differences(
    graph: fx.Graph, tagged: dict[fx.Node, str], computes: dict[fx.Node, bool]
) -> Iterator[_Problem]:
    """Nodes that the partitioner takes and the table does not, or the other way round.

    ``computes`` says of each node that the table claims whether its claim computes anything.
    """
    for node in graph.nodes:
        if node.op != "call_function" or str(getattr(node.target, "__name__", "")) == "getitem":
            continue
        name = operator_name(node)
        if node in tagged and node not in computes:
            text = f"the partitioner claims {node.name} ({name}), for which the table has no kernel there"
            yield _about(node), "claims", text
        if node not in tagged and computes.get(node, False):
            yield _about(node), "claims", f"the table takes {node.name} ({name}), the partitioner leaves it"


def _find_seams(graph: fx.Graph, tagged: dict[fx.Node, str]) -> Iterator[_Problem]:
    """Quantize and dequantize nodes that stay between two delegated operators."""
    for node in graph.nodes:
        if not is_quantize(node) or not isinstance(node.args[0], fx.Node):
            continue
        source = node.args[0]
        if source not in tagged or is_dequantize(source):
            continue
        for user in node.users:
            readers = [each for each in user.users if each in tagged] if is_dequantize(user) else []
            outside = [n.name for n in (node, user) if n not in tagged]
            if readers and outside:
                nodes = " and ".join(outside)
                text = f"{nodes} left between the delegated {source.name} and {readers[0].name}"
                yield _about(source), "seams", text


def _find_cycles(graph: fx.Graph, tagged: dict[fx.Node, str]) -> Iterator[_Problem]:
    """Partitions that wait for each other."""
    tags_before: dict[fx.Node, frozenset[str]] = {}
    for node in graph.nodes:
        own = tagged.get(node)
        tags: set[str] = set()
        for source in node.all_input_nodes:
            tags |= tags_before.get(source, frozenset())
            # a constant that two partitions read is in both, whichever it is tagged with
            tag = tagged.get(source) if source.op == "call_function" else None
            if tag is not None and tag != own:
                tags.add(tag)
        if own is not None and own in tags and node.op == "call_function":
            text = f"the partition {own} reads at {node.name} a result that waits for the partition itself"
            yield _about(node), "cycles", text
        tags_before[node] = frozenset(tags)


def _find_passed(graph: fx.Graph, tagged: dict[fx.Node, str]) -> Iterator[_Problem]:
    """Inputs that a partition returns as outputs, and partitions that only convert."""
    computing = {
        tag for node, tag in tagged.items()
        if node.op == "call_function" and not is_quantize(node) and not is_dequantize(node)
    }  # fmt: skip
    for tag in sorted(set(tagged.values()) - computing):
        about = next((_about(node) for node, each in tagged.items() if each == tag), None)
        yield about, "pass_through", f"the partition {tag} computes nothing"
    for node, tag in tagged.items():
        if node.op == "placeholder" and any(user.op == "output" for user in node.users):
            yield _about(node), "pass_through", f"{node.name} goes through the partition {tag} unchanged"


def _about(node: fx.Node) -> str | None:
    """The captured operator of a node, or of the nearest node around it that has one."""
    queue, visited = [node], {node}
    for each in queue:
        name = origin(each)
        if name is not None:
            return name
        neighbours = [near for near in (*each.users, *each.all_input_nodes) if near not in visited]
        visited.update(neighbours)
        queue.extend(neighbours)
    return None
