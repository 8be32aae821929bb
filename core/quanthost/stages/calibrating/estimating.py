"""Chooses ranges again from the same statistics with another estimator, without running data again."""

from __future__ import annotations

import attrs
from torch import fx

from quanthost.errors import RequestError
from quanthost.toolchain.observers import RangeObserver
from quanthost.toolchain.pt2e import deep_copy
from quanthost.values import Estimator, RangeEstimator

__all__ = ["reestimate"]

_ON_SKETCHES = tuple(kind for kind in Estimator if kind is not Estimator.MOVING_AVERAGE)


def reestimate(
    module: fx.GraphModule,
    estimator: RangeEstimator | Estimator | str,
    *,
    recipe: str,
    is_static: bool,
) -> fx.GraphModule:
    """A copy of an observed graph in which another estimator chooses each range that comes from data.

    Weights keep the estimators of their recipe, which sees all of their values.

    Args:
        module: Its observers hold statistics.
        estimator: A kind by value or name, or one with its parameters.
        recipe: The name of the recipe, for errors.
        is_static: Whether the recipe takes ranges from data.

    Raises:
        RequestError: the estimator is unknown or depends on the order of the data, or no range comes from
        data.
    """
    value = _estimator(estimator)
    module = deep_copy(module)
    observers = [m for m in module.modules() if isinstance(m, RangeObserver) and m.observes_data]
    if not observers:
        if is_static:
            raise RequestError(
                f"the estimator {value.kind.value} where nothing is quantized", stage="calibrate",
                needed="an operator that the recipe quantizes", value=estimator,
                remedy="prepared.decisions has the reason of each operator: an override, or no row for it",
            )  # fmt: skip
        raise RequestError(
            f"the estimator {value.kind.value} for the recipe {recipe}",
            needed="a recipe with static ranges", stage="calibrate", value=estimator,
            remedy="leave the estimator out: this recipe takes no range from data",
        )  # fmt: skip
    for observer in observers:
        observer.spec = attrs.evolve(observer.spec, estimator=value)
        observer.chosen = None
    return module


def _estimator(estimator: RangeEstimator | Estimator | str) -> RangeEstimator:
    kind = estimator.kind if isinstance(estimator, RangeEstimator) else estimator
    by_name = {each.value: each for each in _ON_SKETCHES}
    if kind not in by_name and kind not in by_name.values():
        text = kind.value if isinstance(kind, Estimator) else repr(kind)
        raise RequestError(
            f"the estimator {text}", needed="one of " + ", ".join(by_name), stage="calibrate",
            remedy="choose one of these; their ranges do not depend on the order of the data",
            value=estimator,
        )  # fmt: skip
    return estimator if isinstance(estimator, RangeEstimator) else RangeEstimator(kind=Estimator(kind))
