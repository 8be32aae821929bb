"""The plugin object that the entry point names."""

from __future__ import annotations

from quanthost.api import (
    FP32_HALF_EVEN,
    AnyQSpec,
    BackendInfo,
    Kernel,
    LoweringOptions,
    Match,
    QSpec,
    QSpecChoice,
    Refusal,
    Request,
    Role,
    TableBackend,
    Timing,
    hookimpl,
)
from quanthost_xnnpack_like.delegate import lowering_options, mark_implicit
from quanthost_xnnpack_like.recipes import PER_INPUT, RECIPES
from quanthost_xnnpack_like.rewrites import REWRITES
from quanthost_xnnpack_like.rows import TABLE

__all__ = ["XnnpackLike", "backend"]


class XnnpackLike(TableBackend):
    """The table, with one rule that a recipe cannot say."""

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        choice = super().quanthost_choose_qspecs(match, request)
        if isinstance(choice, Refusal) or match.kernel is not Kernel.DYNAMIC:
            return choice
        if not match.row.startswith("conv"):
            return choice
        specs = choice.as_dict()
        return QSpecChoice(qspecs={name: _for_conv(match.role(name), spec) for name, spec in specs.items()})

    @hookimpl
    def quanthost_lowering_options(self) -> LoweringOptions:
        return lowering_options()


def _for_conv(role: Role, spec: AnyQSpec) -> AnyQSpec:
    """A convolution has one range for each input at run time, not one for each row."""
    if role is Role.ACTIVATION and isinstance(spec, QSpec) and spec.timing is Timing.DYNAMIC:
        return PER_INPUT
    return spec


backend = XnnpackLike(
    info=BackendInfo(
        name="xnnpack_like", recipes=RECIPES, qat=True, runtime="XnnpackBackend", arithmetic=FP32_HALF_EVEN
    ),
    table=TABLE,
    delegate="XnnpackBackend",
    rewrites=REWRITES,
    mark=mark_implicit,
)
