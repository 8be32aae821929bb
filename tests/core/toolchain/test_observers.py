"""The observer: what it keeps of a tensor, the parameters it answers, and the layouts it converts itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from flow_nets import BACKEND, prepared, rand, seeded, sqnr
from torch import fx, nn

import quanthost
from quanthost.arith.affine import qparams_from_range
from quanthost.arith.sketch import RangeSketch
from quanthost.graph.operators import operator_name
from quanthost.toolchain import observers
from quanthost.toolchain.observers import RangeObserver, torch_qscheme
from quanthost.values import (
    DType,
    Estimator,
    Granularity,
    QSpec,
    RangeEstimator,
    ScaleFormat,
    Symmetry,
    Timing,
)

MINMAX = RangeEstimator(kind=Estimator.MINMAX)
TENSOR = QSpec(dtype=DType.INT8, estimator=MINMAX)
CHANNEL = QSpec(
    dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=1,
    symmetry=Symmetry.SYMMETRIC, estimator=MINMAX,
)  # fmt: skip
GROUP = QSpec(
    dtype=DType.INT4, granularity=Granularity.PER_GROUP, axis=0, group_size=4,
    symmetry=Symmetry.SYMMETRIC, estimator=MINMAX,
)  # fmt: skip
TOKEN = QSpec(dtype=DType.INT8, granularity=Granularity.PER_TOKEN, timing=Timing.DYNAMIC, estimator=MINMAX)


def observed(spec: QSpec, *tensors: torch.Tensor, **options: Any) -> RangeObserver:
    observer = RangeObserver(spec=spec, **options)
    for tensor in tensors:
        assert observer(tensor) is tensor
    return observer


def seen(observer: RangeObserver) -> int:
    """How many values the observer has taken in."""
    assert isinstance(observer.statistics, RangeSketch)
    return observer.statistics.count


def test_a_tensor_s_range() -> None:
    """Scale and zero point cover the extremes of all batches."""
    observer = observed(TENSOR, torch.tensor([-1.0, 2.0]), torch.tensor([[3.0]]))
    scale, zero_point = observer.calculate_qparams()
    wanted = qparams_from_range(torch.tensor(-1.0), torch.tensor(3.0), TENSOR)
    assert (scale, zero_point) == wanted
    assert (scale.dtype, zero_point.dtype) == (torch.float32, torch.int64)
    assert observer.batches == 2


def test_a_range_for_each_channel() -> None:
    """One scale for each index of the axis."""
    scale, zero_point = observed(CHANNEL, torch.tensor([[1.0, -4.0], [2.0, 3.0]])).calculate_qparams()
    assert torch.allclose(scale, torch.tensor([2.0, 4.0]) / 127)
    assert torch.equal(zero_point, torch.zeros(2, dtype=torch.int64))


def test_a_range_for_each_group() -> None:
    """Groups lie along the last axis: four values have one scale."""
    scale, _ = observed(GROUP, torch.arange(16.0).reshape(2, 8)).calculate_qparams()
    assert torch.allclose(scale, torch.tensor([3.0, 7.0, 11.0, 15.0]) / 7.5)


def test_scales_in_the_target_s_format() -> None:
    """Rounded to bfloat16, so that the quantized graph computes with what the target stores."""
    spec = QSpec(dtype=DType.INT8, estimator=MINMAX, scale_format=ScaleFormat.BFLOAT16)
    (scale,) = (observed(spec, torch.tensor([0.0, 1.0])).calculate_qparams()[0],)
    assert scale.dtype is torch.float32
    assert scale == scale.to(torch.bfloat16)
    assert scale != observed(TENSOR, torch.tensor([0.0, 1.0])).calculate_qparams()[0]


def test_zeros_alone_have_a_usable_scale() -> None:
    """A dead activation gets a scale that is neither 0 nor tiny."""
    scale, zero_point = observed(TENSOR, torch.zeros(4)).calculate_qparams()
    assert scale == pytest.approx(1 / 255)
    assert int(zero_point) == -128


def test_a_constant_is_read_once() -> None:
    """A weight does not change from batch to batch."""
    observer = observed(TENSOR, torch.tensor([1.0]), torch.tensor([9.0]), once=True)
    assert seen(observer) == 1
    assert observer.batches == 2


def test_dynamic_ranges_observe_nothing() -> None:
    """They are computed when the program runs."""
    assert seen(observed(TOKEN, torch.tensor([1.0]))) == 0


def test_auto_stands_for_what_was_chosen() -> None:
    """Mean squared error until convert has judged."""
    values = torch.cat([rand(10_000), torch.tensor([50.0])])
    auto = observed(QSpec(dtype=DType.INT8, estimator=RangeEstimator(kind=Estimator.AUTO)), values)
    by = {
        kind: observed(
            QSpec(dtype=DType.INT8, estimator=RangeEstimator(kind=kind)), values
        ).calculate_qparams()
        for kind in (Estimator.MSE, Estimator.MINMAX)
    }
    assert by[Estimator.MSE] != by[Estimator.MINMAX]
    assert auto.calculate_qparams() == by[Estimator.MSE]
    auto.chosen = MINMAX
    assert auto.calculate_qparams() == by[Estimator.MINMAX]


@pytest.mark.parametrize(
    ("spec", "converts"), [(TENSOR, False), (CHANNEL, False), (GROUP, True), (TOKEN, True)]
)
def test_only_two_layouts_convert_themselves(spec: QSpec, converts: bool) -> None:
    """Torchao asks each observer whether it has a ``convert``."""
    assert hasattr(RangeObserver(spec=spec), "convert") == converts
    with pytest.raises(AttributeError, match="no_such"):
        RangeObserver(spec=spec).no_such  # noqa: B018


def test_torch_s_names() -> None:
    """One scheme for the tensor, or one for each channel."""
    assert torch_qscheme(TENSOR) is torch.per_tensor_affine
    assert torch_qscheme(CHANNEL) is torch.per_channel_symmetric


class Two(nn.Module):
    """One tensor that two layers read, and one weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        seeded(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.first(x) + self.second(x) + self.first(x * 2)
        return y


def chains(module: fx.GraphModule, name: str) -> list[fx.Node]:
    return [n for n in module.graph.nodes if n.op == "call_function" and name in operator_name(n)]


def test_each_layer_has_its_own_chain_at_run_time() -> None:
    """A kernel absorbs choose, quantize and dequantize of its own."""
    x = rand(3, 32)
    module = quanthost.convert(prepared(Two(), x, recipe="int8_dynamic")).module
    readers = [list(node.users) for node in chains(module, "dequantize_per_token")]
    assert [len(each) for each in readers] == [1, 1, 1]
    assert len(chains(module, "choose_qparams_per_token")) == 3
    assert sqnr(Two()(x), module(x)) > 35


def test_a_range_for_each_row_at_run_time() -> None:
    """A large row does not cost a small one its resolution."""
    x = rand(2, 32) * torch.tensor([[1000.0], [1.0]])
    module = quanthost.convert(prepared(Two(), x, recipe="int8_dynamic")).module
    assert sqnr(Two()(x)[1], module(x)[1]) > 35


def test_weights_in_groups_are_integers() -> None:
    """Each use of a shared weight has a dequantize of its own; values are 4-bit."""
    x = rand(3, 32)
    model = Two()
    module = quanthost.convert(prepared(model, x, recipe="int4_group_dynamic")).module
    dequantized = chains(module, "dequantize_per_channel_group")
    assert [len(node.users) for node in dequantized] == [1, 1, 1]
    stored = [b for name, b in module.named_buffers() if "weight_int4" in name]
    assert len(stored) == 2
    assert all(b.dtype is torch.int8 and int(b.min()) >= -8 and int(b.max()) <= 7 for b in stored)
    assert sqnr(model(x), module(x)) > 15
    assert model.first.weight.dtype is torch.float32


def test_observers_of_a_backend_are_these() -> None:
    """What prepare inserts is the host's observer for each static tensor."""
    made = prepared(nn.Linear(4, 4), rand(1, 4))
    kinds = {type(part) for name, part in made.module.named_modules() if "activation_post_process" in name}
    assert kinds == {RangeObserver}
    assert made.request.backends == (BACKEND,)


def test_a_copy_goes_its_own_way() -> None:
    """It has seen the same, and what either sees from then on is not the other's."""
    observer = RangeObserver(spec=QSpec(dtype=DType.INT8))
    observer(torch.tensor([-1.0, 2.0]))
    before = [value.clone() for value in observer.calculate_qparams()]

    made = copy.deepcopy(observer)
    assert all(torch.equal(a, b) for a, b in zip(made.calculate_qparams(), before))
    assert (made.batches, made.training, made.spec) == (1, observer.training, observer.spec)
    made(torch.tensor([-30.0, 40.0]))
    made.chosen = RangeEstimator(kind=Estimator.MINMAX)

    assert all(torch.equal(a, b) for a, b in zip(observer.calculate_qparams(), before))
    assert (observer.batches, observer.chosen) == (1, None)
    assert float(made.calculate_qparams()[0]) > 5 * float(before[0])


def test_copies_compute_a_range_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one computes of common statistics the other has, until one of them takes in more."""
    searched: list[object] = []
    search = observers.choose_range
    monkeypatch.setattr(
        observers, "choose_range", lambda sketch, spec: searched.append(sketch) or search(sketch, spec)
    )
    observer = RangeObserver(spec=QSpec(dtype=DType.INT8))
    observer(torch.tensor([-1.0, 2.0]))
    first, second = copy.deepcopy(observer), copy.deepcopy(observer)
    before = first.calculate_qparams()

    assert all(torch.equal(a, b) for a, b in zip(second.calculate_qparams(), before))
    assert len(searched) == 1
    second.update_function()(torch.tensor([-30.0, 40.0]))
    assert float(second.calculate_qparams()[0]) > 5 * float(before[0])
    assert all(torch.equal(a, b) for a, b in zip(observer.calculate_qparams(), before))
    assert len(searched) == 2
