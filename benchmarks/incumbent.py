"""Owns the incumbent's side: ExecuTorch's documented XNNPACK script, timed step by step on every network."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import measure
import torch
from networks import NETWORKS, Batches, Inputs, Network, network
from torch import nn

__all__ = [
    "Attempt",
    "Clock",
    "accuracy_facts",
    "apart",
    "attempt",
    "lower_incumbent",
    "measure_incumbent",
    "program_facts",
    "provenance",
]

_RESULTS = Path(__file__).parent / "results" / "incumbent.json"


class Clock:
    """Seconds by step, in order, and the processor's for all; ``running`` names the step that an error left.

    The two differ where other work held the processor: the steps run on one thread.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu = 0.0
        self.running: str | None = None

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the body under ``name``."""
        self.running = name
        start, cpu_start = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start
            self.cpu += time.process_time() - cpu_start
        self.running = None


def lower_incumbent(
    model: nn.Module,
    example_inputs: Inputs,
    calibration: Batches,
    quantize: bool = True,
    clock: Clock | None = None,
) -> bytes:
    """A ``.pte`` by the script that ExecuTorch documents for XNNPACK: static int8, weights per channel."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    clock = Clock() if clock is None else clock
    if quantize:
        model = _quantize(model, example_inputs, calibration, clock)
    with clock.step("export"):
        exported = torch.export.export(model, example_inputs)
    with clock.step("lower"):
        edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    with clock.step("to_executorch"):
        return bytes(edge.to_executorch().buffer)


def _quantize(model: nn.Module, example_inputs: Inputs, calibration: Batches, clock: Clock) -> nn.Module:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    with clock.step("capture"):
        captured = torch.export.export(model, example_inputs).module()
    with clock.step("prepare"):
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        prepared = prepare_pt2e(captured, quantizer)
    with clock.step("calibrate"):
        for batch in calibration:
            prepared(*batch)
    with clock.step("convert"):
        return convert_pt2e(prepared)


@attrs.frozen(kw_only=True)
class Attempt:
    """What came of one lowering: the program, or in ``failure`` what went wrong; and its seconds.

    ``seconds`` are by step, with their ``total`` and the processor's ``cpu``.
    """

    pte: bytes | None
    failure: dict[str, str]
    seconds: dict[str, float]


def attempt(model: nn.Module, example_inputs: Inputs, calibration: Batches, quantize: bool) -> Attempt:
    """Lower, and make what the toolchain raises a value: it is this benchmark's result."""
    clock = Clock()
    pte: bytes | None = None
    failure: dict[str, str] = {}
    try:
        pte = lower_incumbent(model, example_inputs, calibration, quantize, clock)
    except Exception as error:
        failure = {"failed_in": str(clock.running)} | _error_facts(error)
    seconds = clock.seconds | {"total": sum(clock.seconds.values()), "cpu": clock.cpu}
    return Attempt(pte=pte, failure=failure, seconds=seconds)


