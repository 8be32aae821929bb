"""``with_estimator``: other ranges from the same statistics, without running data again."""

from __future__ import annotations

import attrs

from quanthost.errors import RequestError
from quanthost.stages.records import CalibratedModel
from quanthost.toolchain.observers import RangeObserver
from quanthost.toolchain.pt2e import deep_copy
from quanthost.values import Estimator, RangeEstimator

__all__ = ["with_estimator"]

_ON_SKETCHES = tuple(kind for kind in Estimator if kind is not Estimator.MOVING_AVERAGE)


def with_estimator(
    calibrated: CalibratedModel, estimator: RangeEstimator | Estimator | str
) -> CalibratedModel:
    """The same statistics, of which another estimator chooses each range that comes from data.

    Weights keep the estimators of their recipe: their values are all there is to see.

    Raises:
        RequestError: there is no such estimator, it depends on the order of the data, or the model has
            no range that comes from data.
    """
    chosen = _estimator(estimator)
    module = deep_copy(calibrated.module)
    observers = [m for m in module.modules() if isinstance(m, RangeObserver) and m.is_of_data]
    if not observers:
        raise RequestError(
            f"the estimator {chosen.kind.value} for the recipe {calibrated.prepared.request.recipe}",
            needed="a recipe with static ranges", stage="calibrate", value=estimator,
            remedy="leave it out: this recipe takes no range from data",
        )  # fmt: skip
    for observer in observers:
        observer.spec = attrs.evolve(observer.spec, estimator=chosen)
        observer.chosen = None
    return attrs.evolve(calibrated, module=module)


def _estimator(given: RangeEstimator | Estimator | str) -> RangeEstimator:
    kind = given.kind if isinstance(given, RangeEstimator) else given
    named = {each.value: each for each in _ON_SKETCHES}
    if kind not in named and kind not in named.values():
        text = kind.value if isinstance(kind, Estimator) else repr(kind)
        raise RequestError(
            f"the estimator {text}", needed="one of " + ", ".join(named), stage="calibrate",
            remedy="choose one of these; their ranges do not depend on the order of the data", value=given,
        )  # fmt: skip
    return given if isinstance(given, RangeEstimator) else RangeEstimator(kind=Estimator(kind))
