"""Draws docs/benchmarks/*.svg from the stored results: seconds of the flow, and how they grow.

python benchmarks/figures.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

_RESULTS = Path(__file__).parent / "results" / "flow.json"
_PAGES = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
_STAGES = ("capture", "prepare", "calibrate", "convert", "lower")
_THEIRS, _OURS = "#9aa0ae", "#3f51b5"


def _beside(rows: list[dict[str, Any]]) -> None:
    """Bars of both sides, for each subject that both had."""
    both = [row for row in rows if "error" not in row.get("incumbent", {"error": ""})]
    figure, axes = plt.subplots(figsize=(8, 0.55 * len(both) + 1.2), layout="constrained")
    for place, row in enumerate(reversed(both)):
        theirs, ours = (row[side]["seconds"]["total"] for side in ("incumbent", "quanthost"))
        axes.barh(place + 0.2, theirs, 0.38, color=_THEIRS)
        axes.barh(place - 0.2, ours, 0.38, color=_OURS)
        axes.text(theirs, place + 0.2, f" {theirs:.1f} s", va="center", fontsize=8)
        axes.text(ours, place - 0.2, f" {ours:.1f} s, {theirs / ours:.1f} times", va="center", fontsize=8)
    axes.set_yticks(range(len(both)), [row["name"] for row in reversed(both)])
    axes.set_xlabel("seconds from the module to the .pte; grey the documented script, blue quanthost")
    axes.set_xlim(right=max(row["incumbent"]["seconds"]["total"] for row in both) * 1.15)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, "flow-beside.svg")


def _growth(rows: list[dict[str, Any]]) -> None:
    """Seconds of each stage by the number of blocks, both logarithmic, beside a straight proportion."""
    blocks = {
        int(row["name"].removeprefix("blocks-")): row for row in rows if row["name"].startswith("blocks-")
    }
    counts = sorted(blocks)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for stage in (*_STAGES, "total"):
        seconds = [blocks[count]["quanthost"]["seconds"][stage] for count in counts]
        width = 2.2 if stage == "total" else 1.2
        axes.plot(counts, seconds, marker="o", markersize=4, linewidth=width, label=stage)
    ran = [count for count in counts if "error" not in blocks[count].get("incumbent", {"error": ""})]
    theirs = [blocks[count]["incumbent"]["seconds"]["total"] for count in ran]
    axes.plot(ran, theirs, color=_THEIRS, marker="s", markersize=4, linewidth=2.2, label="documented script")
    begin = blocks[counts[0]]["quanthost"]["seconds"]["total"]
    axes.plot(counts, [begin * count / counts[0] for count in counts], "k:", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="blocks (dotted: in proportion)", ylabel="seconds")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, "flow-growth.svg")


def _save(figure: Any, name: str) -> None:
    # neither a date nor random names: the same results give the same file
    figure.savefig(_PAGES / name, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Draw both figures."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "quanthost"
    rows = json.loads(_RESULTS.read_text())["rows"]
    _beside(rows)
    _growth(rows)


if __name__ == "__main__":
    main()
