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
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "quanthost backends": [_COMMAND, "backends"],
    "quanthost --help": [_COMMAND, "--help"],
    "quanthost quantize --help": [_COMMAND, "quantize", "--help"],
}
TURNS = 21


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure, keep the medians, and write the page."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(TURNS):
        for name, command in COMMANDS.items():
            taken[name].append(_seconds(command))
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    _RESULTS.write_text(
        json.dumps({"python": platform.python_version(), "seconds": medians}, indent=1) + "\n"
    )
    bare = medians["python -c pass"]
    lines = [
        "# Looking what is there", "",
        "Seconds of a process, medians of 21 turns of `python benchmarks/startup.py`; none of the commands",
        "loads torch. Importing ExecuTorch to ask it the same takes 8 to 10 seconds.", "",
        "| command | seconds | over a bare Python |", "| --- | --- | --- |",
        *(f"| `{name}` | {seconds:.3f} | {seconds - bare:.3f} |" for name, seconds in medians.items()), "",
        f"Python {platform.python_version()}.", "",
    ]  # fmt: skip
    _PAGE.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines[5:-2]))


if __name__ == "__main__":
    main()
