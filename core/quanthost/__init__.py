"""quanthost: a host for ExecuTorch backend quantizers.

Name a backend; the host captures, prepares, calibrates, converts and lowers a model to a ``.pte`` that the
ExecuTorch runtime executes, and says for each node what became of it and why.

Importing this package loads no torch; the toolchain is imported when a stage is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from quanthost.deprecation import Deprecated, QuanthostDeprecationWarning, old_names
from quanthost.errors import QuanthostError

if TYPE_CHECKING:
    from quanthost.host.bridges import as_export_recipe, as_partitioners, as_quantizer
    from quanthost.host.discovery import Policy, installed
    from quanthost.host.inspecting import trace, why
    from quanthost.host.loading import load
    from quanthost.host.measuring import measure_costs
    from quanthost.host.pipeline import (
        calibrate,
        capture,
        collect_statistics,
        convert,
        lower,
        prepare,
        quantize,
    )
    from quanthost.host.snapshots import snapshot_decisions
    from quanthost.host.target import Target
    from quanthost.inspection.bits import compare_bits
    from quanthost.inspection.differences import compare_decisions
    from quanthost.stages.calibrating.statistics import Statistics, merge_statistics
    from quanthost.stages.lowering.program import LoweredProgram
    from quanthost.values import (
        ArithmeticProfile,
        Decision,
        DerivedQSpec,
        DType,
        Estimator,
        FixedQSpec,
        Granularity,
        Override,
        QSpec,
        RangeEstimator,
        SharedQSpec,
        Symmetry,
        Timing,
        Verdict,
    )

__all__ = [
    "ArithmeticProfile",
    "DType",
    "Decision",
    "DerivedQSpec",
    "Estimator",
    "FixedQSpec",
    "Granularity",
    "LoweredProgram",
    "Override",
    "Policy",
    "QSpec",
    "QuanthostDeprecationWarning",
    "QuanthostError",
    "RangeEstimator",
    "SharedQSpec",
    "Statistics",
    "Symmetry",
    "Target",
    "Timing",
    "Verdict",
    "as_export_recipe",
    "as_partitioners",
    "as_quantizer",
    "calibrate",
    "capture",
    "collect_statistics",
    "compare_bits",
    "compare_decisions",
    "convert",
    "installed",
    "load",
    "lower",
    "measure_costs",
    "merge_statistics",
    "prepare",
    "quantize",
    "snapshot_decisions",
    "trace",
    "why",
]

_MODULES = {
    "quanthost.host.bridges": ("as_export_recipe", "as_partitioners", "as_quantizer"),
    "quanthost.host.discovery": ("Policy", "installed"),
    "quanthost.host.measuring": ("measure_costs",),
    "quanthost.host.pipeline": (
        "calibrate",
        "capture",
        "collect_statistics",
        "convert",
        "lower",
        "prepare",
        "quantize",
    ),
    "quanthost.host.loading": ("load",),
    "quanthost.host.inspecting": ("trace", "why"),
    "quanthost.host.snapshots": ("snapshot_decisions",),
    "quanthost.host.target": ("Target",),
    "quanthost.inspection.bits": ("compare_bits",),
    "quanthost.inspection.differences": ("compare_decisions",),
    "quanthost.stages.lowering.program": ("LoweredProgram",),
    "quanthost.stages.calibrating.statistics": ("Statistics", "merge_statistics"),
    "quanthost.values": (
        "ArithmeticProfile",
        "DType",
        "Decision",
        "DerivedQSpec",
        "Estimator",
        "FixedQSpec",
        "Granularity",
        "Override",
        "QSpec",
        "RangeEstimator",
        "SharedQSpec",
        "Symmetry",
        "Timing",
        "Verdict",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


# names that may still be imported, and what is instead of each
_OLD: dict[str, Deprecated] = {}
_old_name = old_names(__name__, _OLD)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        return _old_name(name)
    from quanthost.toolchain.quiet import quiet_imports

    with quiet_imports():
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
