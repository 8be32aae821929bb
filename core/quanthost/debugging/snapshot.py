"""The decisions on one model, with qspecs, as ``prepare`` would make them."""

from __future__ import annotations

from quanthost.graph.rewrite import origin
from quanthost.hooks.manager import Plugins
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.preparing.planning import PlannedMatch
from quanthost.stages.preparing.prepare import PlannedGraph, plan
from quanthost.values import AnyQSpec, Request
from quanthost.values.decision_snapshot import ModelDecisions, NodeQSpecs

__all__ = ["model_decisions"]


def model_decisions(name: str, captured: CapturedModel, plugins: Plugins, request: Request) -> ModelDecisions:
    """Make the decisions without inserting observers; needs no data.

    Raises:
        QuanthostError: ``prepare`` would raise it.
    """
    planned = plan(captured, plugins, request)
    return ModelDecisions(
        name=name, digest=captured.digest, decisions=planned.decisions, qspecs=tuple(_qspecs(planned))
    )


def _qspecs(planned: PlannedGraph) -> list[NodeQSpecs]:
    qspecs: dict[str, dict[str, AnyQSpec]] = {}
    for match in planned.plan.matches:
        for node in match.nodes:
            source = origin(node) or node.name
            prefix = "" if node.name == source else f"{node.name}."
            specs = {prefix + capture: spec for capture, spec in _specs_at(match, node.name).items()}
            qspecs.setdefault(source, {}).update(specs)
    return [
        NodeQSpecs(node=info.name, qspecs=tuple(sorted(qspecs[info.name].items())))
        for info in planned.nodes
        if qspecs.get(info.name)
    ]


def _specs_at(match: PlannedMatch, name: str) -> dict[str, AnyQSpec]:
    """The specs of one operator's inputs, and of its result if that is the result of the match."""
    (node,) = (node for node in match.nodes if node.name == name)
    specs = {
        capture: spec
        for capture, spec in match.qspecs.items()
        if match.captures.get(capture) in node.all_input_nodes
    }
    if node is match.nodes[-1] and "output" in match.qspecs:
        specs["output"] = match.qspecs["output"]
    return specs
