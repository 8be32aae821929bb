"""Memory from module to program: the peak of each stage as a multiple of the float weights.

    python benchmarks/memory.py [SUBJECT …]
    python benchmarks/memory.py --table      # writes docs/benchmarks/memory.md from the results

Each subject and recipe has a process of its own, on one thread, with all libraries loaded by a small model.
What counts is the most that the process held in a stage, less what it held before the model was made: the
model itself counts 1.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import incumbent
import kept
import torch
from torch import Tensor, nn

import quanthost

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).parent / "results" / "memory.json"
_PAGE = _ROOT / "docs" / "benchmarks" / "memory.md"
STAGES = ("model", "capture", "prepare", "calibrate", "convert", "lower")
RECIPES = ("fp32", "int8_static", "int8_dynamic", "int8_weight_only")
LIMIT = 2.5
_MIB = 1 << 20


def linear() -> tuple[nn.Module, tuple[Tensor]]:
    """16 layers of 4096 x 4096: 1 GiB of weights, activations of 16 KiB."""
    layers = [layer for _ in range(16) for layer in (nn.Linear(4096, 4096), nn.ReLU())]
    return nn.Sequential(*layers), (torch.randn(1, 4096),)


def convolutional() -> tuple[nn.Module, tuple[Tensor]]:
    """12 convolutions of 1024 x 1024 x 3 x 3: 432 MiB of weights, activations of 256 KiB."""
    layers = [layer for _ in range(12) for layer in (nn.Conv2d(1024, 1024, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers), (torch.randn(1, 1024, 8, 8),)


SUBJECTS: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor]]]] = {
    "linear": linear, "convolutional": convolutional,
}  # fmt: skip
_ORDER = [f"{name} {recipe}" for name in SUBJECTS for recipe in RECIPES]


def _held(key: str) -> int:
    """Bytes of the process by the kernel's account: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


@contextmanager
def _peak(peaks: dict[str, int], stage: str) -> Iterator[None]:
    gc.collect()
    # what was freed goes back to the kernel, so that a stage is not charged for an earlier one
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    yield
    peaks[stage] = _held("VmHWM")


def _flow(
    build: Callable[[], tuple[nn.Module, tuple[Tensor]]], recipe: str, peaks: dict[str, int]
) -> tuple[int, int]:
    """Bytes of weights and of the program."""
    torch.manual_seed(0)
    with _peak(peaks, "model"):
        model, inputs = build()
        model.eval()
    with _peak(peaks, "capture"):
        captured = quanthost.capture(model, inputs)
    with _peak(peaks, "prepare"):
        prepared = quanthost.prepare(captured, "xnnpack_like", recipe)
    with _peak(peaks, "calibrate"):
        calibrated = quanthost.calibrate(prepared, [inputs] if recipe == "int8_static" else None)
    with _peak(peaks, "convert"):
        converted = quanthost.convert(calibrated)
    with _peak(peaks, "lower"):
        program = quanthost.lower(converted)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return weights, len(program.buffer)


def _small() -> tuple[nn.Module, tuple[Tensor]]:
    return nn.Sequential(nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 8)), (torch.randn(1, 8, 3, 3),)


def measured(name: str, recipe: str) -> incumbent.Attempt:
    """The peak of each stage, and the sizes, in this process."""
    torch.set_num_threads(1)
    _flow(_small, recipe, {})
    gc.collect()
    before, peaks = _held("VmRSS"), dict[str, int]()
    weights, program = _flow(SUBJECTS[name], recipe, peaks)
    found = {stage: (peak - before) / weights for stage, peak in peaks.items()}
    sizes = {"weights_mib": weights / _MIB, "program_mib": program / _MIB}
    return incumbent.Attempt(pte=None, failure={}, seconds=found | sizes)


def _page(results: dict[str, Any]) -> str:
    heads = ["subject", "recipe", "weights", "program", *STAGES, "most"]
    lines = [
        "# Memory", "",
        "The table shows the peak memory of the process in each stage, minus the memory before the model was",
        "created, as a multiple of the float weights. The model itself counts 1. The figures come from one",
        "run of `python benchmarks/memory.py`, with a separate process for each line. Sizes are in MiB. The",
        f"aim is at most {LIMIT}.", "",
        "| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|",
        *(_line(row) for row in results["rows"]), "",
    ]  # fmt: skip
    versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    lines += [f"{results['machine']['cpu']}, one thread; {versions}.", ""]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    subject, recipe = row["name"].split(" ")
    sizes = [f"{row['weights_mib']:.0f}", f"{row['program_mib']:.0f}"]
    stages = [f"{row[stage]:.2f}" for stage in STAGES]
    most = max(row[stage] for stage in STAGES)
    return "| " + " | ".join([subject, recipe, *sizes, *stages, f"{most:.2f}"]) + " |"


def main() -> None:
    """Measure what is named, or all, and keep the results; or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--recipe", action="append", choices=RECIPES)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if not arguments.table:
        for name in arguments.subjects or SUBJECTS:
            for recipe in arguments.recipe or RECIPES:
                found = incumbent.apart(functools.partial(measured, name, recipe), 900.0)
                row = {"name": f"{name} {recipe}", **found.failure, **found.seconds}
                print(row if found.failure else _line(row), flush=True)
                if not found.failure:
                    kept.keep(_RESULTS, row, _ORDER)
    _PAGE.write_text(_page(kept.load(_RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
