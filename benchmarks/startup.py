"""What a start costs: ``quanthost backends``, ``--help`` and others beside ``import importlib.metadata``.

python benchmarks/startup.py     # writes docs/benchmarks/startup.md and results/startup.json
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

_RESULTS = Path(__file__).parent / "results" / "startup.json"
_PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "startup.md"
_COMMAND = str(Path(sys.executable).with_name("quanthost"))
UNIT = "python -c 'import importlib.metadata'"
QUICK = {
    "python -c pass": [sys.executable, "-c", "pass"],
    UNIT: [sys.executable, "-c", "import importlib.metadata"],
    "python -c 'import typer'": [sys.executable, "-c", "import typer"],
    "quanthost --version": [_COMMAND, "--version"],
    "quanthost backends": [_COMMAND, "backends"],
    "quanthost --help": [_COMMAND, "--help"],
    "quanthost quantize --help": [_COMMAND, "quantize", "--help"],
    "quanthost describe xnnpack_like": [_COMMAND, "describe", "xnnpack_like"],
}
# in turns of their own: what loads torch leaves the next process a cold machine
SLOW = {
    "quanthost describe xnnpack_like, for the first time": [
        *("env", "QUANTHOST_CACHE=/dev/null", _COMMAND, "describe", "xnnpack_like"),
    ]
}
TURNS = ((QUICK, 11), (SLOW, 3))


def _seconds(command: list[str]) -> tuple[float, float]:
    """Seconds on the clock, and of the processors: the second hardly depends on what else is running."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return round(time.perf_counter() - start, 4), round(usage.ru_utime + usage.ru_stime, 4)


def _page(seconds: dict[str, list[tuple[float, float]]]) -> str:
    return "\n".join([
        "# Start-up time", "",
        f"`python benchmarks/startup.py` starts the commands one after the other, {TURNS[0][1]} times. The",
        "unit is the time that Python needs to find out which distributions are installed. Listing and help",
        "must take at most twice as long. They do not load torch. The first description of a backend loads",
        "its code and torch, but not ExecuTorch, whose import takes 8 to 10 seconds. After that, the",
        "description comes from a cache.", "",
        f"| command | processor seconds, least | times `{UNIT}` |", "| --- | --- | --- |",
        *_rows(seconds), "",
        f"Python {platform.python_version()}, {len(list(metadata.distributions()))} distributions.", "",
    ])  # fmt: skip


def _rows(seconds: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    least = {name: min(processor for _, processor in pairs) for name, pairs in seconds.items()}
    for name, processor in least.items():
        yield f"| `{name}` | {processor:.3f} | {processor / least[UNIT]:.2f} |"


def main() -> None:
    """Measure, keep the seconds, and write the page."""
    _seconds(QUICK["quanthost describe xnnpack_like"])
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for commands, _ in TURNS for name in commands}
    for commands, turns in TURNS:
        for _ in range(turns):
            for name, command in commands.items():
                seconds[name].append(_seconds(command))
    _RESULTS.write_text(json.dumps({"python": platform.python_version(), "seconds": seconds}) + "\n")
    _PAGE.write_text(_page(seconds), encoding="utf-8")
    print(_page(seconds))


if __name__ == "__main__":
    main()
