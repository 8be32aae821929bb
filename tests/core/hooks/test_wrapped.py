"""An existing quantizer and partitioner behind the hooks: ExecuTorch's for XNNPACK, and odd ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, fx, nn
from torchao.quantization.pt2e.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PlaceholderObserver,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import (
    DerivedQuantizationSpec,
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

import quanthost
from quanthost.api import (
    BackendInfo,
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Granularity,
    Kernel,
    LoweringOptions,
    QSpec,
    RangeEstimator,
    Recipe,
    Role,
    Symmetry,
    WrappedBackend,
)
from quanthost.errors import RequestError, TableError
from quanthost.hooks.manager import Plugins
from quanthost.report.pte_file import read_pte
from quanthost.stages.lowering import lower
from quanthost.stages.preparing import prepare
from quanthost.toolchain.runtime import Executor
from quanthost.values import Match, Override, Request, Verdict

WEIGHT = QSpec(
    dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=0, symmetry=Symmetry.SYMMETRIC
)
STATIC = Recipe(name="int8_static", kernel=Kernel.STATIC, activation=QSpec(dtype=DType.INT8), weight=WEIGHT)
FLOAT = Recipe(name="fp32", kernel=Kernel.FLOAT)
Annotate = Callable[[fx.Node], QuantizationAnnotation | None]
KERNELS = ("executorch.kernels.quantized",)


def _xnnpack() -> XNNPACKQuantizer:
    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
    return quantizer


XNNPACK = WrappedBackend(
    info=BackendInfo(name="wrapped", recipes=[STATIC, FLOAT], runtime="XnnpackBackend"),
    quantizers={"int8_static": _xnnpack},
    partitioners=lambda: [XnnpackPartitioner()],
    lowering=LoweringOptions(runtime_modules=KERNELS),
)


class Net(nn.Module):
    """Fused activations, a batch norm, a residual, shared parameters, and an operator that stays float."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.inner, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.inner(x) + x)
        x = nn.functional.max_pool2d(torch.cat([x, x * 2], 1), 2)
        return torch.softmax(self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)), 1)


def _model() -> tuple[nn.Module, list[Tensor]]:
    torch.manual_seed(0)
    model, batches = Net(), [torch.randn(2, 3, 16, 16) for _ in range(8)]
    model.train()(batches[0])
    return model.eval(), batches


def _prepared(backend: WrappedBackend, model: nn.Module, inputs: Any, **given: Any) -> Any:
    name = backend.info.name
    request = Request(backends=name, **{"recipe": "int8_static", **given})
    return prepare.prepare(quanthost.capture(model, inputs), Plugins([(name, backend)]), request)


def _operators(graph: fx.Graph) -> Counter[str]:
    return Counter(str(node.target) for node in graph.nodes if node.op == "call_function")


@pytest.mark.filterwarnings("ignore")
def test_it_places_what_the_documented_script_does() -> None:
    """The same q/dq graph and delegated calls as the script that ExecuTorch documents, and close outputs."""
    model, batches = _model()
    converted = quanthost.convert(quanthost.calibrate(_prepared(XNNPACK, model, (batches[0],)), batches))
    program = lower.lower(converted)

    observed = prepare_pt2e(torch.export.export(model, (batches[0],)).module(), _xnnpack())
    for batch in batches:
        observed(batch)
    script = convert_pt2e(observed)
    exported = torch.export.export(script, (batches[0],))
    edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    theirs = bytes(edge.to_executorch().buffer)

    assert _operators(converted.module.graph) == _operators(script.graph)
    (mine,), (wanted,) = read_pte(program.buffer, "mine"), read_pte(theirs, "theirs")
    assert (mine.delegates, mine.kernels) == (wanted.delegates, wanted.kernels)
    run = Executor(theirs, KERNELS)
    for batch in batches:
        difference = (program.run(batch) - run([batch])[0]).abs().max()
        assert difference < 0.005
        assert (program.run(batch) - model(batch)).abs().max() < 0.005


