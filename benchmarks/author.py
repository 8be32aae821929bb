"""From an empty folder to a proved backend: what an author types, what it prints, and the seconds it takes.

python benchmarks/author.py     # writes docs/benchmarks/author.md and results/author.json

The backend is built, and installed from its wheel into an environment of its own, the host likewise. torch
and ExecuTorch are linked into that environment: to download them is no part of what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from environments import Environment, wheel  # noqa: E402  # beside this folder, and no package

_RESULTS = Path(__file__).parent / "results" / "author.json"
_PAGE = ROOT / "docs" / "benchmarks" / "author.md"
LIMIT = 180.0
_NET = """import torch
from torch import nn


def build():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3), nn.Softmax(1)
    return nn.Sequential(*layers).eval(), (torch.rand(1, 3, 16, 16),)


def batches():
    return [torch.rand(1, 3, 16, 16) for _ in range(8)]
"""
_QUANTIZE = "quanthost quantize net.py:build --backend mynpu --calibration net.py:batches -o net.pte"


class Recorder:
    """Steps with the seconds that they took, on the clock and of processors."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def step(self, command: str, work: Callable[[], str]) -> None:
        """Do a step; ``work`` returns what is to be shown of it."""
        wall, used = time.perf_counter(), _processors()
        output = work()
        self.steps.append({
            "command": command, "seconds": round(time.perf_counter() - wall, 2),
            "processor_seconds": round(_processors() - used, 2), "output": output,
        })  # fmt: skip


def _processors() -> float:
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in found)


def record(folder: Path) -> list[dict[str, Any]]:
    """Go all the way in an empty folder.

    Raises:
        RuntimeError: a step failed; the message has what it printed.
    """
    recorder = Recorder()
    made: list[Environment] = []

    def environment() -> str:
        # the host is a wheel too, so that nothing of this checkout is imported
        made.append(Environment.make(folder / ".venv"))
        made[0].install(str(wheel(ROOT, folder / "built" / "host")))
        return ""

    def install() -> str:
        made[0].install(str(wheel(folder / "quanthost-mynpu", folder / "built" / "backend")))
        return ""

    def command(line: str) -> Callable[[], str]:
        return lambda: made[0].run(shlex.split(line), folder=folder).stdout

    recorder.step("python -m venv .venv && pip install quanthost", environment)
    recorder.step("quanthost new-backend mynpu", command("quanthost new-backend mynpu"))
    recorder.step("pip wheel quanthost-mynpu && pip install quanthost_mynpu-0.1.0-py3-none-any.whl", install)
    recorder.step("quanthost backends", command("quanthost backends"))
    (folder / "net.py").write_text(_NET, encoding="utf-8")
    recorder.step(_QUANTIZE, command(_QUANTIZE))
    recorder.step("quanthost check-backend mynpu", command("quanthost check-backend mynpu"))
    return recorder.steps


def page(result: dict[str, Any]) -> str:
    """The log as a page of the documentation."""
    steps = result["steps"]
    total, used = (sum(step[key] for step in steps) for key in ("seconds", "processor_seconds"))
    return "\n".join([
        "# From an empty folder to a proved backend", "",
        "`python benchmarks/author.py` runs what an author types, and records what it prints. It",
        "installs the backend from its wheel into a separate environment without quanthost's sources.",
        "torch and ExecuTorch are installed beforehand, so their download is not counted. A test does",
        "the same.",
        "",
        f"**{total:.0f} seconds** on the clock, {used:.0f} of processor time; {LIMIT:.0f} are allowed.",
        f"Python {result['python']}, {result['processors']} processors,",
        f"load before the run: {result['load']:.1f}.",
        "",
        *_rows(steps), "", "## The log", "",
        *(line for step in steps for line in _log(step)),
    ])  # fmt: skip


def _rows(steps: list[dict[str, Any]]) -> Iterator[str]:
    yield "| step | seconds | processor seconds |"
    yield "| --- | --- | --- |"
    for step in steps:
        yield f"| `{step['command']}` | {step['seconds']:.1f} | {step['processor_seconds']:.1f} |"


def _log(step: dict[str, Any]) -> Iterator[str]:
    yield f"`{step['command']}`"
    yield ""
    if step["output"].strip():
        yield "```text"
        yield from (line.rstrip() for line in step["output"].strip("\n").splitlines())
        yield "```"
        yield ""


def main() -> None:
    """Record, keep, and write the page."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        steps = record(Path(folder))
    result = {
        "python": platform.python_version(), "processors": len(os.sched_getaffinity(0)),
        "load": round(load, 2), "steps": steps,
    }  # fmt: skip
    _RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _PAGE.write_text(page(result), encoding="utf-8")
    print(f"{sum(step['seconds'] for step in steps):.1f} s")


if __name__ == "__main__":
    main()
