"""What plugin authors import: table, hooks and values; nothing else of quanthost is for plugins."""

from __future__ import annotations

from quanthost.deprecation import Deprecated, QuanthostDeprecationWarning, old_names
from quanthost.errors import QuanthostError
from quanthost.graph.operators import argument, operator_name
from quanthost.graph.pattern import Binding, Op, bind, op
from quanthost.graph.rewrite import Rewriter
from quanthost.graph.table import Claim, Constraint, Row, Site, SupportTable, constraint
from quanthost.graph.view import constant, is_dequantize, is_quantize, tensor_meta
from quanthost.hooks.backend import TableBackend
from quanthost.hooks.simulated import Runner, compile_portable, execute_portable, simulated_runner
from quanthost.hooks.specs import LoweringOptions, Problem, RowMiss, hookimpl
from quanthost.hooks.wrapped import WrappedBackend
from quanthost.toolchain.fingerprints import Fingerprints
from quanthost.toolchain.replacement import Replacement
from quanthost.values import (
    FP32_HALF_EVEN,
    GEMMLOWP,
    POWER_OF_TWO,
    SINGLE_ROUNDING,
    TOSA,
    TOSA_DOUBLE_ROUND,
    AnyQSpec,
    ArithmeticProfile,
    BackendInfo,
    Cause,
    Decision,
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Gain,
    Granularity,
    Kernel,
    Match,
    PieceRecord,
    QSpec,
    QSpecChoice,
    RangeEstimator,
    Recipe,
    Refusal,
    Request,
    Rescaling,
    Role,
    ScaleFormat,
    SharedQSpec,
    Symmetry,
    Timing,
)

__all__ = [
    "FP32_HALF_EVEN",
    "GEMMLOWP",
    "POWER_OF_TWO",
    "SINGLE_ROUNDING",
    "TOSA",
    "TOSA_DOUBLE_ROUND",
    "AnyQSpec",
    "ArithmeticProfile",
    "BackendInfo",
    "Binding",
    "Cause",
    "Claim",
    "Constraint",
    "DType",
    "Decision",
    "DerivedQSpec",
    "Estimator",
    "Fingerprints",
    "FixedQSpec",
    "Gain",
    "Granularity",
    "Kernel",
    "LoweringOptions",
    "Match",
    "Op",
    "PieceRecord",
    "Problem",
    "QSpec",
    "QSpecChoice",
    "QuanthostDeprecationWarning",
    "QuanthostError",
    "RangeEstimator",
    "Recipe",
    "Refusal",
    "Replacement",
    "Request",
    "Rescaling",
    "Rewriter",
    "Role",
    "Row",
    "RowMiss",
    "Runner",
    "ScaleFormat",
    "SharedQSpec",
    "Site",
    "SupportTable",
    "Symmetry",
    "TableBackend",
    "Timing",
    "WrappedBackend",
    "argument",
    "bind",
    "compile_portable",
    "constant",
    "constraint",
    "execute_portable",
    "hookimpl",
    "is_dequantize",
    "is_quantize",
    "op",
    "operator_name",
    "simulated_runner",
    "tensor_meta",
]

# names that plugins may still import, and what is instead of each
_OLD: dict[str, Deprecated] = {}
__getattr__ = old_names(__name__, _OLD)