def test_each_operator_has_its_decision() -> None:
    """Operators with nothing quantized between them are one match; what is not annotated says so."""
    model, batches = _model()
    decisions = _prepared(XNNPACK, model, (batches[0],)).decisions
    told = {each.node: (each.verdict, each.row) for each in decisions}

    assert told["conv2d"] == told["relu"] == (Verdict.QUANTIZED, "conv2d")
    assert told["add"] == told["relu_1"] == (Verdict.QUANTIZED, "add")
    assert told["cat"] == (Verdict.QUANTIZED, "cat")
    assert told["softmax"] == (Verdict.FLOAT, None)


def test_an_override_closes_nodes() -> None:
    """What the app developer keeps in float stays there, whatever the quantizer annotates."""
    model, batches = _model()
    rule = Override(module_name="head", keep_float=True)
    decisions = _prepared(XNNPACK, model, (batches[0],), overrides=(rule,)).decisions

    assert [d.verdict for d in decisions if d.operator == "aten.linear.default"] == [Verdict.FLOAT]


def test_float_needs_no_quantizer() -> None:
    """The recipe fp32 is lowered as it is."""
    model, batches = _model()
    prepared = _prepared(XNNPACK, model, (batches[0],), recipe="fp32")

    assert {each.verdict for each in prepared.decisions} <= {Verdict.FLOAT, Verdict.FOLDED}


class Annotating(Quantizer):  # type: ignore[misc]  # torchao is untyped
    """Annotates as a function says, and counts what it is asked."""

    def __init__(self, annotate: Annotate, refuses: str = "") -> None:
        self._annotate, self._refuses = annotate, refuses

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        for node in model.graph.nodes:
            annotation = self._annotate(node) if node.op == "call_function" else None
            if annotation is not None:
                node.meta["quantization_annotation"] = annotation
        return model

    def validate(self, model: fx.GraphModule) -> None:
        if self._refuses:
            raise ValueError(self._refuses)


def _spec(observer: Any = MinMaxObserver, **given: Any) -> QuantizationSpec:
    fields = {"dtype": torch.int8, "qscheme": torch.per_tensor_affine, "quant_min": -128, "quant_max": 127}
    return QuantizationSpec(observer_or_fake_quant_ctr=observer, **{**fields, **given})


def _backend(annotate: Annotate, **given: Any) -> WrappedBackend:
    return attrs.evolve(XNNPACK, quantizers={"int8_static": lambda: Annotating(annotate, **given)})


def _linear(spec: Any) -> Annotate:
    """Annotates the linear layer, its result as given, or as made of its node."""

    def annotate(node: fx.Node) -> QuantizationAnnotation | None:
        if str(node.target) != "aten.linear.default":
            return None
        source, weight, bias = node.args
        inputs = {source: _spec(), weight: _spec(qscheme=torch.per_channel_symmetric, ch_axis=0)}
        made = spec(node) if callable(spec) else spec
        if isinstance(made, DerivedQuantizationSpec):
            return QuantizationAnnotation(input_qspec_map={**inputs, bias: made}, output_qspec=_spec())
        return QuantizationAnnotation(input_qspec_map=inputs, output_qspec=made)

    return annotate


def _matches(backend: WrappedBackend) -> list[Match]:
    graph = quanthost.capture(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), (torch.ones(2, 4),))
    module = graph.exported.module()
    before = {node.name: dict(node.meta) for node in module.graph.nodes}
    request = Request(backends="wrapped", recipe="int8_static")
    opened = frozenset(node.name for node in module.graph.nodes)
    found = backend.quanthost_annotate(graph_module=module, request=request, open_nodes=opened)
    assert {node.name: dict(node.meta) for node in module.graph.nodes} == before
    return [each for each in found if isinstance(each, Match)]


def _product(observers: list[Any]) -> tuple[Tensor, Tensor]:
    scale = observers[0].calculate_qparams()[0] * observers[1].calculate_qparams()[0]
    return scale, torch.zeros_like(scale, dtype=torch.int64)


def _sum(observers: list[Any]) -> tuple[Tensor, Tensor]:
    scale = observers[0].calculate_qparams()[0] + observers[1].calculate_qparams()[0]
    return scale, torch.zeros_like(scale, dtype=torch.int64)


