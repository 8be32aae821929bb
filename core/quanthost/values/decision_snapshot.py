"""Snapshots of the decisions on a set of models, and the differences between two snapshots."""

from __future__ import annotations

import attrs

from quanthost.values.cost_table import CostTable
from quanthost.values.decision import Decision
from quanthost.values.override import Override
from quanthost.values.program_record import PluginRecord
from quanthost.values.qspec import AnyQSpec
from quanthost.values.request import Placement

__all__ = [
    "FORMAT",
    "Change",
    "Differences",
    "ModelDecisions",
    "ModelDifferences",
    "NodeDifferences",
    "NodeQSpecs",
    "Snapshot",
]

FORMAT = 1


@attrs.frozen(kw_only=True)
class NodeQSpecs:
    """The qspecs at one node of the captured graph: of its captures and its ``"output"``.

    If a backend rewrote the node into several operators, a capture is named ``"operator.capture"``.
    """

    node: str
    qspecs: tuple[tuple[str, AnyQSpec], ...]


@attrs.frozen(kw_only=True)
class ModelDecisions:
    """The decisions on one model; ``qspecs`` is ``None`` if they are unknown."""

    name: str
    digest: str
    decisions: tuple[Decision, ...]
    qspecs: tuple[NodeQSpecs, ...] | None = None


@attrs.frozen(kw_only=True)
class Snapshot:
    """The decisions on several models for one request, with the versions that made them.

    A model's ``name`` is a reference from which it can be loaded again. ``placement`` is ``None`` if it is
    unknown. ``costs`` are those that placed the operators for latency.
    """

    backends: tuple[str, ...]
    recipe: str
    plugins: tuple[PluginRecord, ...]
    versions: tuple[tuple[str, str], ...]
    models: tuple[ModelDecisions, ...]
    overrides: tuple[Override, ...] = ()
    options: tuple[tuple[str, str | int | float | bool], ...] = ()
    placement: Placement | None = None
    costs: CostTable | None = None
    format: int = FORMAT


@attrs.frozen(kw_only=True)
class Change:
    """One difference: ``what`` is a field of the decision, or ``"qspec of CAPTURE"``."""

    what: str
    before: str
    after: str


@attrs.frozen(kw_only=True)
class NodeDifferences:
    """The differences at one node; a node that one side lacks has the single change ``"node"``."""

    node: str
    operator: str
    changes: tuple[Change, ...]


@attrs.frozen(kw_only=True)
class ModelDifferences:
    """The differences of one model: ``nodes`` out of ``total``; ``note`` says if the model itself differs.

    ``only_in`` is ``"old"`` or ``"new"`` if the other side lacks the model. ``rows`` are the rows whose
    number of nodes differs, with the numbers before and after.
    """

    name: str
    total: int
    nodes: tuple[NodeDifferences, ...] = ()
    rows: tuple[tuple[str, int, int], ...] = ()
    note: str = ""
    only_in: str = ""


@attrs.frozen(kw_only=True)
class Differences:
    """The differences of two snapshots; ``made_by`` are those of plugins, versions and request."""

    made_by: tuple[Change, ...]
    models: tuple[ModelDifferences, ...]

    @property
    def equal(self) -> bool:
        """Whether both have the same models with the same decisions, whatever made them."""
        return not any(model.nodes or model.only_in for model in self.models)
