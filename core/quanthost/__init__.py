"""quanthost: a host for ExecuTorch backend quantizers.

Name a backend; the host captures, prepares, calibrates, converts and lowers a model to a ``.pte`` that the
ExecuTorch runtime executes, and says for each node what became of it and why.

Importing this package loads no torch; the toolchain is imported when a stage is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from quanthost.errors import QuanthostError
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

if TYPE_CHECKING:
    from quanthost.host.bridges import as_export_recipe, as_partitioners, as_quantizer
    from quanthost.host.discovery import Policy, installed
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
    from quanthost.host.programs import load
    from quanthost.stages.bits import compare_bits
    from quanthost.stages.program import LoweredProgram
    from quanthost.stages.statistics import Statistics, merge_statistics

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
    "QuanthostError",
    "RangeEstimator",
    "SharedQSpec",
    "Statistics",
    "Symmetry",
    "Timing",
    "Verdict",
    "as_export_recipe",
    "as_partitioners",
    "as_quantizer",
    "calibrate",
    "capture",
    "collect_statistics",
    "compare_bits",
    "convert",
    "installed",
    "load",
    "lower",
    "measure_costs",
    "merge_statistics",
    "prepare",
    "quantize",
]

_LATE = {
    "compare_bits": "quanthost.stages.bits",
    "LoweredProgram": "quanthost.stages.program",
    "Statistics": "quanthost.stages.statistics",
    "Policy": "quanthost.host.discovery",
    "as_export_recipe": "quanthost.host.bridges",
    "as_partitioners": "quanthost.host.bridges",
    "as_quantizer": "quanthost.host.bridges",
    "calibrate": "quanthost.host.pipeline",
    "capture": "quanthost.host.pipeline",
    "collect_statistics": "quanthost.host.pipeline",
    "convert": "quanthost.host.pipeline",
    "installed": "quanthost.host.discovery",
    "load": "quanthost.host.programs",
    "lower": "quanthost.host.pipeline",
    "measure_costs": "quanthost.host.measuring",
    "merge_statistics": "quanthost.stages.statistics",
    "prepare": "quanthost.host.pipeline",
    "quantize": "quanthost.host.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'quanthost' has no attribute {name!r}")
    from quanthost.toolchain.quiet import quiet_imports

    with quiet_imports():
        return getattr(importlib.import_module(_LATE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
