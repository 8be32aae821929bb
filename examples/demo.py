"""Quantizes EfficientNet-Lite0 with real photographs, runs it, and says what became of each node."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import quanthost
from quanthost.cli.output import write
from quanthost.cli.progress_display import show_progress
from quanthost.report.decision_table import summary

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "out" / "efficientnet_lite0.pte"
BACKEND = "xnnpack_like"
console = Console(highlight=False)


def main() -> None:
    start = time.perf_counter()
    heading(f"EfficientNet-Lite0 with ImageNet weights, quantized for {BACKEND}")
    model, inputs, photos, unseen = network()
    console.print(f"{len(photos)} photographs to calibrate with, {len(unseen)} others to judge with")

    heading("\nint8")
    with show_progress() as progress:
        program = quanthost.quantize(
            model, inputs, backend=BACKEND, recipe="int8_static", calibration=photos, progress=progress
        )
    heading("\nfloat, to compare with")
    with show_progress() as progress:
        reference = quanthost.quantize(model, inputs, backend=BACKEND, recipe="fp32", progress=progress)

    PROGRAM.parent.mkdir(exist_ok=True)
    stored = quanthost.load(program.save(PROGRAM))
    heading("\nWhat became of each node\n")
    write(summary(stored.decisions))
    heading("\nThe stored program, run on photographs that it has not seen\n")
    judge(reference, stored, unseen)
    console.print(f"\nDone in {time.perf_counter() - start:.0f} s.")
    next_steps()


def heading(text: str) -> None:
    console.print(text, style="bold")


def network() -> tuple[Any, Any, list[Any], list[Any]]:
    """Model, example inputs, and two lists of batches that have no photograph in common."""
    # benchmarks/ is a folder of scripts; late, so that the first line stands there while torch is imported
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import torch
    from networks import network as named

    # with a second thread, the many small operators cost minutes on a machine that is busy otherwise
    torch.set_num_threads(1)
    found = named("efficientnet-lite0")
    return *found.build(), found.calibration(), found.evaluation()


def judge(reference: quanthost.LoweredProgram, program: quanthost.LoweredProgram, photos: list[Any]) -> None:
    """Size, time, error and agreement of the int8 program against the float one."""
    from quanthost.report.comparison import Contestant, compare, comparison_table

    result = compare(
        Contestant(name="float", run=reference.run, size=len(reference.buffer)),
        Contestant(name="int8", run=program.run, size=len(program.buffer)),
        photos,
        scores="output",
    )
    write(comparison_table(result))


def next_steps() -> None:
    path = PROGRAM.relative_to(ROOT)
    console.print("What you could type next:")
    for command in (f"inspect {path} --decisions", f"run {path} --inputs random", f"describe {BACKEND}"):
        console.print(f"  .venv/bin/quanthost {command}", soft_wrap=True)


if __name__ == "__main__":
    main()