def _bias(derive: Any) -> Callable[[fx.Node], DerivedQuantizationSpec]:
    return lambda node: DerivedQuantizationSpec(
        derived_from=[(node.args[0], node), (node.args[1], node)], derive_qparams_fn=derive,
        dtype=torch.int32, quant_min=-(2**31), quant_max=2**31 - 1,
    )  # fmt: skip


_MINMAX = RangeEstimator(kind=Estimator.MINMAX)
_MOVING = RangeEstimator(kind=Estimator.MOVING_AVERAGE, momentum=0.25)
_AVERAGING = MovingAverageMinMaxObserver.with_args(averaging_constant=0.25)
_FIXED = FixedQParamsQuantizationSpec(
    dtype=torch.int16, scale=2**-15, zero_point=0, quant_min=-(2**15), quant_max=2**15 - 1
)


def _as_input(node: fx.Node) -> SharedQuantizationSpec:
    return SharedQuantizationSpec((node.args[0], node))


@pytest.mark.parametrize(
    ("spec", "name", "wanted", "shares"),
    [
        (_spec(), "output", QSpec(dtype=DType.INT8, estimator=_MINMAX), ()),
        (
            _spec(HistogramObserver, dtype=torch.uint8, quant_min=None, quant_max=None),
            "output", QSpec(dtype=DType.UINT8, estimator=RangeEstimator(kind=Estimator.MSE)), (),
        ),
        (
            _spec(_AVERAGING, qscheme=torch.per_tensor_symmetric),
            "output", QSpec(dtype=DType.INT8, symmetry=Symmetry.SYMMETRIC, estimator=_MOVING), (),
        ),
        (_FIXED, "output", FixedQSpec(dtype=DType.INT16, scale=2**-15, zero_point=0), ()),
        (_bias(_product), "bias", DerivedQSpec(sources=("input", "weight")), ()),
        (_as_input, "output", QSpec(dtype=DType.INT8, estimator=_MINMAX), ("input", "output")),
    ],
    ids=["min-max", "histogram", "moving average", "fixed", "derived", "shared"],
)  # fmt: skip
def test_specs_become_qspecs(spec: Any, name: str, wanted: Any, shares: tuple[str, ...]) -> None:
    """Each kind of spec keeps its numbers, and the graph that was asked about stays as it was."""
    (match,) = _matches(_backend(_linear(spec)))

    assert match.choice.as_dict()[name] == wanted
    assert match.nodes == ("linear",)
    assert match.role("weight") is Role.WEIGHT
    assert match.shares == shares


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (_spec(dtype=torch.float16), "output has integers of type torch.float16"),
        (_spec(PlaceholderObserver), "output has ranges from a PlaceholderObserver"),
        (_bias(_sum), "bias has a scale that is derived otherwise than as a product"),
        (lambda node: SharedQuantizationSpec(next(iter(node.users))), "output has a NoneType"),
    ],
    ids=["dtype", "observer", "derived", "shared with nothing"],
)
def test_what_no_qspec_says_is_refused(spec: Any, reason: str) -> None:
    """The operator stays float, and the reason names the tensor and what it has."""
    prepared = _prepared(
        _backend(_linear(spec)), nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), (torch.ones(2, 4),)
    )

    assert [each.verdict for each in prepared.decisions] == [Verdict.FLOAT] * 2
    assert prepared.decisions[0].reason.startswith(reason)


def test_the_quantizers_validation_is_heard() -> None:
    """What the quantizer refuses is an error that names it."""
    backend = _backend(_linear(_spec()), refuses="seven is not enough")
    with pytest.raises(TableError, match="Annotating refuses the graph: seven is not enough"):
        _prepared(backend, nn.Sequential(nn.Linear(4, 3)).eval(), (torch.ones(2, 4),))


def test_a_recipe_without_a_quantizer_is_refused() -> None:
    """A recipe that is promised and cannot be had is named."""
    backend = attrs.evolve(XNNPACK, quantizers={})
    with pytest.raises(RequestError, match="the recipe 'int8_static', for which there is no quantizer"):
        _prepared(backend, nn.Sequential(nn.Linear(4, 3)).eval(), (torch.ones(2, 4),))
