"""What calibration costs beside a float forward, and how good its ranges are, side by side in one run.

    python benchmarks/calibration.py [NETWORK …]
    python benchmarks/calibration.py --table     # writes docs/benchmarks/calibration.md from the results

For each network, on one thread and on two: seconds of the float model over the calibration data, of
``quanthost.collect_statistics``, and of the incumbent's observed graph (``XNNPACKQuantizer``, whose
observers keep histograms), taking turns. The error of ranges is that of quantizing the observed tensors
themselves: for tensors that both observe, the sum of squared errors with quanthost's ranges over that with
the incumbent's ``HistogramObserver``, as a geometric mean and at worst. Then whether order, split and two
processes change a bit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kept
import torch
from networks import Batches, network
from torch import Tensor, fx
from torchao.quantization.pt2e import HistogramObserver

import quanthost
from quanthost.stages.calibrating.observing import data_observers

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).parent / "results" / "calibration.json"
_PAGE = _ROOT / "docs" / "benchmarks" / "calibration.md"
SUBJECTS = (
    *("mobilenet-v2", "resnet18", "efficientnet-lite0", "vit-6", "crepe-tiny", "mtcnn-onet", "resnet8"),
    "ds-cnn",
)
# so long that what is done once, such as copying the graph, is little
_SECONDS = 4.0


def _time(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def costs(name: str, threads: int, turns: int) -> dict[str, Any]:
    """Milliseconds a batch: the float model, quanthost, and the incumbent, medians of turns."""
    torch.set_num_threads(threads)
    net = network(name)
    model, inputs = net.build()
    data = net.calibration()
    captured = quanthost.capture(model, inputs)
    prepared = quanthost.prepare(captured, backend="xnnpack_like")
    plain, theirs = captured.exported.module(), _incumbent(model, inputs)

    def each(module: Callable[..., Any], batches: Batches) -> None:
        with torch.no_grad():
            for batch in batches:
                module(*batch)

    each(plain, data[:3]), each(theirs, data[:3])
    once = _time(lambda: each(plain, data[:8])) / len(data[:8])
    batches = (data * (int(_SECONDS / once / len(data)) + 1))[: max(16, int(_SECONDS / once))]
    few = batches[: max(8, len(batches) // 8)]
    taken: dict[str, list[float]] = {"float": [], "quanthost": [], "incumbent": []}
    for _ in range(turns):
        taken["float"].append(_time(lambda: each(plain, batches)) / len(batches))
        taken["quanthost"].append(
            _time(lambda: quanthost.collect_statistics(prepared, batches)) / len(batches)
        )
        taken["incumbent"].append(_time(lambda: each(theirs, few)) / len(few))
    return {side: statistics.median(seconds) * 1e3 for side, seconds in taken.items()} | {
        "batches": len(batches)
    }


def _incumbent(model: Any, inputs: Any) -> fx.GraphModule:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    made: fx.GraphModule = prepare_pt2e(torch.export.export(model, inputs).module(), quantizer)
    return made


def errors(name: str) -> dict[str, float]:
    """Squared error of quantizing each observed tensor: quanthost's ranges over ``HistogramObserver``'s."""
    torch.set_num_threads(1)
    net = network(name)
    model, inputs = net.build()
    data = net.calibration()[:8]
    prepared = quanthost.prepare(quanthost.capture(model, inputs), backend="xnnpack_like")
    calibrated = quanthost.calibrate(prepared, data)
    observers = data_observers(calibrated.module)
    tensors = _observed(calibrated.module, {node: key for key, (node, _) in observers.items()}, data)
    ratios = []
    for key, (_, observer) in observers.items():
        theirs = HistogramObserver(
            dtype=torch.int8, quant_min=-128, quant_max=127, qscheme=torch.per_tensor_affine
        )
        for tensor in tensors[key]:
            theirs(tensor)
        ours, other = (
            sum(_error(tensor, *qparams) for tensor in tensors[key])
            for qparams in (observer.calculate_qparams(), theirs.calculate_qparams())
        )
        if ours and other:
            ratios.append(ours / other)
    return {
        "tensors": len(ratios), "mean": statistics.geometric_mean(ratios), "worst": max(ratios)
    }  # fmt: skip


def _observed(module: fx.GraphModule, keys: dict[fx.Node, str], data: Batches) -> dict[str, list[Tensor]]:
    seen: dict[str, list[Tensor]] = {key: [] for key in keys.values()}

    class Keeps(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            if node in keys:
                made = self.env[node.args[0]]
                seen[keys[node]].append(made.detach().clone())
                return made
            return self.env[node.args[0]] if node.op == "call_module" else super().run_node(node)

    with torch.no_grad():
        for batch in data:
            Keeps(module).run(*batch)
    return seen


def _error(tensor: Tensor, scale: Tensor, zero_point: Tensor) -> float:
    made = torch.fake_quantize_per_tensor_affine(tensor, float(scale), int(zero_point), -128, 127)
    return float((tensor.double() - made.double()).square().sum())


def laws(name: str) -> dict[str, bool]:
    """Whether the order, a cut into shares and their merge, and two ranks give the same bits."""
    prepared, data = _few(name)
    whole = quanthost.collect_statistics(prepared, data).to_bytes()
    shares = [quanthost.collect_statistics(prepared, data, shard=f"{n}/4") for n in (3, 1, 4, 2)]
    return {
        "order": quanthost.collect_statistics(prepared, data[::-1]).to_bytes() == whole,
        "shares": quanthost.merge_statistics(shares).to_bytes() == whole,
        "ranks": _of_ranks(name) == [whole, whole],
    }


def _few(name: str) -> tuple[Any, Batches]:
    # the bits of a convolution depend on the number of threads
    torch.set_num_threads(1)
    net = network(name)
    model, inputs = net.build()
    prepared = quanthost.prepare(quanthost.capture(model, inputs), backend="xnnpack_like")
    return prepared, net.calibration()[:6]


def _of_ranks(name: str) -> list[bytes]:
    """What each of two processes under ``torchrun`` holds at the end."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*launcher, __file__, "--rank-into", folder, name], check=True, capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return [(Path(folder) / str(rank)).read_bytes() for rank in range(2)]


