"""Placement by measured costs on the real delegate, and what measuring makes of the support table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

import quanthost
from quanthost.api import SupportTable
from quanthost.catalogue import examples_of
from quanthost.errors import RequestError
from quanthost.host import measuring
from quanthost.host.measured_costs import load_costs, save_costs
from quanthost.stages.capturing.capture import capture
from quanthost.stages.preparing import prepare as stage
from quanthost.values import ConversionCost, CostTable, Kernel, SiteCost
from quanthost_xnnpack_like.rows import TABLE

BACKEND = "xnnpack_like"
_RANDOM = torch.Generator().manual_seed(0)
IMAGES = [(torch.randn(1, 3, 10, 10, generator=_RANDOM),) for _ in range(4)]
QUANTIZED = quanthost.Verdict.QUANTIZED
# rows whose example becomes another row before the table sees it, or that exist in training alone
ELSEWHERE = {
    *("clone", "view_of_clone", "relu_of_maximum", "hardtanh_of_maximum"),
    *("conv_batch_norm", "conv_batch_norm_relu", "conv_batch_norm_hardtanh"),
}
CHOICES = [row for row in TABLE if row.kernels - {Kernel.FLOAT} and row.name not in ELSEWHERE]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.second(torch.relu(self.first(x))))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def measured(net: nn.Module) -> CostTable:
    return quanthost.measure_costs(BACKEND, [(net, IMAGES[0])])


def priced(table: CostTable, slow_row: str) -> CostTable:
    """The measured places, with times that leave no doubt: integers are faster, but in one row."""

    def seconds(site: SiteCost) -> float:
        in_float = site.kernel is Kernel.FLOAT
        return 1e-3 if in_float == (site.row == slow_row) else 5e-3

    sites = [attrs.evolve(site, seconds=seconds(site)) for site in table.sites]
    free = [attrs.evolve(cost, seconds=0.0) for cost in table.conversions]
    return attrs.evolve(table, sites=sites, conversions=free)


def quantize(net: nn.Module, **more: Any) -> quanthost.LoweredProgram:
    return quanthost.quantize(net, IMAGES[0], BACKEND, calibration=IMAGES, **more)


def test_measured(measured: CostTable) -> None:
    """Each place of the model, in float and in each kernel that has it."""
    kernels = {(site.row, site.kernel) for site in measured.sites}
    for row in ("conv", "conv_relu"):
        assert {kernel for name, kernel in kernels if name == row} == {
            Kernel.STATIC, Kernel.DYNAMIC, Kernel.FLOAT
        }  # fmt: skip
    assert ("sigmoid", Kernel.STATIC) in kernels
    assert all(0 < site.seconds < 1 for site in measured.sites)
    assert measured.conversions
    assert all(isinstance(cost, ConversionCost) for cost in measured.conversions)


def test_slow_rows_stay_in_float(net: nn.Module, measured: CostTable) -> None:
    program = quantize(net, optimize_for="latency", costs=priced(measured, "conv"))
    verdicts = {d.node: (d.verdict, d.reason) for d in program.decisions}
    assert verdicts["conv2d"][0] is QUANTIZED
    assert verdicts["conv2d_1"][0] is quanthost.Verdict.FLOAT
    assert "faster in float: 5000.0 µs in integers, 1000.0 µs in float" in verdicts["conv2d_1"][1]
    wanted = net(*IMAGES[0])
    assert (program.run(*IMAGES[0]) - wanted).abs().max() < 0.05


def test_expected_and_measured(net: nn.Module, measured: CostTable, tmp_path: Path) -> None:
    program = quantize(net, optimize_for="latency", costs=priced(measured, "conv"))
    latency = program.record.latency
    assert latency is not None
    assert latency.expected < min(latency.all_integer, latency.all_float)
    assert latency.measured is not None
    assert 0 < latency.measured < 1
    assert latency.machine == latency.table_machine == measured.machine
    assert quanthost.load(program.save(tmp_path / "net.pte")).record.latency == latency


def test_accuracy_is_the_default(net: nn.Module) -> None:
    program = quantize(net)
    assert program.record.latency is None
    assert {d.verdict for d in program.decisions if "conv2d" in d.node} == {QUANTIZED}


def test_dynamic_kernels_are_placed_too(net: nn.Module, measured: CostTable) -> None:
    found = quanthost.prepare(
        quanthost.capture(net, IMAGES[0]), BACKEND, "int8_dynamic", optimize_for="latency",
        costs=priced(measured, "conv"),
    )  # fmt: skip
    quantized = {d.node for d in found.decisions if d.verdict is QUANTIZED}
    assert "conv2d" in quantized
    assert "conv2d_1" not in quantized


class Normed(Net):
    """The second convolution has a batch norm behind it, as while training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.norm(self.second(torch.relu(self.first(x)))))


@pytest.mark.parametrize("kind", [Net, Normed])
def test_training_with_placement_for_latency(kind: type[nn.Module], measured: CostTable) -> None:
    """What is faster in float is trained in float; what has no price, as with a batch norm, stays integer."""
    torch.manual_seed(0)
    costs = priced(measured, "conv")
    captured = quanthost.capture(kind(), IMAGES[0], train=True)
    prepared = quanthost.prepare(captured, BACKEND, qat=True, optimize_for="latency", costs=costs)
    quantized = {d.node for d in prepared.decisions if d.verdict is QUANTIZED}
    assert "conv2d" in quantized
    assert ("conv2d_1" in quantized) == (kind is Normed)
    assert prepared.latency is not None
    assert prepared.latency.unpriced == (("batch_norm",) if kind is Normed else ())
    optimizer = torch.optim.SGD(prepared.module.parameters(), 0.01)
    for (image,) in IMAGES:
        optimizer.zero_grad()
        prepared.module(image).square().mean().backward()
        optimizer.step()
    converted = quanthost.convert(prepared)
    program = quanthost.lower(converted)
    assert program.record.latency is not None
    assert program.record.latency.measured is not None
    assert (program.run(*IMAGES[0]) - converted.module(*IMAGES[0])).abs().max() < 0.05


