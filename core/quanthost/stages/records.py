"""The frozen records that the stages after capture hand on, and the seams between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from quanthost.values import (
    ArithmeticProfile,
    Decision,
    Estimator,
    RangeEstimator,
    Refinement,
    Representation,
    Request,
)

if TYPE_CHECKING:
    import torch
    from torch import fx

    from quanthost.hooks.manager import Plugins
    from quanthost.stages.capture import CapturedModel

__all__ = ["CalibratedModel", "ConvertedModel", "PreparedModel"]


@attrs.frozen(kw_only=True, eq=False)
class PreparedModel:
    """An observed graph (``module``, or one to train where ``request.qat``), with decisions."""

    captured: CapturedModel
    request: Request
    plugins: Plugins = attrs.field(repr=False)
    module: fx.GraphModule = attrs.field(repr=False)
    decisions: tuple[Decision, ...] = attrs.field(repr=False)


@attrs.frozen(kw_only=True, eq=False)
class CalibratedModel:
    """The same with ranges: ``module`` holds observers that have seen ``batches`` batches.

    ``data_digest`` is over all tensors in order of arrival, ``""`` where a training loop made the ranges.
    ``sample`` are the first batches, flat, by which ``convert`` judges what it tries.
    """

    prepared: PreparedModel
    module: fx.GraphModule = attrs.field(repr=False)
    batches: int
    data_digest: str
    sample: tuple[tuple[torch.Tensor, ...], ...] = attrs.field(default=(), repr=False)

    def with_estimator(self, estimator: RangeEstimator | Estimator | str) -> CalibratedModel:
        """Another estimator on the same statistics; see ``quanthost.stages.estimating``."""
        from quanthost.stages.estimating import with_estimator

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
