"""The plugin object that the entry point names."""

from __future__ import annotations

import attrs

from quanthost.api import (
    SINGLE_ROUNDING,
    AnyQSpec,
    BackendInfo,
    DType,
    FixedQSpec,
    LoweringOptions,
    Match,
    QSpec,
    QSpecChoice,
    Refusal,
    Request,
    TableBackend,
    hookimpl,
)
from quanthost_int8_reference.recipes import RECIPES
from quanthost_int8_reference.rewrites import REWRITES
from quanthost_int8_reference.rows import TABLE

__all__ = ["Int8Reference", "backend"]

# from an int8 number to the uint8 number of the same real value
_UNSIGNED = 128


class Int8Reference(TableBackend):
    """The table, whose fixed ranges are written in int8, with those ranges in the recipe's dtype."""

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        choice = super().quanthost_choose_qspecs(match, request)
        activation = self.recipe(request).activation
        if isinstance(choice, Refusal) or not isinstance(activation, QSpec):
            return choice
        change = {DType.UINT8: _unsigned, DType.INT16: _wide}.get(activation.dtype)
        if change is None:
            return choice
        return QSpecChoice(qspecs={name: change(spec) for name, spec in choice.qspecs})

    @hookimpl
    def quanthost_lowering_options(self) -> LoweringOptions:
        # it imports executorch, which nothing before lowering needs
        from quanthost_int8_reference.saturation import SaturatesInfinities

        return attrs.evolve(self.lowering, passes=(SaturatesInfinities(),))


def _unsigned(spec: AnyQSpec) -> AnyQSpec:
    """The same real range in uint8: ``q_uint8 = q_int8 + 128``."""
    if not isinstance(spec, FixedQSpec) or spec.dtype is not DType.INT8:
        return spec
    return attrs.evolve(
        spec, dtype=DType.UINT8, zero_point=spec.zero_point + _UNSIGNED,
        quant_min=spec.quant_min + _UNSIGNED, quant_max=spec.quant_max + _UNSIGNED,
    )  # fmt: skip


def _wide(spec: AnyQSpec) -> AnyQSpec:
    """LiteRT's 16-bit range of the same function: from -1 to 1 in steps of 2^-15."""
    if not isinstance(spec, FixedQSpec) or spec.dtype is not DType.INT8:
        return spec
    return FixedQSpec(dtype=DType.INT16, scale=2.0**-15, zero_point=0, quant_min=-32768, quant_max=32767)


backend = Int8Reference(
    info=BackendInfo(name="int8_reference", recipes=RECIPES, arithmetic=SINGLE_ROUNDING),
    table=TABLE,
    rewrites=REWRITES,
    lowering=LoweringOptions(runtime_modules=("executorch.kernels.quantized",)),
)
