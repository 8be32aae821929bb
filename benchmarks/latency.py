"""Is int8 worth it: each network in float, in int8, and placed for latency by costs measured here.

    python benchmarks/latency.py [NETWORK …]
    python benchmarks/latency.py --table        # writes docs/benchmarks/latency.md from the results

Costs are those of the rows at a few sizes, measured once and kept, and of the network's own operators. The
three programs run in one process, taking turns, on all cores; those in float and in int8 run twice, loaded
twice, and the larger ratio of the two times of one program is the noise.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import kept
from networks import network

import quanthost
from quanthost.host.measured_costs import load_costs, save_costs
from quanthost.host.measuring import measure_costs
from quanthost.stages.lowering.timing import seconds_in_turns
from quanthost.values import CostTable

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).parent / "results" / "latency.json"
_COSTS = Path(__file__).parent / "results" / "costs.json"
_PAGE = _ROOT / "docs" / "benchmarks" / "latency.md"
BACKEND = "xnnpack_like"
SUBJECTS = (
    *("mobilenet-v2", "efficientnet-lite0", "vit-6", "minilm-l6", "resnet18", "crepe-tiny", "mtcnn-onet"),
    *("mobilenet-v1-025", "resnet8", "ds-cnn", "digits", "deep-autoencoder"),
)
BATCHES = 4
SECONDS = 1.5
_TWICE = ("float", "int8")


def known_costs() -> CostTable:
    """The rows of the table at a few sizes, measured where no earlier run did."""
    if not _COSTS.exists():
        save_costs(measure_costs(BACKEND), _COSTS)
    return load_costs(_COSTS)


def compare(name: str, known: CostTable) -> dict[str, Any]:
    """Milliseconds of a call of each program, and what the placement expected."""
    net = network(name)
    model, inputs = net.build()
    start = time.perf_counter()
    table = known.merged(measure_costs(BACKEND, [(model, inputs)]))
    measuring = time.perf_counter() - start
    data = net.calibration()[:BATCHES]
    programs = {
        "float": quanthost.quantize(model, inputs, BACKEND, "fp32"),
        "int8": quanthost.quantize(model, inputs, BACKEND, calibration=data),
        "latency": quanthost.quantize(
            model, inputs, BACKEND, calibration=data, optimize_for="latency", costs=table
        ),
    }  # fmt: skip
    calls = {kind: program.repeatable(*inputs) for kind, program in programs.items()}
    for kind in _TWICE:
        once = programs[kind]
        again = quanthost.LoweredProgram(buffer=once.buffer, record=once.record)
        calls[f"{kind} again"] = again.repeatable(*inputs)
    taken = dict(zip(calls, seconds_in_turns(list(calls.values()), budget=SECONDS)))
    latency = programs["latency"].record.latency
    assert latency is not None
    pairs = [sorted((taken[kind], taken.pop(f"{kind} again"))) for kind in _TWICE]
    quantized = {
        kind: sum(d.verdict is quanthost.Verdict.QUANTIZED for d in program.decisions)
        for kind, program in programs.items()
    }
    return {
        "name": name, "ms": {kind: 1e3 * seconds for kind, seconds in taken.items()},
        "noise": max(slower / faster for faster, slower in pairs) - 1, "quantized": quantized,
        "measuring_s": measuring,
        "expected_ms": {
            "latency": 1e3 * latency.expected, "int8": 1e3 * latency.all_integer,
            "float": 1e3 * latency.all_float,
        },
    }  # fmt: skip


def _page(results: dict[str, Any]) -> str:
    lines = [
        "# Latency in float, in int8, and placed for latency", "",
        "The table shows the milliseconds of one call on all cores, from one run of",
        "`python benchmarks/latency.py`. The programs of a network take turns, and the fastest call",
        'counts. `latency` is placed with `optimize_for="latency"` by costs that were measured on the',
        "same machine. The ratio is its time divided by that of the faster of float and int8; below 1 is",
        "better. Noise is the difference between two loads of the same program, the larger of float and",
        "int8. Nodes are those quantized in `int8` and in `latency`. Expected is the time by the costs",
        "of the operators that can be integer: placed for latency, divided by all in integers and by all",
        "in float.", "",
        "| network | float | int8 | latency | ratio | noise | nodes | expected / int8 | expected / float |",
        "| --- " * 9 + "|",
    ]  # fmt: skip
    for row in results["rows"]:
        ms, expected, nodes = row["ms"], row["expected_ms"], row["quantized"]
        faster = min(ms["float"], ms["int8"])
        lines.append(
            f"| {row['name']} | {ms['float']:.3f} | {ms['int8']:.3f} | {ms['latency']:.3f} "
            f"| {ms['latency'] / faster:.3f} | {row['noise']:.1%} | {nodes['int8']}, {nodes['latency']} "
            f"| {expected['latency'] / expected['int8']:.2f} "
            f"| {expected['latency'] / expected['float']:.2f} |"
        )
    versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    lines += ["", f"{results['machine']['cpu']}, 2 cores; {versions}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Run what is named, or all, and keep the results; or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if not arguments.table:
        known = known_costs()
        for name in arguments.networks or SUBJECTS:
            row = compare(name, known)
            kept.keep(_RESULTS, row, SUBJECTS)
            print(json.dumps(row), flush=True)
    _PAGE.write_text(_page(kept.load(_RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
