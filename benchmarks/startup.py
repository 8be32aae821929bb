"""What it takes to look: seconds of ``quanthost backends`` and ``--help`` beside a bare Python, taking turns.

python benchmarks/startup.py     # writes docs/benchmarks/startup.md and results/startup.json
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

_RESULTS = Path(__file__).parent / "results" / "startup.json"
_PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "startup.md"
_COMMAND = str(Path(sys.executable).with_name("quanthost"))
BARE = "python -c pass"
QUICK = {
    BARE: [sys.executable, "-c", "pass"],
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
TURNS = ((QUICK, 21), (SLOW, 3))


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _page(taken: dict[str, list[float]]) -> str:
    rows = [(name, statistics.median(seconds), min(seconds)) for name, seconds in taken.items()]
    bare = min(taken[BARE])
    return "\n".join([
        "# Looking what is there", "",
        "Seconds of a process, of 21 turns of `python benchmarks/startup.py`. Listing and help load no",
        "torch. To describe a backend for the first time loads its code, and torch with it, but not",
        "ExecuTorch, whose import to ask it the same takes 8 to 10 seconds; then what it said is kept.", "",
        "| command | median | least | least over a bare Python |", "| --- | --- | --- | --- |",
        *(f"| `{name}` | {middle:.3f} | {least:.3f} | {least - bare:.3f} |" for name, middle, least in rows),
        "",
        f"Python {platform.python_version()}.", "",
    ])  # fmt: skip


def main() -> None:
    """Measure, keep the seconds, and write the page."""
    _seconds(QUICK["quanthost describe xnnpack_like"])
    taken: dict[str, list[float]] = {name: [] for commands, _ in TURNS for name in commands}
    for commands, turns in TURNS:
        for _ in range(turns):
            for name, command in commands.items():
                taken[name].append(round(_seconds(command), 4))
    _RESULTS.write_text(json.dumps({"python": platform.python_version(), "seconds": taken}) + "\n")
    _PAGE.write_text(_page(taken), encoding="utf-8")
    print(_page(taken))


if __name__ == "__main__":
    main()
