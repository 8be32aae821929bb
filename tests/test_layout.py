"""Tests lie where the modules lie: ``core/quanthost/a/b.py`` is tested by ``tests/core/a/test_b.py``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
CORE = TESTS.parent / "core" / "quanthost"
# modules whose behaviour shows through another one's tests; a value names the file or folder below tests/
ELSEWHERE = {
    "pytest_plugin.py": "core/testing/test_pytest_plugin.py",
    "cli/commands/range_statistics.py": "core/cli/test_statistics_commands.py",
    "cli/debug_commands.py": "core/cli/commands",
    "cli/exits.py": "core/cli/test_output.py",
    "cli/new_backend.py": "plugins/test_new_backend.py",
    "cli/options.py": "core/cli/commands",
    "hooks/annotated_matches.py": "core/hooks/test_wrapped.py",
    "hooks/partitioner.py": "core/toolchain/test_partition.py",
    "host/folders.py": "core/host/test_cache.py",
    "host/inspecting.py": "core/inspection/test_why.py",
    "host/loading.py": "core/stages/lowering/test_program.py",
    "host/measured_costs.py": "core/cli/commands/test_measure.py",
    "host/measuring.py": "core/cli/commands/test_measure.py",
    "inspection/row_search.py": "core/inspection/test_why.py",
    "inspection/snapshot.py": "core/inspection/test_differences.py",
    "scaffold/wraps.py": "plugins/test_new_backend.py",
    "stages/calibrating/forward.py": "core/stages/calibrating/test_calibrate.py",
    "stages/calibrating/observing.py": "core/stages/calibrating/test_calibrate.py",
    "stages/capturing/constructs.py": "core/stages/capturing/test_diagnose.py",
    "stages/lowering/ends.py": "core/stages/lowering/test_lower.py",
    "stages/records.py": "core/stages/converting/test_convert.py",
    "toolchain/annotations.py": "core/hooks/test_wrapped.py",
    "toolchain/fast/decompose.py": "core/toolchain/fast/test_retrace.py",
    "toolchain/fast/lift.py": "core/toolchain/fast/test_retrace.py",
    "toolchain/fast/passes.py": "plugins/xnnpack_like/test_quick_lowering.py",
    "toolchain/fast/patching.py": "core/toolchain/fast/test_lookups.py",
    "toolchain/observer_rounding.py": "core/hooks/test_simulated.py",
    "toolchain/simulator/interpreter.py": "core/hooks/test_simulated.py",
    "toolchain/simulator/plan_operators.py": "core/hooks/test_simulated.py",
    "toolchain/simulator/plan_values.py": "core/hooks/test_simulated.py",
    # the suite's cases are proved by backends with faults
    **dict.fromkeys(
        (
            *(f"testing/areas/{name}.py" for name in (
                "arithmetic", "hooks", "networks", "persistence", "placement", "qspecs", "row_chains", "rows",
                "without_table",
            )),
            *(f"testing/cases/{name}.py" for name in (
                "chains", "float_backend", "joined", "producers", "samples", "small_networks",
            )),
            *(f"testing/proving/{name}.py" for name in (
                "judging", "operator_sites", "row_checks", "session", "shrinking", "subject", "watching",
            )),
        ),
        "faulty/test_faulty.py",
    ),
    "testing/check.py": "core/testing/test_suite.py",
    "testing/crash_notes.py": "core/testing/test_running.py",
    "testing/junit.py": "core/testing/test_suite.py",
    "testing/results.py": "core/testing/test_suite.py",
    "testing/results_text.py": "core/testing/test_suite.py",
}  # fmt: skip


def _modules() -> list[str]:
    found = (path.relative_to(CORE) for path in CORE.rglob("*.py") if path.name != "__init__.py")
    return sorted(path.as_posix() for path in found)


def _mirrored(module: str) -> Path:
    path = Path(module)
    return TESTS / "core" / path.parent / f"test_{path.name}"


def test_each_module_has_its_tests() -> None:
    """A new module comes with a file of tests at the same place."""
    lacking = [module for module in _modules() if not _mirrored(module).exists()]

    assert [module for module in lacking if module not in ELSEWHERE] == []


def test_exceptions_are_needed() -> None:
    """A module with a file of its own, or that is gone, is no exception; what stands for it exists."""
    modules = _modules()

    assert [m for m in ELSEWHERE if m not in modules or _mirrored(m).exists()] == [], "delete these lines"
    assert [where for where in ELSEWHERE.values() if not (TESTS / where).exists()] == []


def test_names_are_unique() -> None:
    """Files of tests are imported by their names alone."""
    names = Counter(path.name for path in TESTS.rglob("test_*.py") if "source" not in path.parts)

    assert [name for name, count in names.items() if count > 1] == []
