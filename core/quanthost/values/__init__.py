"""Frozen values: each checked when made, each with a JSON round trip and a stable digest."""

from quanthost.values.codec import digest, from_data, from_json, to_data, to_json
from quanthost.values.decision import Cause, Decision, Gain, Match, QSpecChoice, Refusal, Verdict
from quanthost.values.manifest import BackendInfo, Manifest
from quanthost.values.override import Override
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

__all__ = [
    "AnyQSpec",
    "BackendInfo",
    "Cause",
    "DType",
    "Decision",
    "DerivedQSpec",
    "Estimator",
    "FixedQSpec",
    "Gain",
    "Granularity",
    "Kernel",
    "LeafSource",
    "Manifest",
    "Match",
    "OutputLeaf",
    "Override",
    "PieceRecord",
    "Placement",
    "PluginRecord",
    "ProgramRecord",
    "QSpec",
    "QSpecChoice",
    "RangeEstimator",
    "Recipe",
    "Refinement",
    "Refusal",
    "Representation",
    "Request",
    "Role",
    "ScaleFormat",
    "SharedQSpec",
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
