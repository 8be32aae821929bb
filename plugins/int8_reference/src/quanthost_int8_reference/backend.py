"""The plugin object that the entry point names."""

from __future__ import annotations

import attrs

from quanthost.api import (
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
        if activation.dtype is not DType.UINT8:
            return choice
        return QSpecChoice(qspecs={name: _unsigned(spec) for name, spec in choice.qspecs})


def _unsigned(spec: AnyQSpec) -> AnyQSpec:
    """The same real range in uint8: ``q_uint8 = q_int8 + 128``."""
    if not isinstance(spec, FixedQSpec) or spec.dtype is not DType.INT8:
        return spec
    return attrs.evolve(
        spec, dtype=DType.UINT8, zero_point=spec.zero_point + _UNSIGNED,
        quant_min=spec.quant_min + _UNSIGNED, quant_max=spec.quant_max + _UNSIGNED,
    )  # fmt: skip


backend = Int8Reference(
    info=BackendInfo(name="int8_reference", recipes=RECIPES),
    table=TABLE,
    rewrites=REWRITES,
    lowering=LoweringOptions(runtime_modules=("executorch.kernels.quantized",)),
)
