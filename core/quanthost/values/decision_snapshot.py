"""Decisions of a set of models as they are kept, and what differs between two of them."""

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
    """The qspecs at one node of the captured graph: of the captures that it reads, and of its ``"output"``.

    Where a backend rewrote the node into several operators, a capture is named ``"operator.capture"``.
    """

    node: str
    qspecs: tuple[tuple[str, AnyQSpec], ...]


@attrs.frozen(kw_only=True)
class ModelDecisions:
    """The decisions on one model; ``qspecs`` is ``None`` where they are not known."""

    name: str
    digest: str
    decisions: tuple[Decision, ...]
    qspecs: tuple[NodeQSpecs, ...] | None = None


@attrs.frozen(kw_only=True)
class Snapshot:
    """Decisions on several models, made with one request, and which versions made them.

    ``name`` of a model is what it was asked for by: a reference that can be loaded again. ``placement`` is
    ``None`` where it is not known. ``costs`` are those that placed the operators for latency.
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
    """One thing that differs: ``what`` is a field of the decision, or ``"qspec of CAPTURE"``."""

    what: str
    before: str
    after: str


@attrs.frozen(kw_only=True)
class NodeDifferences:
    """What differs at one node; one that only one side has differs in ``"node"`` alone."""

    node: str
    operator: str
    changes: tuple[Change, ...]


@attrs.frozen(kw_only=True)
class ModelDifferences:
    """What differs of one model, ``nodes`` of ``total``; ``note`` says that the model itself differs.

    ``only_in`` is ``"old"`` or ``"new"`` where the other side lacks the model.
    ``rows`` are the rows whose number of nodes differs, with the numbers before and after.
    """

    name: str
    total: int
    nodes: tuple[NodeDifferences, ...] = ()
    rows: tuple[tuple[str, int, int], ...] = ()
    note: str = ""
    only_in: str = ""


@attrs.frozen(kw_only=True)
class Differences:
    """What differs between two snapshots; ``made_by`` are differences of plugins, versions and request."""

    made_by: tuple[Change, ...]
    models: tuple[ModelDifferences, ...]

    @property
    def equal(self) -> bool:
        """Whether both have the same models with the same decisions; who made them may differ."""
        return not any(model.nodes or model.only_in for model in self.models)
