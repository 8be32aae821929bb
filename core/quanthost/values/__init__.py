"""Frozen values, validated on creation, with a JSON round trip and a stable digest.

Modules load lazily when one of their values is first used, so that listing backends stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quanthost.exports import lazy_exports

if TYPE_CHECKING:
    from quanthost.values.backend_info import BackendInfo as BackendInfo
    from quanthost.values.codec import digest as digest
    from quanthost.values.codec import from_data as from_data
    from quanthost.values.codec import from_json as from_json
    from quanthost.values.codec import to_data as to_data
    from quanthost.values.codec import to_json as to_json
    from quanthost.values.cost_table import ConversionCost as ConversionCost
    from quanthost.values.cost_table import CostTable as CostTable
    from quanthost.values.cost_table import Latency as Latency
    from quanthost.values.cost_table import Prices as Prices
    from quanthost.values.cost_table import SiteCost as SiteCost
    from quanthost.values.cost_table import Sizes as Sizes
    from quanthost.values.decision import Cause as Cause
    from quanthost.values.decision import Decision as Decision
    from quanthost.values.decision import Gain as Gain
    from quanthost.values.decision import Match as Match
    from quanthost.values.decision import QSpecChoice as QSpecChoice
    from quanthost.values.decision import Refusal as Refusal
    from quanthost.values.decision import Verdict as Verdict
    from quanthost.values.finding import Finding as Finding
    from quanthost.values.finding import FindingKind as FindingKind
    from quanthost.values.manifest import Manifest as Manifest
    from quanthost.values.override import Override as Override
    from quanthost.values.profile import FP32_HALF_EVEN as FP32_HALF_EVEN
    from quanthost.values.profile import GEMMLOWP as GEMMLOWP
    from quanthost.values.profile import POWER_OF_TWO as POWER_OF_TWO
    from quanthost.values.profile import PROFILES as PROFILES
    from quanthost.values.profile import SINGLE_ROUNDING as SINGLE_ROUNDING
    from quanthost.values.profile import TOSA as TOSA
    from quanthost.values.profile import TOSA_DOUBLE_ROUND as TOSA_DOUBLE_ROUND
    from quanthost.values.profile import ArithmeticProfile as ArithmeticProfile
    from quanthost.values.profile import Rescaling as Rescaling
    from quanthost.values.program_record import EstimatorTrial as EstimatorTrial
    from quanthost.values.program_record import LeafSource as LeafSource
    from quanthost.values.program_record import OutputLeaf as OutputLeaf
    from quanthost.values.program_record import PieceRecord as PieceRecord
    from quanthost.values.program_record import PluginRecord as PluginRecord
    from quanthost.values.program_record import ProgramRecord as ProgramRecord
    from quanthost.values.program_record import Refinement as Refinement
    from quanthost.values.program_record import TensorQParams as TensorQParams
    from quanthost.values.program_record import ToolchainRecord as ToolchainRecord
    from quanthost.values.qspec import AnyQSpec as AnyQSpec
    from quanthost.values.qspec import DerivedQSpec as DerivedQSpec
    from quanthost.values.qspec import DType as DType
    from quanthost.values.qspec import Estimator as Estimator
    from quanthost.values.qspec import FixedQSpec as FixedQSpec
    from quanthost.values.qspec import Granularity as Granularity
    from quanthost.values.qspec import QSpec as QSpec
    from quanthost.values.qspec import RangeEstimator as RangeEstimator
    from quanthost.values.qspec import ScaleFormat as ScaleFormat
    from quanthost.values.qspec import SharedQSpec as SharedQSpec
    from quanthost.values.qspec import Symmetry as Symmetry
    from quanthost.values.qspec import Timing as Timing
    from quanthost.values.recipe import Kernel as Kernel
    from quanthost.values.recipe import Recipe as Recipe
    from quanthost.values.recipe import Role as Role
    from quanthost.values.request import Io as Io
    from quanthost.values.request import Objective as Objective
    from quanthost.values.request import Placement as Placement
    from quanthost.values.request import Representation as Representation
    from quanthost.values.request import Request as Request
    from quanthost.values.request import Toolchain as Toolchain
else:
    __getattr__, __dir__ = lazy_exports(__name__)
