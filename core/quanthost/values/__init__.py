"""Frozen values: each checked when made, each with a JSON round trip and a stable digest.

A module is loaded when one of its values is first asked for: what lists backends needs one of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quanthost.values.backend_info import BackendInfo
    from quanthost.values.codec import digest, from_data, from_json, to_data, to_json
    from quanthost.values.cost_table import ConversionCost, CostTable, Latency, Prices, SiteCost, Sizes
    from quanthost.values.decision import Cause, Decision, Gain, Match, QSpecChoice, Refusal, Verdict
    from quanthost.values.manifest import Manifest
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
    from quanthost.values.program_record import (
        LeafSource,
        OutputLeaf,
        PieceRecord,
        PluginRecord,
        ProgramRecord,
        Refinement,
        TensorQParams,
        ToolchainRecord,
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
    from quanthost.values.request import Placement, Representation, Request, Toolchain

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
    "Toolchain",
    "ToolchainRecord",
    "Trial",
    "Verdict",
    "digest",
    "from_data",
    "from_json",
    "to_data",
    "to_json",
]

_MODULES = {
    "backend_info": ("BackendInfo",),
    "codec": ("digest", "from_data", "from_json", "to_data", "to_json"),
    "cost_table": ("ConversionCost", "CostTable", "Latency", "Prices", "SiteCost", "Sizes"),
    "decision": ("Cause", "Decision", "Gain", "Match", "QSpecChoice", "Refusal", "Verdict"),
    "manifest": ("Manifest",),
    "override": ("Override",),
    "profile": (
        "ArithmeticProfile",
        "FP32_HALF_EVEN",
        "GEMMLOWP",
        "POWER_OF_TWO",
        "PROFILES",
        "Rescaling",
        "SINGLE_ROUNDING",
        "TOSA",
        "TOSA_DOUBLE_ROUND",
    ),
    "program_record": (
        "LeafSource",
        "OutputLeaf",
        "PieceRecord",
        "PluginRecord",
        "ProgramRecord",
        "Refinement",
        "TensorQParams",
        "ToolchainRecord",
        "Trial",
    ),
    "qspec": (
        "AnyQSpec",
        "DType",
        "DerivedQSpec",
        "Estimator",
        "FixedQSpec",
        "Granularity",
        "QSpec",
        "RangeEstimator",
        "ScaleFormat",
        "SharedQSpec",
        "Symmetry",
        "Timing",
    ),
    "recipe": ("Kernel", "Recipe", "Role"),
    "request": ("Placement", "Representation", "Request", "Toolchain"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
