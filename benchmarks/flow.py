"""From module to program, side by side in one run: ExecuTorch's documented XNNPACK script and this host.

    python benchmarks/flow.py [SUBJECT …]
    python benchmarks/flow.py --table        # writes docs/benchmarks/flow.md from the results

Subjects are networks of ``networks.py`` and rows of blocks, ``blocks-50``: each a convolution, a ReLU and an
addition. Both sides get the same model and the same four calibration batches, each in a process of its own
with everything imported, on one thread, taking turns.
"""

from __future__ import annotations

import argparse
import functools
import math
import resource
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import incumbent
import kept
import torch
from networks import Batches, Inputs, network
from torch import Tensor, nn

import quanthost

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).parent / "results" / "flow.json"
_PAGE = _ROOT / "docs" / "benchmarks" / "flow.md"
SUBJECTS = (
    *("blocks-20", "blocks-50", "blocks-200", "blocks-800", "blocks-2000"),
    *("mobilenet-v2", "efficientnet-lite0", "vit-6", "minilm-l6", "resnet18", "crepe-tiny"),
)
STAGES = ("capture", "prepare", "calibrate", "convert", "lower")
BATCHES = 4
# beyond these the incumbent takes tens of minutes
ALONE = ("blocks-800", "blocks-2000")


class Block(nn.Module):
    """A convolution, a ReLU, and the sum with what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)) + x


def subject(name: str) -> tuple[nn.Module, Inputs, Batches]:
    """A model in eval mode, example inputs, and calibration batches."""
    if not name.startswith("blocks-"):
        net = network(name)
        model, inputs = net.build()
        return model, inputs, net.calibration()[:BATCHES]
    torch.manual_seed(0)
    count = int(name.removeprefix("blocks-"))
    model = nn.Sequential(*[Block(8) for _ in range(count)])
    with torch.no_grad():
        # so that the sums stay finite over thousands of blocks
        for parameter in model.parameters():
            parameter.mul_(min(1.0, 20 / count))
    batches = [(torch.randn(1, 8, 16, 16),) for _ in range(BATCHES)]
    return model.eval(), batches[0], batches


def _ours(model: nn.Module, inputs: Inputs, calibration: Batches) -> incumbent.Attempt:
    clock = incumbent.Clock()
    with clock.step("capture"):
        captured = quanthost.capture(model, inputs)
    with clock.step("prepare"):
        prepared = quanthost.prepare(captured, backend="xnnpack_like")
    with clock.step("calibrate"):
        calibrated = quanthost.calibrate(prepared, calibration)
    with clock.step("convert"):
        converted = quanthost.convert(calibrated)
    with clock.step("lower"):
        program = quanthost.lower(converted)
    return _attempt(program.buffer, {}, clock)


def _theirs(model: nn.Module, inputs: Inputs, calibration: Batches) -> incumbent.Attempt:
    clock = incumbent.Clock()
    failure: dict[str, str] = {}
    pte: bytes | None = None
    try:
        pte = incumbent.lower_incumbent(model, inputs, calibration, True, clock)
    except Exception as error:  # what the toolchain raises is a result
        failure = {"failed_in": str(clock.running), "error": str(error).partition("\n")[0][:200]}
    return _attempt(pte, failure, clock)


def _attempt(pte: bytes | None, failure: dict[str, str], clock: incumbent.Clock) -> incumbent.Attempt:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = clock.seconds | {"total": sum(clock.seconds.values()), "peak_mib": peak}
    return incumbent.Attempt(pte=pte, failure=failure, seconds=seconds)


def compare(name: str, *, turns: int, limit: float) -> dict[str, Any]:
    """The row of one subject: seconds by step of each side, the median of the turns by their totals."""
    works: dict[str, Callable[..., incumbent.Attempt]] = {"incumbent": _theirs, "quanthost": _ours}
    if name in ALONE:
        del works["incumbent"]
    made = subject(name)
    runs: dict[str, list[incumbent.Attempt]] = {side: [] for side in works}
    for _ in range(turns):
        for side, work in works.items():
            runs[side].append(incumbent.apart(functools.partial(work, *made), limit))
    row: dict[str, Any] = {"name": name, "parameters": sum(p.numel() for p in made[0].parameters())}
    for side, attempts in runs.items():
        middle = sorted(attempts, key=lambda attempt: attempt.seconds["total"])[len(attempts) // 2]
        row[side] = middle.failure | {"seconds": middle.seconds}
    return row


def _warm() -> None:
    """Import all that either side imports late."""
    model, inputs, calibration = subject("blocks-1")
    _theirs(model, inputs, calibration)
    _ours(model, inputs, calibration)


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The exponent of the number of blocks in each stage's time: the slope of the logarithms."""
    blocks = {
        int(row["name"].removeprefix("blocks-")): row["quanthost"]["seconds"]
        for row in rows
        if row["name"].startswith("blocks-") and int(row["name"].removeprefix("blocks-")) >= 50
    }
    if len(blocks) < 2:
        return {}
    logs = [math.log(count) for count in blocks]
    return {
        stage: statistics.linear_regression(
            logs, [math.log(max(seconds[stage], 1e-3)) for seconds in blocks.values()]
        ).slope
        for stage in (*STAGES, "total")
    }


