"""Frozen values: each checked when made, each with a JSON round trip and a stable digest."""

from typing import TYPE_CHECKING, Any

from quanthost.values.costs import ConversionCost, CostTable, Latency, Prices, SiteCost, Sizes
from quanthost.values.decision import Cause, Decision, Gain, Match, QSpecChoice, Refusal, Verdict
from quanthost.values.manifest import BackendInfo, Manifest
from quanthost.values.override import Override
from quanthost.values.profile import (
    FP32_HALF_EVEN,
    GEMMLOWP,
    POWER_OF_TWO,
    PROFILES,
    SINGLE_ROUNDING,
    TOSA,
    TOSA_DOUBLE_ROUND,
    ArithmeticProfile,
    Rescaling,
)
from quanthost.values.program import (
    LeafSource,
    OutputLeaf,
    PieceRecord,
    PluginRecord,
    ProgramRecord,
    Refinement,
    TensorQParams,
    Trial,
)
from quanthost.values.qspec import (
    AnyQSpec,
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Granularity,
    QSpec,
    RangeEstimator,
    ScaleFormat,
    SharedQSpec,
    Symmetry,
    Timing,
)
from quanthost.values.recipe import Kernel, Recipe, Role
from quanthost.values.request import Placement, Representation, Request

if TYPE_CHECKING:
    from quanthost.values.codec import digest, from_data, from_json, to_data, to_json

__all__ = [
    "FP32_HALF_EVEN",
    "GEMMLOWP",
    "POWER_OF_TWO",
    "PROFILES",
    "SINGLE_ROUNDING",
    "TOSA",
    "TOSA_DOUBLE_ROUND",
    "AnyQSpec",
    "ArithmeticProfile",
    "BackendInfo",
    "Cause",
    "ConversionCost",
    "CostTable",
    "DType",
    "Decision",
    "DerivedQSpec",
    "Estimator",
    "FixedQSpec",
    "Gain",
    "Granularity",
    "Kernel",
    "Latency",
    "LeafSource",
    "Manifest",
    "Match",
    "OutputLeaf",
    "Override",
    "PieceRecord",
    "Placement",
    "PluginRecord",
    "Prices",
    "ProgramRecord",
    "QSpec",
    "QSpecChoice",
    "RangeEstimator",
    "Recipe",
    "Refinement",
    "Refusal",
    "Representation",
    "Request",
    "Rescaling",
    "Role",
    "ScaleFormat",
    "SharedQSpec",
    "SiteCost",
    "Sizes",
    "Symmetry",
    "TensorQParams",
    "Timing",
    "Trial",
    "Verdict",
    "digest",
    "from_data",
    "from_json",
    "to_data",
    "to_json",
]


def __getattr__(name: str) -> Any:
    # what lists backends needs no JSON, and its library takes a fifth of the time to start
    if name in ("digest", "from_data", "from_json", "to_data", "to_json"):
        from quanthost.values import codec

        return getattr(codec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
