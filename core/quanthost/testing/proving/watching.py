"""An extension that watches a backend's hooks: graphs that they change, and what is claimed."""

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

__all__ = ["Partitioned", "Watcher"]


@attrs.frozen(kw_only=True)
class Partitioned:
    """What a partitioner did with one edge program; each problem with the captured node it is about.

    ``kernels`` are those with which the table takes what became of a captured node.
    """

    tags: dict[str | None, tuple[str, ...]]
    problems: tuple[tuple[str | None, str, str], ...]
    kernels: dict[str | None, frozenset[Kernel]] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Watcher:
    """Wraps hooks without changing an answer.

    ``changes`` says which hook changed its input graph, ``intrusions`` which match covers a closed node.
    """

    table: SupportTable | None = None
    changes: list[str] = attrs.field(factory=list)
    intrusions: list[str] = attrs.field(factory=list)
    partitioned: list[Partitioned] = attrs.field(factory=list)

    @hookimpl(wrapper=True)
    def quanthost_annotate(
        self, graph_module: fx.GraphModule, open_nodes: frozenset[str]
    ) -> Generator[None, Any, Any]:
        before = _state(graph_module)
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
        before = _state(graph_module)
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
        after = _state(graph_module)
        if before == after:
            return
        changed = next((a for a, b in zip(after, before) if a != b), f"{len(after)} nodes, not {len(before)}")
        self.changes.append(f"{hook} changed the graph it was given: {changed}")

    def _watch(self, partitioner: Any) -> None:
        partition = partitioner.partition

        def watched(exported: Any) -> Any:
            found = None if self.table is None else find_claims(self.table, exported)
            result = partition(exported)
            self.partitioned.append(_survey(result.tagged_exported_program.graph, found))
            return result

        partitioner.partition = watched


def _state(graph_module: fx.GraphModule) -> list[str]:
    """Each node as text, with the names of what its metadata holds."""
    metadata = (",".join(sorted(map(str, node.meta))) for node in graph_module.graph.nodes)
    lines = graph_text(graph_module).splitlines()
    return [*lines, *metadata]


def _survey(graph: fx.Graph, found: list[Claim] | None) -> Partitioned:
    tagged = {n: str(n.meta["delegation_tag"]) for n in graph.nodes if "delegation_tag" in n.meta}
    tags: dict[str | None, tuple[str, ...]] = {}
    for node, tag in tagged.items():
        if node.op == "call_function":
            tags[origin(node)] = (*tags.get(origin(node), ()), tag)
    problems = [*_seams(graph, tagged), *_cycles(graph, tagged), *_passed_through(graph, tagged)]
    kernels: dict[str | None, frozenset[Kernel]] = {}
    for claim in found or ():
        for node in claim.site.nodes:
            kernels[origin(node)] = kernels.get(origin(node), frozenset()) | {claim.site.kernel}
    if found is not None:
        claims = {node: claim.computes for claim in found for node in claim.nodes}
        problems.extend(_differences(graph, tagged, claims))
    return Partitioned(tags=tags, problems=tuple(problems), kernels=kernels)


_Problem = tuple[str | None, str, str]


def _differences(
    graph: fx.Graph, tagged: dict[fx.Node, str], claims: dict[fx.Node, bool]
) -> Iterator[_Problem]:
    """The partitioner takes what the table says, no more and no less."""
    for node in graph.nodes:
        if node.op != "call_function" or str(getattr(node.target, "__name__", "")) == "getitem":
            continue
        name = operator_name(node)
        if node in tagged and node not in claims:
            text = f"the partitioner claims {node.name} ({name}), for which the table has no kernel there"
            yield _about(node), "claims", text
        if node not in tagged and claims.get(node, False):
            yield _about(node), "claims", f"the table takes {node.name} ({name}), the partitioner leaves it"


def _seams(graph: fx.Graph, tagged: dict[fx.Node, str]) -> Iterator[_Problem]:
    """Quantize and dequantize that are left between two delegated operators."""
    for node in graph.nodes:
        if not is_quantize(node) or not isinstance(node.args[0], fx.Node):
            continue
        source = node.args[0]
        if source not in tagged or is_dequantize(source):
            continue
        for reader in node.users:
            takers = [user for user in reader.users if user in tagged] if is_dequantize(reader) else []
            left = [n.name for n in (node, reader) if n not in tagged]
            if takers and left:
                text = f"{' and '.join(left)} left between the delegated {source.name} and {takers[0].name}"
                yield _about(source), "seams", text


def _cycles(graph: fx.Graph, tagged: dict[fx.Node, str]) -> Iterator[_Problem]:
    """Partitions that wait for one another."""
    behind: dict[fx.Node, frozenset[str]] = {}
    for node in graph.nodes:
        own = tagged.get(node)
        seen: set[str] = set()
        for source in node.all_input_nodes:
            seen |= behind.get(source, frozenset())
            # a constant that two partitions read lies in both, whichever it is tagged with
            left = tagged.get(source) if source.op == "call_function" else None
            if left is not None and left != own:
                seen.add(left)
        if own is not None and own in seen and node.op == "call_function":
            yield _about(node), "cycles", f"the partition {own} reads at {node.name} what waits for itself"
        behind[node] = frozenset(seen)


def _passed_through(graph: fx.Graph, tagged: dict[fx.Node, str]) -> Iterator[_Problem]:
    """Inputs of the program inside a partition that others read too; and partitions of conversions alone."""
    computing = {
        tag for node, tag in tagged.items()
        if node.op == "call_function" and not is_quantize(node) and not is_dequantize(node)
    }  # fmt: skip
    for tag in sorted(set(tagged.values()) - computing):
        about = next((_about(node) for node, each in tagged.items() if each == tag), None)
        yield about, "pass_through", f"the partition {tag} computes nothing"
    for node, tag in tagged.items():
        if node.op == "placeholder" and any(user.op == "output" for user in node.users):
            yield _about(node), "pass_through", f"{node.name} goes through the partition {tag} as it is"


def _about(node: fx.Node) -> str | None:
    """The captured operator that a node belongs to: its own, or the nearest one's that reads or makes it."""
    waiting, seen = [node], {node}
    for each in waiting:
        found = origin(each)
        if found is not None:
            return found
        fresh = [near for near in (*each.users, *each.all_input_nodes) if near not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
    return None
