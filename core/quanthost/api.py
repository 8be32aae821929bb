"""What plugin authors import: table, hooks and values; nothing else of quanthost is for plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quanthost.deprecation import Deprecated
from quanthost.exports import lazy_exports

if TYPE_CHECKING:
    from quanthost.deprecation import QuanthostDeprecationWarning as QuanthostDeprecationWarning
    from quanthost.errors import QuanthostError as QuanthostError
    from quanthost.graph.constraints import alpha_is_one as alpha_is_one
    from quanthost.graph.constraints import grouped as grouped
    from quanthost.graph.constraints import not_grouped as not_grouped
    from quanthost.graph.operator_facts import OperatorFacts as OperatorFacts
    from quanthost.graph.operator_facts import operator_facts as operator_facts
    from quanthost.graph.operators import argument as argument
    from quanthost.graph.operators import operator_name as operator_name
    from quanthost.graph.pattern import Binding as Binding
    from quanthost.graph.pattern import Op as Op
    from quanthost.graph.pattern import bind as bind
    from quanthost.graph.pattern import op as op
    from quanthost.graph.qdq import QdqParameters as QdqParameters
    from quanthost.graph.qdq import qdq_parameters as qdq_parameters
    from quanthost.graph.rewrite import Rewriter as Rewriter
    from quanthost.graph.rules import rewrite_each as rewrite_each
    from quanthost.graph.rules import slice_parts as slice_parts
    from quanthost.graph.table import Claim as Claim
    from quanthost.graph.table import Constraint as Constraint
    from quanthost.graph.table import Row as Row
    from quanthost.graph.table import Site as Site
    from quanthost.graph.table import SupportTable as SupportTable
    from quanthost.graph.table import constraint as constraint
    from quanthost.graph.view import constant as constant
    from quanthost.graph.view import is_dequantize as is_dequantize
    from quanthost.graph.view import is_quantize as is_quantize
    from quanthost.graph.view import tensor_meta as tensor_meta
    from quanthost.hooks.backend import TableBackend as TableBackend
    from quanthost.hooks.simulated import Runner as Runner
    from quanthost.hooks.simulated import compile_portable as compile_portable
    from quanthost.hooks.simulated import execute_portable as execute_portable
    from quanthost.hooks.simulated import simulated_runner as simulated_runner
    from quanthost.hooks.specs import LoweringOptions as LoweringOptions
    from quanthost.hooks.specs import Problem as Problem
    from quanthost.hooks.specs import RowMiss as RowMiss
    from quanthost.hooks.specs import hookimpl as hookimpl
    from quanthost.hooks.wrapped import WrappedBackend as WrappedBackend
    from quanthost.values import FP32_HALF_EVEN as FP32_HALF_EVEN
    from quanthost.values import GEMMLOWP as GEMMLOWP
    from quanthost.values import POWER_OF_TWO as POWER_OF_TWO
    from quanthost.values import SINGLE_ROUNDING as SINGLE_ROUNDING
    from quanthost.values import TOSA as TOSA
    from quanthost.values import TOSA_DOUBLE_ROUND as TOSA_DOUBLE_ROUND
    from quanthost.values import AnyQSpec as AnyQSpec
    from quanthost.values import ArithmeticProfile as ArithmeticProfile
    from quanthost.values import BackendInfo as BackendInfo
    from quanthost.values import Cause as Cause
    from quanthost.values import Decision as Decision
    from quanthost.values import DerivedQSpec as DerivedQSpec
    from quanthost.values import DType as DType
    from quanthost.values import Estimator as Estimator
    from quanthost.values import FixedQSpec as FixedQSpec
    from quanthost.values import Gain as Gain
    from quanthost.values import Granularity as Granularity
    from quanthost.values import Kernel as Kernel
    from quanthost.values import Match as Match
    from quanthost.values import PieceRecord as PieceRecord
    from quanthost.values import QSpec as QSpec
    from quanthost.values import QSpecChoice as QSpecChoice
    from quanthost.values import RangeEstimator as RangeEstimator
    from quanthost.values import Recipe as Recipe
    from quanthost.values import Refusal as Refusal
    from quanthost.values import Request as Request
    from quanthost.values import Rescaling as Rescaling
    from quanthost.values import Role as Role
    from quanthost.values import ScaleFormat as ScaleFormat
    from quanthost.values import SharedQSpec as SharedQSpec
    from quanthost.values import Symmetry as Symmetry
    from quanthost.values import Timing as Timing
else:
    # names that plugins may still import, and what replaces each
    _OLD: dict[str, Deprecated] = {}
    __getattr__, __dir__ = lazy_exports(__name__, _OLD)
