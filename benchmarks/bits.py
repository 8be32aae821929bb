"""Integers of the delegate beside those of each representation, operator by operator and in whole networks.

``python benchmarks/bits.py`` runs all and writes ``docs/benchmarks/bits.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from incumbent import provenance
from networks import network
from torch import Tensor, nn

import quanthost
from quanthost.stages.bits import BitDifference
from quanthost.stages.records import CalibratedModel

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "bits.md"
FORMS = (("qdq", None), ("integer", "fp32_half_even"), ("integer", "gemmlowp"), ("integer", "tosa"))
NETWORKS = (
    *("digits", "resnet8", "ds-cnn", "mobilenet-v1-025", "deep-autoencoder", "mtcnn-pnet", "mtcnn-rnet"),
    *("mtcnn-onet", "crepe-tiny", "efficientnet-lite0", "mobilenet-v2", "resnet18", "vit-6"),
)
IMAGE = (8, 16, 24, 24)


class _Apply(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def _operators() -> Iterator[tuple[str, nn.Module, tuple[tuple[int, ...], ...]]]:
    yield "conv2d", nn.Conv2d(16, 24, 3, padding=1), (IMAGE,)
    yield "conv2d, relu", nn.Sequential(nn.Conv2d(16, 24, 3), nn.ReLU()), (IMAGE,)
    yield "conv2d, depthwise", nn.Conv2d(16, 16, 3, groups=16), (IMAGE,)
    yield "conv2d, grouped, dilated", nn.Conv2d(16, 16, 3, groups=4, dilation=2), (IMAGE,)
    yield "conv1d", nn.Conv1d(16, 64, 5, padding=2), ((8, 16, 400),)
    yield "conv_transpose2d", nn.ConvTranspose2d(16, 8, 3, stride=2), (IMAGE,)
    yield "linear", nn.Linear(512, 256), ((1024, 512),)
    for function in (torch.add, torch.sub, torch.mul, torch.maximum):
        yield function.__name__, _Apply(function), (IMAGE, IMAGE)
    yield "cat", _Apply(lambda a, b: torch.cat([a, b], 1)), (IMAGE, IMAGE)
    yield "mean", _Apply(lambda x: x.mean((2, 3), keepdim=True)), ((512, 512, 4, 4),)
    yield "max_pool2d", nn.MaxPool2d(2, 1), (IMAGE,)
    functions = (F.hardswish, torch.sigmoid, torch.tanh, F.elu, F.gelu, torch.exp, F.hardsigmoid)
    for function in functions:
        yield function.__name__, _Apply(function), (IMAGE,)
    yield "leaky_relu", _Apply(lambda x: F.leaky_relu(x, 0.1)), (IMAGE,)
    yield "prelu", nn.PReLU(16), (IMAGE,)


def _calibrated(model: nn.Module, batches: list[tuple[Tensor, ...]], placement: str) -> CalibratedModel:
    captured = quanthost.capture(model, batches[0])
    return quanthost.calibrate(quanthost.prepare(captured, "xnnpack_like", placement=placement), batches)


def _cells(calibrated: CalibratedModel, inputs: list[tuple[Tensor, ...]]) -> list[str]:
    """How many integers each form was compared on, and for each form its share that is equal."""
    program = quanthost.lower(quanthost.convert(calibrated), intermediates=True)
    cells = []
    for representation, profile in FORMS:
        form = quanthost.convert(calibrated, representation, profile)
        found = quanthost.compare_bits(form, program, inputs)
        if not cells:
            cells.append(f"{sum(d.elements for d in found.operators):,}")
        cells.append(
            _cell(found.operators, first=form.arithmetic is not None and profile == "fp32_half_even")
        )
    return cells


def _cell(found: tuple[BitDifference, ...], *, first: bool) -> str:
    differing, elements = sum(d.differing for d in found), sum(d.elements for d in found)
    largest = max(d.largest for d in found)
    if not differing:
        return "100 %"
    name = next(d.name for d in found if d.differing)
    return f"{1 - differing / elements:.4%}, {largest:.0f} LSB" + (f", from {name}" if first else "")


def _table(title: str, rows: list[list[str]]) -> list[str]:
    heads = [title, "integers", "q/dq", *(f"integer, {profile}" for _, profile in FORMS[1:])]
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    """Compare, and write the page."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    operators, networks = [], []
    for name, module, shapes in _operators():
        draws = [tuple(torch.randn(s) * (1 + n) + 0.2 for n, s in enumerate(shapes)) for _ in range(6)]
        operators.append([name, *_cells(_calibrated(module.eval(), draws[:1], "all"), draws)])
    for name in NETWORKS:
        net = network(name)
        model, _ = net.build()
        networks.append([name, *_cells(_calibrated(model, net.calibration(), "cost"), net.evaluation()[:4])])
        print(networks[-1], flush=True)
    facts = provenance()
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    PAGE.write_text("\n".join([
        "# Bits beside the delegate", "",
        "Integers of XNNPACK's delegate beside those of each representation of one calibrated model, from",
        "one run of `python benchmarks/bits.py`: the share that is equal, and the largest difference. Single",
        "operators see inputs within and beyond the calibrated range; in networks, all intermediate results",
        "of inputs that calibration did not see are compared, program against integers.", "",
        *_table("operator", operators), "", *_table("network", networks), "",
        "The profile of the delegate is `fp32_half_even`; the others are those of other targets, and differ",
        "from it as those targets do. `vit-6` has islands of float: layer norm and attention, that the",
        "delegate computes in float with approximations of its own; those that differ follow them.", "",
        f"{facts['machine']['cpu']}, one thread; {versions}.", "",
    ]), encoding="utf-8")  # fmt: skip


if __name__ == "__main__":
    main()
