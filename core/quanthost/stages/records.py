"""The frozen records that the stages after ``capture`` pass on: prepared, calibrated and converted model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from quanthost.stages.calibrating.estimating import reestimate
from quanthost.values import (
    ArithmeticProfile,
    Decision,
    Estimator,
    Finding,
    Kernel,
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
    """An observed graph with decisions; ``module`` is trained by the caller where ``request.qat``.

    ``latency`` is the expected latency if the placement optimizes for it, else ``None``.
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
    """A prepared model with ranges: the observers of ``module`` hold ``statistics``.

    ``statistics`` is ``None`` if no range comes from data, or if training chose the ranges.
    """

    prepared: PreparedModel
    module: fx.GraphModule = attrs.field(repr=False)
    statistics: Statistics | None = attrs.field(default=None, repr=False)

    @property
    def batches(self) -> int:
        """Number of observed batches."""
        return 0 if self.statistics is None else self.statistics.batches

    @property
    def data_digest(self) -> str:
        """A digest of all batches that does not depend on their order, ``""`` without data."""
        return "" if self.statistics is None else self.statistics.data_digest

    @property
    def sample(self) -> tuple[tuple[torch.Tensor, ...], ...]:
        """Some of the batches, flat, on which ``convert`` compares its trials."""
        batches = () if self.statistics is None else self.statistics.sample.batches
        return tuple(batch.leaves for batch in batches)

    def with_estimator(self, estimator: RangeEstimator | Estimator | str) -> CalibratedModel:
        """The same statistics with ranges from another estimator.

        Weights keep the estimators of their recipe, which sees all of their values.

        Raises:
            RequestError: the estimator is unknown or depends on the order of the data, or no range comes from
                data.
        """
        request, plugins = self.prepared.request, self.prepared.plugins
        recipe = plugins.info(request.backends[0]).recipe(request.recipe)
        is_static = recipe is not None and recipe.kernel is Kernel.STATIC
        module = reestimate(self.module, estimator, recipe=request.recipe, is_static=is_static)
        return attrs.evolve(self, module=module)


@attrs.frozen(kw_only=True, eq=False)
class ConvertedModel:
    """The quantized graph in one representation; ``module`` runs in eager torch.

    ``arithmetic`` is the profile of its integer operators, ``None`` in the q/dq representation. ``findings``
    are the parts of which quantization leaves nearly nothing, on the batch sample.
    """

    calibrated: CalibratedModel
    module: fx.GraphModule = attrs.field(repr=False)
    representation: Representation
    decisions: tuple[Decision, ...] = attrs.field(repr=False)
    refinement: Refinement | None = None
    findings: tuple[Finding, ...] = ()
    arithmetic: ArithmeticProfile | None = None
    toolchain: ToolchainRecord = attrs.field(factory=ToolchainRecord, repr=False)
