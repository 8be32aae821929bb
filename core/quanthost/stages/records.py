"""The frozen records that the stages after capture hand on, and the seams between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from quanthost.values import (
    ArithmeticProfile,
    Decision,
    Estimator,
    Latency,
    RangeEstimator,
    Refinement,
    Representation,
    Request,
    ToolchainRecord,
)

if TYPE_CHECKING:
    import torch
    from torch import fx

    from quanthost.hooks.manager import Plugins
    from quanthost.stages.calibrating.statistics import Statistics
    from quanthost.stages.capturing.capture import CapturedModel

__all__ = ["CalibratedModel", "ConvertedModel", "PreparedModel"]


@attrs.frozen(kw_only=True, eq=False)
class PreparedModel:
    """An observed graph (``module``, or one to train where ``request.qat``), with decisions.

    ``latency`` is what a placement for latency expects, ``None`` of any other.
    """

    captured: CapturedModel
    request: Request
    plugins: Plugins = attrs.field(repr=False)
    module: fx.GraphModule = attrs.field(repr=False)
    decisions: tuple[Decision, ...] = attrs.field(repr=False)
    latency: Latency | None = attrs.field(default=None, repr=False)
    toolchain: ToolchainRecord = attrs.field(factory=ToolchainRecord, repr=False)


@attrs.frozen(kw_only=True, eq=False)
class CalibratedModel:
    """The same with ranges: ``module`` holds observers that have seen the data of ``statistics``.

    ``statistics`` is ``None`` where no range comes from data, or a training loop made the ranges.
    """

    prepared: PreparedModel
    module: fx.GraphModule = attrs.field(repr=False)
    statistics: Statistics | None = attrs.field(default=None, repr=False)

    @property
    def batches(self) -> int:
        """Number of batches that were observed."""
        return 0 if self.statistics is None else self.statistics.batches

    @property
    def data_digest(self) -> str:
        """A digest of all batches in any order, ``""`` where there was none."""
        return "" if self.statistics is None else self.statistics.data_digest

    @property
    def sample(self) -> tuple[tuple[torch.Tensor, ...], ...]:
        """Some of the batches, flat, by which ``convert`` judges what it tries."""
        held = () if self.statistics is None else self.statistics.sample.held
        return tuple(batch.leaves for batch in held)

    def with_estimator(self, estimator: RangeEstimator | Estimator | str) -> CalibratedModel:
        """Another estimator on the same statistics; see ``quanthost.stages.calibrating.estimating``."""
        from quanthost.stages.calibrating.estimating import with_estimator

        return with_estimator(self, estimator)


@attrs.frozen(kw_only=True, eq=False)
class ConvertedModel:
    """The quantized graph in one of the representations; ``module`` runs in eager torch.

    ``arithmetic`` is the profile of its integer operators, ``None`` in q/dq form.
    """

    calibrated: CalibratedModel
    module: fx.GraphModule = attrs.field(repr=False)
    representation: Representation
    decisions: tuple[Decision, ...] = attrs.field(repr=False)
    refinement: Refinement | None = None
    arithmetic: ArithmeticProfile | None = None
    toolchain: ToolchainRecord = attrs.field(factory=ToolchainRecord, repr=False)