def test_parts_for_scripts_place_for_latency(net: nn.Module, measured: CostTable) -> None:
    """The quantizer and the export recipe as ``prepare`` does; both refuse costs alone."""
    costs = priced(measured, "conv")
    captured = quanthost.capture(net, IMAGES[0])
    wanted = quanthost.prepare(captured, BACKEND, optimize_for="latency", costs=costs)
    alone = quanthost.as_quantizer(BACKEND, optimize_for="latency", costs=costs)
    recipe = quanthost.as_export_recipe(BACKEND, optimize_for="latency", costs=costs)
    assert recipe.quantization_recipe is not None
    quantizers = recipe.quantization_recipe.quantizers
    assert quantizers is not None
    for quantizer in (alone, *quantizers):
        prepare_pt2e(torch.export.export(net, IMAGES[0]).module(), quantizer)
        assert [(d.node, d.verdict) for d in quantizer.decisions] == [
            (d.node, d.verdict) for d in wanted.decisions
        ]
        assert quantizer.latency == wanted.latency
    for part in (quanthost.as_quantizer, quanthost.as_export_recipe):
        with pytest.raises(RequestError, match="costs without optimize_for"):
            part(BACKEND, costs=costs)


def test_saved_costs(net: nn.Module, measured: CostTable, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "costs.json"
    save_costs(measured, path)
    assert load_costs(path) == measured
    assert quantize(net, optimize_for="latency", costs=path).record.latency is not None


def test_mistakes(net: nn.Module, measured: CostTable, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("quanthost.host.measured_costs.costs_path", lambda name: tmp_path / f"{name}.json")
    with pytest.raises(RequestError, match="quanthost measure xnnpack_like"):
        quantize(net, optimize_for="latency")
    with pytest.raises(RequestError, match="optimize_for='speed'"):
        quantize(net, optimize_for="speed")
    with pytest.raises(RequestError, match="costs without optimize_for"):
        quantize(net, costs=measured)
    with pytest.raises(RequestError, match="costs of other for xnnpack_like"):
        quantize(net, optimize_for="latency", costs=attrs.evolve(measured, backend="other"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RequestError, match=r"broken\.json that cannot be read"):
        quantize(net, optimize_for="latency", costs=tmp_path / "broken.json")


@pytest.mark.parametrize("row", CHOICES, ids=lambda row: row.name)
def test_examples_are_of_their_row(row: Any) -> None:
    """The catalogue has sizes for each row, and the row is what the backend sees in them."""
    measures = measuring._Measuring.of(quanthost.Target(backend=BACKEND))
    found: set[str] = set()
    for example in examples_of(row):
        captured = capture(example.module, example.inputs)
        for recipe in measures._recipes:
            sites = stage.plan(captured, measures._plugins, measures._request(recipe)).plan.matches
            found.update(site.match.row for site in sites)
        if row.name in found:
            return
    pytest.fail(f"its examples are {found}")


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.pad, self.second = nn.Conv2d(3, 8, 1), nn.ZeroPad2d(1), nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.pad(torch.relu(self.first(x))))


@pytest.mark.parametrize("toolchain", ["fast", "upstream"])
def test_padding_in_float_beside_integers(toolchain: str) -> None:
    """The delegate's own pass would quantize it for a convolution that is float."""
    torch.manual_seed(0)
    model = Padded().eval()
    rules = [quanthost.Override(module_name=name, keep_float=True) for name in ("pad", "second")]
    program = quantize(model, overrides=rules, toolchain=toolchain)
    assert len(program.record.pieces) == 1
    wanted = model(*IMAGES[0])
    assert (program.run(*IMAGES[0]) - wanted).abs().max() < 0.02 * wanted.abs().max()


class Token(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Buffer(torch.linspace(-0.1, 0.1, 8).view(1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token, x], 1)


def test_a_constant_that_shares_its_range_with_data() -> None:
    """The range is that of both, not that of the constant alone."""
    x = torch.linspace(-4, 4, 32).view(1, 4, 8)
    program = quanthost.quantize(Token(), (x,), BACKEND, calibration=[(x,)], placement="all")
    assert (program.run(x) - Token()(x)).abs().max() < 0.04


def test_rows_that_no_example_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks for its surroundings costs what its twin does; of the others stands why they have no cost."""
    measures = measuring._Measuring.of(quanthost.Target(backend=BACKEND))
    wanted = {"relu", "relu_of_maximum", "view_of_clone", "clone", "conv_batch_norm", "sqrt"}
    few = SupportTable(tuple(row for row in TABLE if row.name in wanted))
    monkeypatch.setattr(measures._backend, "table", few)
    for make in measures.examples(()):
        measures.add(make())
    table = measures.table()
    costs = {name: {(s.kernel, s.sizes): s.seconds for s in table.sites if s.row == name} for name in wanted}
    assert costs["relu"]
    assert costs["relu_of_maximum"] == costs["relu"]
    assert {name for name in wanted if costs[name]} == {"relu", "relu_of_maximum"}
    reasons = dict(table.skipped)
    assert reasons.keys() == wanted - {"relu", "relu_of_maximum"}
    assert reasons["view_of_clone"] == "its examples become another row before the table sees them"
    assert reasons["clone"].startswith("the toolchain refused the graph")
    assert reasons["conv_batch_norm"].startswith("the catalogue has no sizes")
    assert reasons["sqrt"] == "float alone: there is nothing to choose"
