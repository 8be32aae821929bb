"""Faults of qspecs: what each tensor is quantized to."""

from __future__ import annotations

from typing import Any

import attrs
from chip_backends import ACTIVATION, INFO, RECIPE, changed, portable
from seeded import Faulty

from quanthost.api import (
    AnyQSpec,
    DerivedQSpec,
    DType,
    FixedQSpec,
    Granularity,
    Match,
    QSpec,
    QSpecChoice,
    Refusal,
    Request,
    Role,
    Symmetry,
    TableBackend,
    hookimpl,
)
from quanthost.testing import Area

__all__ = ["FAULTS"]


class _Chooses(TableBackend):
    """Changes the choice for one capture of a match, or leaves it out where ``changed`` gives ``None``."""

    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return spec

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        choice = super().quanthost_choose_qspecs(match, request)
        if isinstance(choice, Refusal):
            return choice
        specs = {name: self.changed(match, name, spec) for name, spec in choice.qspecs}
        return QSpecChoice(qspecs={name: spec for name, spec in specs.items() if spec is not None})


class AffineWeights(_Chooses):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        affine = match.role(capture) is Role.WEIGHT and isinstance(spec, QSpec)
        return attrs.evolve(spec, symmetry=Symmetry.AFFINE, quant_min=-128) if affine else spec


class WholeRangeOfWeights(_Chooses):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return attrs.evolve(spec, quant_min=-128) if match.role(capture) is Role.WEIGHT else spec


class OneScale(_Chooses):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        if match.role(capture) is not Role.WEIGHT or not match.row.startswith("conv2d"):
            return spec
        return attrs.evolve(spec, granularity=Granularity.PER_TENSOR, axis=None)


class ForgetsOutput(_Chooses):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return None if match.row == "add" and capture == "output" else spec


class ForgetsOther(_Chooses):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return None if match.row == "add" and capture == "other" else spec


class FloatBias(_Chooses):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return None if match.role(capture) is Role.BIAS and match.row == "linear" else spec


class Unsigned(_Chooses):
    """Results in uint8, as the target had them before."""

    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return QSpec(dtype=DType.UINT8) if match.row == "relu" and isinstance(spec, QSpec) else spec


class IgnoresFixed(_Chooses):
    """Observes what the row fixes."""

    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return ACTIVATION if isinstance(spec, FixedQSpec) else spec


def _recipe(**fields: Any) -> Any:
    return attrs.evolve(INFO, recipes=(attrs.evolve(RECIPE, **fields),))


def _fixed(scale: float, zero_point: int) -> dict[str, AnyQSpec]:
    return {"output": FixedQSpec(dtype=DType.INT8, scale=scale, zero_point=zero_point)}


def _faulty(name: str, fault: str, given: TableBackend, row: str) -> Faulty:
    return Faulty(name=name, fault=fault, area=Area.QSPECS, only=(f"qspecs/*/{row}/*",), make=lambda _: given)


FAULTS = (
    _faulty(
        "wrong_axis", "Scales for channels lie along the wrong axis of a transposed convolution's weight.",
        portable(rows=changed("conv_transpose2d", weight_axis=0)), "conv_transpose2d",
    ),
    _faulty(
        "wrong_axis_of_linear", "Scales for channels lie along the inputs of a linear layer.",
        portable(rows=changed("linear", weight_axis=1)), "linear",
    ),
    _faulty(
        "pool_does_not_share", "A pool's result need not have the parameters of what it picks from.",
        portable(rows=changed("max_pool2d", shares=())), "max_pool2d",
    ),
    _faulty(
        "join_does_not_share", "Tensors that are joined have parameters of their own.",
        portable(rows=changed("cat", shares=())), "cat",
    ),
    _faulty(
        "join_shares_inputs_alone", "The joined result is left out of those that share.",
        portable(rows=changed("cat", shares=("inputs",))), "cat",
    ),
    _faulty(
        "bias_without_weight", "The bias has the input's scale, without the weight's.",
        portable(info=_recipe(bias=DerivedQSpec(sources=("input",)))), "conv2d",
    ),
    _faulty(
        "bias_of_its_own", "The bias has a scale of its own, so that it cannot be added to the sums.",
        portable(info=_recipe(bias=QSpec(dtype=DType.INT32, symmetry=Symmetry.SYMMETRIC))), "conv2d",
    ),
    _faulty(
        "float_bias", "The bias of one operator stays float, though the recipe quantizes biases.",
        portable(FloatBias), "linear",
    ),
    _faulty(
        "fixed_range_too_small", "A fixed range holds half of what the function makes.",
        portable(rows=changed("sigmoid", qspecs=_fixed(1 / 256, 0))), "sigmoid",
    ),
    _faulty(
        "fixed_range_of_another", "A fixed range is that of another function.",
        portable(rows=changed("sigmoid", qspecs=_fixed(1 / 512, -128))), "sigmoid",
    ),
    _faulty("ignores_fixed_range", "A range is observed where the row fixes it.",
            portable(IgnoresFixed), "sigmoid"),
    _faulty(
        "affine_weights", "Weights get a zero point, where the target needs them symmetric.",
        portable(AffineWeights), "conv2d",
    ),
    _faulty(
        "whole_range_of_weights", "Weights use -128, whose product with itself the target cannot add.",
        portable(WholeRangeOfWeights), "linear",
    ),
    _faulty("one_scale", "Weights get one scale, where one for each channel is declared.",
            portable(OneScale), "conv2d"),
    _faulty("unsigned_results", "A result is uint8, where the recipe says int8.", portable(Unsigned), "relu"),
    _faulty("forgets_output", "A result gets no qspec, and stays float.", portable(ForgetsOutput), "add"),
    _faulty("forgets_operand", "The second operand gets no qspec, and stays float.",
            portable(ForgetsOther), "add"),
)  # fmt: skip