def apart(work: Callable[[], Attempt], limit: float) -> Attempt:
    """``work`` in a fork of this process, ended after ``limit`` seconds.

    A fork starts with everything imported, leaves no caches to the next network, and can be ended, where
    the toolchain takes hours or dies.
    """
    start, cpu_start = time.perf_counter(), _cpu_of_ended_children()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(work()))
    process.start()
    sender.close()
    try:
        if receiver.poll(limit):
            return receiver.recv()
        failure = {"error": f"no program after {limit:g} s"}
    except EOFError:
        process.join()
        failure = {"error": f"the process ended with exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()
    seconds = {"total": time.perf_counter() - start, "cpu": _cpu_of_ended_children() - cpu_start}
    return Attempt(pte=None, failure=failure, seconds=seconds)


def _cpu_of_ended_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def measure_incumbent(net: Network, *, runs: int, limit: float) -> dict[str, Any]:
    """The row of one network: its int8 and float program, or the error in place of either."""
    model, example_inputs = net.build()
    calibration, evaluation = net.calibration(), net.evaluation()
    with torch.no_grad():
        reference = [model(*inputs) for inputs in evaluation]
    row: dict[str, Any] = {"name": net.name, "note": net.note}
    row["parameters"] = sum(p.numel() for p in model.parameters())
    row["inputs"] = {"calibration": len(calibration), "evaluation": len(evaluation)}
    row["eager"] = accuracy_facts(net, reference, reference)
    calls: dict[str, Callable[[], object]] = {}
    for variant, quantize in (("int8", True), ("float", False)):
        work = functools.partial(attempt, model, example_inputs, calibration, quantize)
        lowered = apart(work, limit)
        row[variant] = lowered.failure | {
            "seconds": {step: round(taken, 2) for step, taken in lowered.seconds.items()}
        }
        if lowered.pte is None:
            continue
        row[variant] |= program_facts(lowered.pte)
        try:
            runner = measure.load(lowered.pte)
            outputs = [runner(inputs) for inputs in evaluation]
        except Exception as error:
            row[variant] |= {"failed_in": "run"} | _error_facts(error)
            continue
        row[variant] |= accuracy_facts(net, outputs, reference)
        calls[variant] = functools.partial(runner, evaluation[0])
    for variant, taken in measure.latency(calls, runs=runs).items():
        row[variant]["latency_ms"] = round(taken, 4)
    # Above about 1 something else was running too, and the times of this row are too long.
    row["load_average"] = round(os.getloadavg()[0], 2)
    return row


def program_facts(pte: bytes) -> dict[str, Any]:
    parts = measure.composition(pte)
    share = None if parts.share is None else round(parts.share, 4)
    return {
        "size": parts.size,
        "pieces": parts.pieces,
        "delegated": parts.delegated,
        "share": share,
        "outside": sum(parts.outside.values()),
        "outside_operators": parts.outside,
    }


def accuracy_facts(net: Network, outputs: list[Any], reference: list[Any]) -> dict[str, Any]:
    """SQNR and, for a classifier, top-1 on its labels or agreement with the float model."""
    facts: dict[str, Any] = {}
    if outputs is not reference:
        noise = measure.sqnr(outputs, reference)
        facts["sqnr_db"] = round(noise, 2) if math.isfinite(noise) else str(noise)
    if net.scores is None:
        return facts
    if net.labels is not None:
        facts["top1"] = round(measure.top1(outputs, net.labels, net.scores), 4)
    elif outputs is not reference:
        facts["agreement"] = round(measure.agreement(outputs, reference, net.scores), 4)
    return facts


def _error_facts(error: BaseException) -> dict[str, str]:
    """The last line of what the toolchain raised, and of what it was raised from in the end."""
    facts = {"error": _last_line(error)}
    root = error
    while (deeper := root.__cause__ or root.__context__) is not None:
        root = deeper
    if root is not error:
        facts["cause"] = _last_line(root)
    return facts


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[-1:]])


def provenance() -> dict[str, Any]:
    """What decides the numbers beside the code: machine and versions."""
    return {"machine": _machine(), "versions": _versions()}


def _machine() -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo")
    named = (
        [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        if cpu.exists()
        else []
    )
    return {
        "cpu": named[0].partition(":")[2].strip() if named else platform.processor(),
        "cores": os.cpu_count(),
        "threads_used": 1,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _versions() -> dict[str, str]:
    """Versions of what decides the numbers; a package that is not installed took no part in them."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "torchao", "executorch", "transformers", "scikit-learn", "scikit-image"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    # its metadata may lack what it was built for: 2.13.0 for 2.13.0+cu130
    return versions | {"torch": torch.__version__}


def _store(row: dict[str, Any]) -> None:
    """Put the row into the results, in place of an older one of that network, in the table's order."""
    stored = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {"networks": []}
    rows = {old["name"]: old for old in stored["networks"]} | {row["name"]: row}
    ordered = [rows[net.name] for net in NETWORKS if net.name in rows]
    document = provenance() | {"networks": ordered}
    _RESULTS.parent.mkdir(exist_ok=True)
    _RESULTS.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def main() -> None:
    """Measure the named networks, all by default, and store a row as soon as it is there."""
    parser = argparse.ArgumentParser(description="Measure ExecuTorch's documented XNNPACK script.")
    parser.add_argument("names", nargs="*", metavar="NETWORK", help="networks to measure (default: all)")
    parser.add_argument("--runs", type=int, default=201, help="timed runs of each program (default: 201)")
    parser.add_argument("--limit", type=float, default=900, help="seconds for a lowering (default: 900)")
    arguments = parser.parse_args()
    chosen = [network(name) for name in arguments.names] or NETWORKS
    measure.one_thread()
    # What the toolchain does only once (imports, caches) shall not count against the first network.
    lower_incumbent(nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), [(torch.ones(1, 2),)])
    for net in chosen:
        row = measure_incumbent(net, runs=arguments.runs, limit=arguments.limit)
        _store(row)
        print(json.dumps({key: row[key] for key in ("name", "int8", "float")}), flush=True)


if __name__ == "__main__":
    main()
