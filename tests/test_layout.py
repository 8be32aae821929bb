"""Tests lie where the modules lie: ``core/quanthost/a/b.py`` is tested by ``tests/core/a/test_b.py``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
CORE = TESTS.parent / "core" / "quanthost"
# modules that the tests of another one cover; a value names the file or folder below tests/
ELSEWHERE = {
    "caller_warning.py": "core/stages/capturing/test_capture.py",
    "arith/channel_range.py": "core/arith/test_sketch.py",
    "arith/grid.py": "core/arith/test_sketch.py",
    "cli/backend_list.py": "core/cli/commands/test_backends.py",
    "cli/commands/calibrate.py": "core/cli/test_statistics_commands.py",
    "cli/commands/decisions.py": "core/cli/commands/test_diff.py",
    "cli/commands/merge_stats.py": "core/cli/test_statistics_commands.py",
    "cli/commands/new_backend.py": "plugins/test_new_backend.py",
    "cli/exits.py": "core/cli/test_output.py",
    "cli/program_tensors.py": "core/cli/commands/test_run.py",
    "cli/show_version.py": "core/cli/test_app.py",
    "cli/sources.py": "core/cli/commands/test_quantize.py",
    "cli/usage.py": "core/cli/test_settings.py",
    "debugging/row_search.py": "core/debugging/test_why.py",
    "debugging/snapshot.py": "core/debugging/test_differences.py",
    "graph/constraints.py": "plugins/xnnpack_like/test_constraints.py",
    "hooks/annotated_match.py": "core/hooks/test_wrapped.py",
    "hooks/annotated_matches.py": "core/hooks/test_wrapped.py",
    "host/folders.py": "core/host/test_cache.py",
    "host/inspecting.py": "core/debugging/test_why.py",
    "host/loading.py": "core/stages/lowering/test_program.py",
    "host/measured_costs.py": "core/cli/commands/test_measure.py",
    "host/measuring.py": "core/cli/commands/test_measure.py",
    "inspection.py": "core/test_exports.py",
    "integer/kernels/forms.py": "core/integer/kernels",
    "scaffold/wraps.py": "plugins/test_new_backend.py",
    "stages/calibrating/forward.py": "core/stages/calibrating/test_calibrate.py",
    "stages/calibrating/observing.py": "core/stages/calibrating/test_calibrate.py",
    "stages/capturing/constructs.py": "core/stages/capturing/test_diagnose.py",
    "stages/lowering/attempts.py": "core/stages/lowering/test_runnable.py",
    "stages/lowering/ends.py": "core/stages/lowering/test_lower.py",
    "stages/preparing/planned_match.py": "core/stages/preparing/test_planning.py",
    "stages/records.py": "core/stages/converting/test_convert.py",
    "toolchain/active.py": "core/toolchain/test_shortcuts.py",
    "toolchain/annotations.py": "core/hooks/test_wrapped.py",
    "toolchain/copies.py": "core/toolchain/fast/test_retrace.py",
    **dict.fromkeys(
        (f"toolchain/decompositions/{it}.py" for it in ("elementwise", "indexing", "ordering", "windows")),
        "core/toolchain/decompositions/test_known.py",
    ),
    "toolchain/fast/accepted_code.py": "core/toolchain/test_fingerprints.py",
    "toolchain/fast/decompose.py": "core/toolchain/fast/test_retrace.py",
    "toolchain/fast/lift.py": "core/toolchain/fast/test_retrace.py",
    "toolchain/fast/passes.py": "plugins/xnnpack_like/test_quick_lowering.py",
    "toolchain/observer_rounding.py": "core/hooks/test_simulated.py",
    "toolchain/simulator/interpreter.py": "core/hooks/test_simulated.py",
    "toolchain/simulator/plan_operators.py": "core/hooks/test_simulated.py",
    "toolchain/simulator/plan_values.py": "core/hooks/test_simulated.py",
    "values/finding.py": "core/values/test_codec.py",
    # backends with seeded faults prove the suite's cases
    **dict.fromkeys(
        (
            *(f"testing/areas/{name}.py" for name in (
                "arithmetic", "hook_plans", "hooks", "networks", "persistence", "placement", "qspecs_in_plan",
                "row_chains", "rows", "without_table",
            )),
            *(f"testing/proving/{name}.py" for name in (
                "case", "float_backend", "operator_sites", "programs", "row_checks", "row_samples",
                "watching",
            )),
        ),
        "faulty/test_faulty.py",
    ),
}  # fmt: skip


def _modules() -> list[str]:
    found = (path.relative_to(CORE) for path in CORE.rglob("*.py") if path.name != "__init__.py")
    return sorted(path.as_posix() for path in found)


def _has_tests(module: str) -> bool:
    """Whether a file at the mirrored place names the module, as ``test_kernel_tables.py`` does."""
    path = Path(module)
    return any((TESTS / "core" / path.parent).glob(f"test_*{path.stem}*.py"))


def test_each_module_has_its_tests() -> None:
    """A new module comes with a file of tests at the same place."""
    lacking = [module for module in _modules() if not _has_tests(module)]

    assert [module for module in lacking if module not in ELSEWHERE] == []


def test_exceptions_are_needed() -> None:
    """A module with a file of its own, or that is gone, is no exception; what stands for it exists."""
    modules = _modules()

    assert [m for m in ELSEWHERE if m not in modules or _has_tests(m)] == [], "delete these lines"
    assert [where for where in ELSEWHERE.values() if not (TESTS / where).exists()] == []


def test_names_are_unique() -> None:
    """Files of tests are imported by their names alone."""
    names = Counter(path.name for path in TESTS.rglob("test_*.py") if "source" not in path.parts)

    assert [name for name, count in names.items() if count > 1] == []
