"""Faults of qspecs: how each tensor is quantized."""

from __future__ import annotations

from typing import Any

import attrs
from chip_backends import ACTIVATION, INFO, RECIPE, changed, portable
from seeded import SeededFault

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


class _ChangedChoice(TableBackend):
    """Changes the choice for one capture of a match, or drops it if ``changed`` returns ``None``."""

    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return spec

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        choice = super().quanthost_choose_qspecs(match, request)
        if isinstance(choice, Refusal):
            return choice
        specs = {name: self.changed(match, name, spec) for name, spec in choice.qspecs}
        return QSpecChoice(qspecs={name: spec for name, spec in specs.items() if spec is not None})


class AffineWeights(_ChangedChoice):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        affine = match.role(capture) is Role.WEIGHT and isinstance(spec, QSpec)
        return attrs.evolve(spec, symmetry=Symmetry.AFFINE, quant_min=-128) if affine else spec


class WholeRangeOfWeights(_ChangedChoice):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return attrs.evolve(spec, quant_min=-128) if match.role(capture) is Role.WEIGHT else spec


class OneScale(_ChangedChoice):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        if match.role(capture) is not Role.WEIGHT or not match.row.startswith("conv2d"):
            return spec
        return attrs.evolve(spec, granularity=Granularity.PER_TENSOR, axis=None)


class ForgetsOutput(_ChangedChoice):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return None if match.row == "add" and capture == "output" else spec


class ForgetsOther(_ChangedChoice):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return None if match.row == "add" and capture == "other" else spec


class FloatBias(_ChangedChoice):
    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return None if match.role(capture) is Role.BIAS and match.row == "linear" else spec


class Unsigned(_ChangedChoice):
    """Results are uint8, as in an older version of the target."""

    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return QSpec(dtype=DType.UINT8) if match.row == "relu" and isinstance(spec, QSpec) else spec


class IgnoresFixed(_ChangedChoice):
    """Observes a range that the row fixes."""

    def changed(self, match: Match, capture: str, spec: AnyQSpec) -> AnyQSpec | None:
        return ACTIVATION if isinstance(spec, FixedQSpec) else spec


def _recipe(**fields: Any) -> Any:
    return attrs.evolve(INFO, recipes=(attrs.evolve(RECIPE, **fields),))


def _fixed(scale: float, zero_point: int) -> dict[str, AnyQSpec]:
    return {"output": FixedQSpec(dtype=DType.INT8, scale=scale, zero_point=zero_point)}


def _faulty(name: str, fault: str, backend: TableBackend, row: str) -> SeededFault:
    return SeededFault(
        name=name, fault=fault, area=Area.QSPECS, only=(f"qspecs/*/{row}/*",), make=lambda _: backend
    )


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
        "pool_does_not_share", "The result of a pool need not have the parameters of its input.",
        portable(rows=changed("max_pool2d", shares=())), "max_pool2d",
    ),
    _faulty(
        "join_does_not_share", "Concatenated tensors have their own parameters.",
        portable(rows=changed("cat", shares=())), "cat",
    ),
    _faulty(
        "join_shares_inputs_alone",
        "The result of a concatenation does not share the parameters of its inputs.",
        portable(rows=changed("cat", shares=("inputs",))), "cat",
    ),
    _faulty(
        "bias_without_weight", "The scale of the bias is that of the input, without the weight's.",
        portable(info=_recipe(bias=DerivedQSpec(sources=("input",)))), "conv2d",
    ),
    _faulty(
        "bias_of_its_own", "The bias has its own scale, so that it cannot be added to the sums.",
        portable(info=_recipe(bias=QSpec(dtype=DType.INT32, symmetry=Symmetry.SYMMETRIC))), "conv2d",
    ),
    _faulty(
        "float_bias", "The bias of one operator stays float, though the recipe quantizes biases.",
        portable(FloatBias), "linear",
    ),
    _faulty(
        "fixed_range_too_small", "A fixed range holds only half of the function's results.",
        portable(rows=changed("sigmoid", qspecs=_fixed(1 / 256, 0))), "sigmoid",
    ),
    _faulty(
        "fixed_range_of_another", "A fixed range is that of another function.",
        portable(rows=changed("sigmoid", qspecs=_fixed(1 / 512, -128))), "sigmoid",
    ),
    _faulty("ignores_fixed_range", "A range is observed although the row fixes it.",
            portable(IgnoresFixed), "sigmoid"),
    _faulty(
        "affine_weights", "Weights get a zero point, though the target needs symmetric weights.",
        portable(AffineWeights), "conv2d",
    ),
    _faulty(
        "whole_range_of_weights", "Weights use -128, whose square the target cannot accumulate.",
        portable(WholeRangeOfWeights), "linear",
    ),
    _faulty("one_scale", "Weights get one scale, though one for each channel is declared.",
            portable(OneScale), "conv2d"),
    _faulty("unsigned_results", "A result is uint8, though the recipe says int8.",
            portable(Unsigned), "relu"),
    _faulty("forgets_output", "A result gets no qspec, and stays float.", portable(ForgetsOutput), "add"),
    _faulty("forgets_operand", "The second operand gets no qspec, and stays float.",
            portable(ForgetsOther), "add"),
)  # fmt: skip
