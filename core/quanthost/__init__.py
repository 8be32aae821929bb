"""quanthost: a host for ExecuTorch backend quantizers.

Name a backend; the host captures, prepares, calibrates, converts and lowers a model to a ``.pte`` that the
ExecuTorch runtime executes, and says for each node what became of it and why.

Importing this package loads no torch; the toolchain is imported when a stage is first used.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from quanthost.deprecation import Deprecated
from quanthost.exports import lazy_exports

if TYPE_CHECKING:
    from quanthost.caller_warning import QuanthostWarning as QuanthostWarning
    from quanthost.deprecation import QuanthostDeprecationWarning as QuanthostDeprecationWarning
    from quanthost.errors import QuanthostError as QuanthostError
    from quanthost.host.bridges import as_export_recipe as as_export_recipe
    from quanthost.host.bridges import as_partitioners as as_partitioners
    from quanthost.host.bridges import as_quantizer as as_quantizer
    from quanthost.host.discovery import Policy as Policy
    from quanthost.host.discovery import installed as installed
    from quanthost.host.loading import load as load
    from quanthost.host.measuring import measure_costs as measure_costs
    from quanthost.host.pipeline import calibrate as calibrate
    from quanthost.host.pipeline import capture as capture
    from quanthost.host.pipeline import collect_statistics as collect_statistics
    from quanthost.host.pipeline import convert as convert
    from quanthost.host.pipeline import lower as lower
    from quanthost.host.pipeline import prepare as prepare
    from quanthost.host.pipeline import quantize as quantize
    from quanthost.host.target import Target as Target
    from quanthost.stages.calibrating.statistics import Statistics as Statistics
    from quanthost.stages.calibrating.statistics import merge_statistics as merge_statistics
    from quanthost.stages.lowering.program import LoweredProgram as LoweredProgram
    from quanthost.values import ArithmeticProfile as ArithmeticProfile
    from quanthost.values import Decision as Decision
    from quanthost.values import DerivedQSpec as DerivedQSpec
    from quanthost.values import DType as DType
    from quanthost.values import Estimator as Estimator
    from quanthost.values import FixedQSpec as FixedQSpec
    from quanthost.values import Granularity as Granularity
    from quanthost.values import Override as Override
    from quanthost.values import QSpec as QSpec
    from quanthost.values import RangeEstimator as RangeEstimator
    from quanthost.values import SharedQSpec as SharedQSpec
    from quanthost.values import Symmetry as Symmetry
    from quanthost.values import Timing as Timing
    from quanthost.values import Verdict as Verdict
else:
    # names that may still be imported, and what replaces each
    _OLD = {
        name: Deprecated(name=f"quanthost.{name}", instead=f"quanthost.inspection.{name}", removed_in="0.3")
        for name in ("compare_bits", "compare_decisions", "snapshot_decisions", "trace", "why")
    }

    def _quietly() -> AbstractContextManager[None]:
        """Hide what the toolchain logs while it is imported."""
        from quanthost.toolchain.quiet import quiet_imports

        return quiet_imports()

    __getattr__, __dir__ = lazy_exports(__name__, _OLD, importing=_quietly)
