"""Integers of the delegate beside those of each representation, operator by operator and in whole networks.

``python benchmarks/bits.py`` runs all and writes ``docs/benchmarks/bits.md``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from incumbent import provenance
from networks import network
from torch import Tensor, nn

import quanthost
from quanthost import inspection
from quanthost.debugging.bits import BitDifference
from quanthost.stages.records import CalibratedModel

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "bits.md"
FORMS = (
    ("qdq", None), ("reference", "fp32_half_even"), ("integer", "fp32_half_even"), ("integer", "gemmlowp"),
    ("integer", "tosa"),
)  # fmt: skip
EXACT = ("integer", "fp32_half_even")
# each operator is calibrated at each of these scales, with means of as many standard deviations
SCALES = ((0.05, -1.0), (0.4, 0.2), (1.0, 2.0), (9.0, 0.0))
NETWORKS = (
    *("digits", "resnet8", "ds-cnn", "mobilenet-v1-025", "deep-autoencoder", "mtcnn-pnet", "mtcnn-rnet"),
    *("mtcnn-onet", "crepe-tiny", "efficientnet-lite0", "mobilenet-v2", "resnet18", "vit-6"),
)
IMAGE = (8, 16, 24, 24)
Form = tuple[str, str | None]
Differences = tuple[BitDifference, ...]


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


def _cells(found: list[dict[Form, Differences]]) -> list[str]:
    """How many integers each form was compared on, and for each form its share that is equal."""
    together = [tuple(d for each in found for d in each[form]) for form in FORMS]
    compared = f"{sum(d.elements for d in together[0]):,}"
    return [compared, *(_cell(made, first=form == EXACT) for form, made in zip(FORMS, together))]


def _compared(calibrated: CalibratedModel, inputs: list[tuple[Tensor, ...]]) -> dict[Form, Differences]:
    """Each operator's integers beside the delegate's, in each form; ends of the graph are left out."""
    program = quanthost.lower(quanthost.convert(calibrated), intermediates=True)
    found = {}
    for form in FORMS:
        made = quanthost.convert(calibrated, *form)
        compared = inspection.compare_bits(made, program, inputs)
        found[form] = tuple(d for d in compared.operators if d.operator)
    return found


def _cell(found: Differences, *, first: bool) -> str:
    differing, elements = sum(d.differing for d in found), sum(d.elements for d in found)
    largest = max(d.largest for d in found)
    if not differing:
        return "100 %"
    name = next(d.name for d in found if d.differing)
    return f"{1 - differing / elements:.4%}, {largest:.0f} LSB" + (f", from {name}" if first else "")


def _portable(calibrated: CalibratedModel, inputs: list[tuple[Tensor, ...]]) -> str:
    """The share of integers that the program without a delegate has in common with the eager form."""
    exact = quanthost.convert(calibrated, *EXACT)
    program = quanthost.lower(exact, intermediates=True)
    return _cell(inspection.compare_bits(exact, program, inputs).operators, first=False)


def _ratio(calibrated: CalibratedModel, model: nn.Module, inputs: tuple[Tensor, ...]) -> str:
    """The eager integer form's time over the float network's: the median of alternating runs."""
    exact = quanthost.convert(calibrated, *EXACT).module
    with torch.no_grad():
        ratios = [_seconds(exact, inputs) / _seconds(model, inputs) for _ in range(9)]
    return f"{statistics.median(ratios):.1f}"


def _seconds(module: Callable[..., object], inputs: tuple[Tensor, ...]) -> float:
    started = time.perf_counter()
    count = 0
    while time.perf_counter() - started < 0.05 or count < 2:
        module(*inputs)
        count += 1
    return (time.perf_counter() - started) / count


def _table(title: str, rows: list[list[str]], *more: str) -> list[str]:
    forms = ["q/dq", *(f"{representation}, {profile}" for representation, profile in FORMS[1:])]
    heads = [title, "integers", *forms, *more]
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _operator_row(name: str, module: nn.Module, shapes: tuple[tuple[int, ...], ...]) -> list[str]:
    found = []
    for scale, mean in SCALES:
        draws = [
            tuple((torch.randn(shape) + mean) * scale * (1 + place) for place, shape in enumerate(shapes))
            for _ in range(6)
        ]
        found.append(_compared(_calibrated(module.eval(), draws[:1], "all"), draws))
    return [name, *_cells(found)]


def _network_row(name: str) -> list[str]:
    net = network(name)
    model, _ = net.build()
    calibrated = _calibrated(model, net.calibration(), "cost")
    inputs = net.evaluation()[:4]
    return [
        name, *_cells([_compared(calibrated, inputs)]), _portable(calibrated, inputs[:1]),
        _ratio(calibrated, model, inputs[0]),
    ]  # fmt: skip


def main() -> None:
    """Compare, and write the page."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    operators = [_operator_row(*each) for each in _operators()]
    networks = []
    for name in NETWORKS:
        networks.append(_network_row(name))
        print(networks[-1], flush=True)
    facts = provenance()
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    PAGE.write_text("\n".join([
        "# Integers compared with the delegate", "",
        "The tables compare the integers of XNNPACK's delegate with those of each representation of the",
        "same calibrated model, from one run of `python benchmarks/bits.py`. Cells show the share of",
        "equal integers and the largest difference. Each single operator is calibrated at four scales",
        "and zero points, and runs on inputs within and beyond the calibrated range. Networks run on",
        "inputs that calibration did not see, and all intermediate results of the program are compared",
        "with the integers.", "",
        *_table("operator", operators), "",
        *_table("network", networks, "integer `.pte` against eager", "eager over float, time"), "",
        "The profile of the delegate is `fp32_half_even`. The others belong to other targets, and differ",
        "from it as those targets do. `vit-6` has float islands: layer norm and attention. The delegate",
        "computes them in float with its own approximations, and integers differ only behind them.",
        "There, the float results of the portable kernels also differ from those of eager torch.", "",
        "The tests compare two other targets: `gemmlowp` with the kernels of LiteRT for",
        "Microcontrollers, operator by operator, and both `tosa` profiles with RESCALE of TOSA's",
        "reference model. All integers are equal.", "",
        f"{facts['machine']['cpu']}, one thread; {versions}.", "",
    ]), encoding="utf-8")  # fmt: skip


if __name__ == "__main__":
    main()
