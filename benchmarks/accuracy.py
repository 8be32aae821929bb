"""Side by side in one run: ExecuTorch's documented XNNPACK script and this host, on every network.

    python benchmarks/accuracy.py [NETWORK …]
    python benchmarks/accuracy.py --table        # writes docs/benchmarks/accuracy.md from the results

Both sides lower the same model with the same calibration data; their programs take turns at being timed.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import incumbent
import measure
import torch
from networks import NETWORKS, Batches, Inputs, Network, network
from torch import nn

import quanthost

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).parent / "results" / "accuracy.json"
_PAGE = _ROOT / "docs" / "benchmarks" / "accuracy.md"
SIDES = ("incumbent", "quanthost")


def _lower_ours(model: nn.Module, inputs: Inputs, calibration: Batches, folder: str) -> incumbent.Attempt:
    clock = incumbent.Clock()
    failure: dict[str, str] = {}
    pte: bytes | None = None
    try:
        with clock.step("quantize"):
            program = quanthost.quantize(model, inputs, backend="xnnpack_like", calibration=calibration)
        program.save(Path(folder) / "model.pte")
        pte = program.buffer
    except quanthost.QuanthostError as error:
        failure = {"failed_in": str(error.stage), "error": error.seen}
    seconds = clock.seconds | {"total": sum(clock.seconds.values()), "cpu": clock.cpu}
    return incumbent.Attempt(pte=pte, failure=failure, seconds=seconds)


def compare(net: Network, *, runs: int, limit: float) -> dict[str, Any]:
    """The row of one network: both int8 programs, or the error in place of either."""
    model, inputs = net.build()
    calibration, evaluation = net.calibration(), net.evaluation()
    with torch.no_grad():
        reference = [model(*batch) for batch in evaluation]
    row: dict[str, Any] = {"name": net.name, "eager": incumbent.accuracy_facts(net, reference, reference)}
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        works = {
            "incumbent": functools.partial(incumbent.attempt, model, inputs, calibration, True),
            "quanthost": functools.partial(_lower_ours, model, inputs, calibration, folder),
        }
        for side, work in works.items():
            lowered = incumbent.apart(work, limit)
            row[side] = lowered.failure | {"seconds": round(lowered.seconds.get("cpu", limit), 1)}
            if lowered.pte is None:
                continue
            row[side] |= incumbent.program_facts(lowered.pte)
            runner = measure.load(lowered.pte)
            whole = quanthost.load(Path(folder) / "model.pte").run if side == "quanthost" else None
            outputs = [whole(*batch) if whole else runner(batch) for batch in evaluation]
            row[side] |= incumbent.accuracy_facts(net, outputs, reference)
            calls[side] = functools.partial(runner, evaluation[0])
    for side, taken in measure.latency(calls, runs=runs).items():
        row[side]["latency_ms"] = round(taken, 4)
    row["load_average"] = round(os.getloadavg()[0], 2)
    return row


def _store(row: dict[str, Any]) -> None:
    stored = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {"networks": []}
    rows = {old["name"]: old for old in stored["networks"]} | {row["name"]: row}
    ordered = [rows[net.name] for net in NETWORKS if net.name in rows]
    document = incumbent.provenance() | {"networks": ordered}
    _RESULTS.parent.mkdir(exist_ok=True)
    _RESULTS.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def _cell(row: dict[str, Any], key: str, form: str) -> str:
    cells = []
    for side in SIDES:
        value = row[side].get(key)
        cells.append("–" if value is None else value if isinstance(value, str) else form.format(value))
    return " / ".join(cells)


def _classes(row: dict[str, Any]) -> str:
    if "top1" in row["quanthost"]:
        return _cell(row, "top1", "{:.1%}")
    return _cell(row, "agreement", "{:.1%}") if "agreement" in row["quanthost"] else ""


def table() -> str:
    """The stored results as a page of the documentation."""
    stored = json.loads(_RESULTS.read_text())
    versions = ", ".join(f"{name} {version}" for name, version in stored["versions"].items())
    machine = stored["machine"]
    lines = [
        "# Accuracy, size and speed compared with the documented script",
        "",
        "Each cell compares ExecuTorch's documented script (`XNNPACKQuantizer`, `XnnpackPartitioner`),",
        "on the left, with quanthost (`xnnpack_like`, recipe `int8_static`), on the right. Both ran in",
        "one run of `python benchmarks/accuracy.py` on the same weights and the same calibration data.",
        "SQNR compares all outputs with the float model, on data that calibration did not see. Top-1 is",
        "the accuracy on labels, or the agreement with the float model. `–` marks a failure. Seconds are",
        "processor time from module to `.pte`.",
        "",
        "| network | SQNR, dB | top-1 | delegated | pieces | outside | size, kB | latency, ms | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in stored["networks"]:
        for side in SIDES:
            if "size" in row[side]:
                row[side]["size"] /= 1000
        cells = (
            row["name"], _cell(row, "sqnr_db", "{:.1f}"), _classes(row), _cell(row, "share", "{:.0%}"),
            _cell(row, "pieces", "{}"), _cell(row, "outside", "{}"), _cell(row, "size", "{:.0f}"),
            _cell(row, "latency_ms", "{:.3f}"), _cell(row, "seconds", "{:.1f}"),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    failed = {
        row["name"]: row["incumbent"].get("cause", row["incumbent"]["error"])
        for row in stored["networks"]
        if "error" in row["incumbent"]
    }
    if failed:
        lines += ["", "Where the documented script gives no program:", ""]
        lines += [f"- {name}: `{cause}`" for name, cause in failed.items()]
    lines += ["", f"{machine['cpu']}, {machine['system']}, one thread; {versions}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Compare the named networks, all by default; each row is stored as soon as it is there."""
    parser = argparse.ArgumentParser(description="Compare this host with ExecuTorch's documented script.")
    parser.add_argument("names", nargs="*", metavar="NETWORK", help="networks to compare (default: all)")
    parser.add_argument("--runs", type=int, default=201, help="timed runs of each program (default: 201)")
    parser.add_argument("--limit", type=float, default=900, help="seconds for a lowering (default: 900)")
    parser.add_argument("--table", action="store_true", help="write the page of the documentation, and stop")
    arguments = parser.parse_args()
    if not arguments.table:
        measure.one_thread()
        for net in [network(name) for name in arguments.names] or NETWORKS:
            row = compare(net, runs=arguments.runs, limit=arguments.limit)
            _store(row)
            print(json.dumps(row), flush=True)
    _PAGE.parent.mkdir(parents=True, exist_ok=True)
    _PAGE.write_text(table())


if __name__ == "__main__":
    main()