def _rank(name: str, folder: Path) -> None:
    held = quanthost.collect_statistics(*_few(name))
    (folder / os.environ["RANK"]).write_bytes(held.to_bytes())


def _page(results: dict[str, Any]) -> str:
    lines = [
        "# What calibration costs", "",
        "The table shows milliseconds per batch, and their ratio to the float forward pass, from one run",
        "of `python benchmarks/calibration.py`. It compares quanthost with the documented script, whose",
        "observers keep histograms, on the same data. The error is that of quantizing the observed",
        "tensors with `mse` ranges, divided by the error with `HistogramObserver`: geometric mean and",
        "worst case. Below 1 is better. Order, shares and ranks show whether the statistics of the",
        "reversed batches, of four merged shards, and of each of two processes under `torchrun` equal",
        "those of one process.", "",
        "On one thread, the time above the forward pass is spent on counting: 20 to 60 microseconds per",
        "tensor, even if the tensor itself takes less time to compute. The aim is a ratio of 1.3; on one",
        "thread, networks of many small tensors are above it. With more threads, each thread runs whole",
        "batches.", "",
        "| network | threads | float | quanthost | ratio | incumbent | ratio | error, mean | error, worst "
        "| order | shares | 2 ranks |",
        "| --- " * 12 + "|",
    ]  # fmt: skip
    for row in results["rows"]:
        for threads, cost in row["threads"].items():
            plain, ours, theirs = cost["float"], cost["quanthost"], cost["incumbent"]
            error, same = row["error"], row["laws"]
            lines.append(
                f"| {row['name']} | {threads} | {plain:.2f} | {ours:.2f} | {ours / plain:.2f} | {theirs:.2f} "
                f"| {theirs / plain:.2f} | {error['mean']:.3f} | {error['worst']:.3f} "
                f"| {_told(same['order'])} | {_told(same['shares'])} | {_told(same['ranks'])} |"
            )
    versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    lines += ["", f"{results['machine']['cpu']}; {versions}.", ""]
    return "\n".join(lines)


def _told(same: bool) -> str:
    return "same bits" if same else "differs"


def main() -> None:
    """Run what is named, or all, and keep the results; or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rank-into", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank_into:
        _rank(arguments.networks[0], arguments.rank_into)
        return
    if not arguments.table:
        for name in arguments.networks or SUBJECTS:
            row = {
                "name": name, "error": errors(name), "laws": laws(name),
                "threads": {str(count): costs(name, count, arguments.turns) for count in (1, 2)},
            }  # fmt: skip
            kept.keep(_RESULTS, row, SUBJECTS)
            print(json.dumps(row), flush=True)
    _PAGE.write_text(_page(kept.load(_RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