def _page(results: dict[str, Any]) -> str:
    rows = results["rows"]
    heads = ["subject", "incumbent", "quanthost", "ratio", *STAGES, "memory: incumbent", "memory: quanthost"]
    lines = [
        "# From module to program", "",
        "The table shows the seconds from the module to the `.pte`, from one run of",
        "`python benchmarks/flow.py`. It compares ExecuTorch's documented XNNPACK script (incumbent)",
        "with quanthost on the same models and the same calibration batches. Imports are not counted.",
        "Memory is the peak of the process in MiB, including all libraries.", "",
        "![Seconds of both sides](flow-beside.svg)", "",
        "| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|", *map(_line, rows), "",
        "If the ratio is below 10, `convert` takes a third to a half of the time. It runs the batch",
        "sample four times to choose estimators and to correct biases; the script does neither.",
        "`capture`, which is `torch.export` itself, takes a quarter.", "",
    ]  # fmt: skip
    found = exponents(rows)
    if found:
        told = ", ".join(f"{stage} {slope:.2f}" for stage, slope in found.items())
        lines += [
            "![Seconds by the number of blocks](flow-growth.svg)", "",
            f"Exponent of the number of blocks, from 50 blocks: {told}.",
            "`python benchmarks/figures.py` draws both figures from the stored results.", "",
        ]  # fmt: skip
    versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    lines += [f"{results['machine']['cpu']}, one thread; {versions}.", ""]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    ours, theirs = row["quanthost"], row.get("incumbent")
    total, stages = ours["seconds"]["total"], [f"{ours['seconds'][stage]:.2f}" for stage in STAGES]
    if theirs is None:
        other, ratio, memory = "not run", "", ""
    elif "error" in theirs:
        other, ratio, memory = f"fails in {theirs.get('failed_in', 'the limit')}", "", ""
    else:
        other = f"{theirs['seconds']['total']:.1f}"
        ratio = f"{theirs['seconds']['total'] / total:.1f}"
        memory = f"{theirs['seconds']['peak_mib']:.0f}"
    peak = f"{ours['seconds']['peak_mib']:.0f}"
    return "| " + " | ".join([row["name"], other, f"{total:.2f}", ratio, *stages, memory, peak]) + " |"


def main() -> None:
    """Run what is named, or all, and keep the results; or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--limit", type=float, default=900.0)
    arguments = parser.parse_args()
    if not arguments.table:
        torch.set_num_threads(1)
        _warm()
        for name in arguments.subjects or SUBJECTS:
            row = compare(name, turns=arguments.turns, limit=arguments.limit)
            kept.keep(_RESULTS, row, SUBJECTS)
            print(_line(row), flush=True)
    _PAGE.write_text(_page(kept.load(_RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
