"""torchao's PT2E flow: our plan as annotations, a quantizer made of callables, prepare and convert."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import torch
from torch import fx
from torchao.quantization.pt2e import (
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    move_exported_model_to_eval,
    move_exported_model_to_train,
)
from torchao.quantization.pt2e.constant_fold import replace_node_with_constant
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import (
    DerivedQuantizationSpec,
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)

from quanthost.arith.dtypes import torch_dtype
from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import argument
from quanthost.graph.sharing import Point
from quanthost.graph.view import constant, is_quantize
from quanthost.toolchain.fast.forgetting import forgotten_graphs
from quanthost.toolchain.fast.lazy_code import compiled_when_called
from quanthost.toolchain.fast.naming import counted_names
from quanthost.toolchain.observers import RangeObserver, torch_qscheme
from quanthost.toolchain.quiet import quiet
from quanthost.values import (
    AnyQSpec,
    DerivedQSpec,
    FixedQSpec,
    Granularity,
    QSpec,
    Timing,
)

__all__ = [
    "CallbackQuantizer",
    "QuantPlan",
    "convert",
    "deep_copy",
    "leave_room_for_biases",
    "prepare",
    "switch_to_eval",
    "switch_to_train",
]

ANNOTATION = "quantization_annotation"


@attrs.frozen(kw_only=True)
class QuantPlan:
    """What is quantized, solved: groups of points with one spec each, derived points, operators covered.

    ``derived`` gives for a derived point the points whose scales are multiplied.
    """

    groups: tuple[tuple[tuple[Point, ...], AnyQSpec], ...] = ()
    derived: tuple[tuple[Point, DerivedQSpec, tuple[Point, ...]], ...] = ()
    operators: tuple[fx.Node, ...] = ()


class CallbackQuantizer(Quantizer):  # type: ignore[misc]  # torchao is untyped
    """A torchao ``Quantizer`` whose three steps are functions; what ``prepare_pt2e`` takes."""

    def __init__(
        self,
        *,
        transform: Callable[[fx.GraphModule], fx.GraphModule],
        plan: Callable[[fx.GraphModule], QuantPlan],
        check: Callable[[fx.GraphModule], None],
        qat: bool = False,
    ) -> None:
        self._transform, self._plan, self._check, self._qat = transform, plan, check, qat

    def transform_for_annotation(self, model: fx.GraphModule) -> fx.GraphModule:
        _show_batch_norms(model)
        return self._transform(model)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        apply_plan(self._plan(model), qat=self._qat)
        return model

    def validate(self, model: fx.GraphModule) -> None:
        self._check(model)


def apply_plan(plan: QuantPlan, *, qat: bool) -> None:
    """Write a plan as torchao annotations: one spec a group, the other points share the first one's."""
    annotations = {
        node: QuantizationAnnotation(allow_implicit_sharing=False, _annotated=True) for node in plan.operators
    }
    for points, spec in plan.groups:
        first = points[0]
        _annotate(annotations, first, _torchao_spec(spec, points, qat=qat))
        for point in points[1:]:
            _annotate(annotations, point, SharedQuantizationSpec(_key(first)))
    for point, derived, sources in plan.derived:
        _annotate(annotations, point, _derived_spec(derived, point, sources))
    for node, annotation in annotations.items():
        # torchao, fusing for training, takes the first for a convolution's input, the second for its weight
        given = annotation.input_qspec_map
        ordered = [n for n in node.all_input_nodes if n in given]
        # a derived spec reads the observers that its sources have by then
        ordered.sort(key=lambda n: isinstance(given[n], DerivedQuantizationSpec))
        annotation.input_qspec_map = {n: given[n] for n in ordered}
        node.meta[ANNOTATION] = annotation


def _annotate(
    annotations: dict[fx.Node, QuantizationAnnotation], point: Point, spec: QuantizationSpecBase
) -> None:
    if point.consumer is None:
        annotations[point.producer].output_qspec = spec
    else:
        annotations[point.consumer].input_qspec_map[point.producer] = spec


def _key(point: Point) -> Any:
    return point.producer if point.consumer is None else (point.producer, point.consumer)


def _torchao_spec(spec: AnyQSpec, points: Sequence[Point], *, qat: bool) -> QuantizationSpecBase:
    if isinstance(spec, FixedQSpec):
        return FixedQParamsQuantizationSpec(
            dtype=torch_dtype(spec.dtype), scale=spec.scale, zero_point=spec.zero_point,
            quant_min=spec.quant_min, quant_max=spec.quant_max, qscheme=torch.per_tensor_affine,
        )  # fmt: skip
    assert isinstance(spec, QSpec)
    return QuantizationSpec(
        dtype=torch_dtype(spec.dtype), quant_min=spec.quant_min, quant_max=spec.quant_max,
        qscheme=torch_qscheme(spec), ch_axis=spec.axis, is_dynamic=_has_torchao_chain(spec),
        observer_or_fake_quant_ctr=_observer(spec, points, qat=qat),
    )  # fmt: skip


def _observer(spec: QSpec, points: Sequence[Point], *, qat: bool) -> Any:
    dynamic = spec.timing is Timing.DYNAMIC
    if not qat or dynamic or spec.granularity is Granularity.PER_GROUP:
        once = all(point.producer.op == "get_attr" for point in points)
        return RangeObserver.with_args(spec=spec, once=once)
    per_channel = spec.granularity is Granularity.PER_CHANNEL
    observer = MovingAveragePerChannelMinMaxObserver if per_channel else MovingAverageMinMaxObserver
    return FusedMovingAvgObsFakeQuantize.with_args(observer=observer, eps=2**-12)


def _derived_spec(spec: DerivedQSpec, point: Point, sources: Iterable[Point]) -> DerivedQuantizationSpec:
    """Scales along the first axis, equal ones where no source has a scale for each channel."""
    channels = point.producer.meta["val"].shape[0]

    def product(observers: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        scales = [observer.calculate_qparams()[0] for observer in observers]
        scale = torch.as_tensor(scales[0])
        for other in scales[1:]:
            scale = scale * other
        scale = scale.reshape(-1).expand(channels).contiguous()
        return scale, torch.zeros_like(scale, dtype=torch.int64)

    return DerivedQuantizationSpec(
        derived_from=[_key(point) for point in sources], derive_qparams_fn=product,
        dtype=torch_dtype(spec.dtype), quant_min=spec.quant_min, quant_max=spec.quant_max,
        qscheme=torch.per_channel_symmetric, ch_axis=0,
    )  # fmt: skip


def prepare(graph_module: fx.GraphModule, quantizer: Quantizer, *, qat: bool) -> fx.GraphModule:
    """``prepare_pt2e`` or ``prepare_qat_pt2e`` on a graph that the caller owns.

    Batch norms that can be folded are folded by the caller: ``prepare_pt2e`` of torchao 0.18 would fold
    one into weights that other layers read too, and past other readers of the layer.
    """
    if not qat:
        _hide_batch_norms(graph_module)
    with quiet(), compiled_when_called(), counted_names(), forgotten_graphs():
        prepared = (prepare_qat_pt2e if qat else prepare_pt2e)(graph_module, quantizer)
    assert isinstance(prepared, fx.GraphModule)
    prepared.recompile()
    return prepared


def convert(graph_module: fx.GraphModule, *, qat: bool = False) -> fx.GraphModule:
    """``convert_pt2e`` on a graph that the caller owns.

    Only a graph that was trained has batch norms that torchao fused; it takes seconds to look for them.
    """
    if not qat:
        _hide_batch_norms(graph_module)
    leave_room_for_biases(graph_module)
    with quiet(), counted_names(), forgotten_graphs():
        converted = convert_pt2e(graph_module, fold_quantize=False)
        assert isinstance(converted, fx.GraphModule)
        _fold_quantized(converted)
    _show_batch_norms(converted)
    return converted


def _fold_quantized(module: fx.GraphModule) -> None:
    """Keep quantized constants as integers.

    torchao's own folding computes all that constants make, dequantized weights too, and then keeps these.
    """
    fixed: set[fx.Node] = set()
    values: dict[fx.Node, Any] = {}

    def value(node: fx.Node) -> Any:
        if node not in values:
            if node.op == "get_attr":
                values[node] = constant(module, node)
            else:
                args, kwargs = fx.map_arg((node.args, node.kwargs), value)
                assert callable(node.target)
                values[node] = node.target(*args, **kwargs)
        return values[node]

    with torch.no_grad():
        for node in list(module.graph.nodes):
            sources = node.all_input_nodes
            held = node.op == "get_attr" and constant(module, node) is not None
            if not held and not (node.op == "call_function" and sources and fixed.issuperset(sources)):
                continue
            fixed.add(node)
            if is_quantize(node):
                replace_node_with_constant(module, node, value(node))
    for node in module.graph.find_nodes(op="get_attr"):
        if not node.users:
            if hasattr(module, node.target):
                delattr(module, node.target)
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()


def leave_room_for_biases(graph_module: fx.GraphModule) -> None:
    """See ``RangeObserver.leave_room``: only here all three of a layer's observers are known.

    ``convert`` does it too; whoever asks observers for their scales before does it first.
    """
    for module in graph_module.modules():
        if isinstance(module, RangeObserver):
            module.least_scale = None
    for node in graph_module.graph.nodes:
        if operator_facts(node).channel_axis is None:
            continue
        given, weight = (_observer_of(graph_module, argument(node, key)) for key in ("input", "weight"))
        bias = argument(node, "bias")
        if isinstance(bias, fx.Node) and bias.op == "call_module":
            bias = bias.args[0]
        held = constant(graph_module, bias)
        if given is None or weight is None or held is None or given.is_dynamic:
            continue
        per_channel = weight.spec.granularity is Granularity.PER_CHANNEL
        if per_channel or weight.spec.granularity is Granularity.PER_TENSOR:
            weight.leave_room(held, given.calculate_qparams()[0])


def _observer_of(graph_module: fx.GraphModule, node: object) -> RangeObserver | None:
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    observer = graph_module.get_submodule(str(node.target))
    return observer if isinstance(observer, RangeObserver) else None


def _hidden_batch_norm(*args: Any) -> Any:
    return torch.ops.aten.batch_norm.default(*args)


def _hidden_legit_batch_norm(*args: Any) -> Any:
    return torch.ops.aten._native_batch_norm_legit_no_training.default(*args)


_HIDDEN = (
    (torch.ops.aten.batch_norm.default, _hidden_batch_norm),
    (torch.ops.aten._native_batch_norm_legit_no_training.default, _hidden_legit_batch_norm),
)


def _hide_batch_norms(graph_module: fx.GraphModule) -> None:
    """Keep torchao from batch norms, which it knows by their operator."""
    _exchange(graph_module, _HIDDEN)


def _show_batch_norms(graph_module: fx.GraphModule) -> None:
    _exchange(graph_module, [(shown, hidden) for hidden, shown in _HIDDEN])


def _exchange(graph_module: fx.GraphModule, pairs: Iterable[tuple[Any, Any]]) -> None:
    for old, new in pairs:
        for node in graph_module.graph.find_nodes(op="call_function", target=old):
            node.target = new
    graph_module.recompile()


def deep_copy(graph_module: fx.GraphModule, *, share: bool = True) -> fx.GraphModule:
    """A copy with graph and observers of its own; parameters and buffers too, unless they are shared."""
    tensors = (*graph_module.parameters(), *graph_module.buffers()) if share else ()
    shared = {id(tensor): tensor for tensor in tensors}
    with quiet():
        made = copy.deepcopy(graph_module, dict(shared))
    _move_annotations(dict(zip(graph_module.graph.nodes, made.graph.nodes)))
    return made


def _move_annotations(copies: dict[fx.Node, fx.Node]) -> None:
    """Let the annotations of copied nodes speak of the copies; fx copies them as they are."""
    for node in copies.values():
        annotation = node.meta.get(ANNOTATION)
        if annotation is None:
            continue
        inputs = {copies.get(source, source): spec for source, spec in annotation.input_qspec_map.items()}
        node.meta[ANNOTATION] = dataclasses.replace(annotation, input_qspec_map=inputs)


def switch_to_train(graph_module: fx.GraphModule) -> None:
    """Batch norm and dropout as in training."""
    with quiet():
        move_exported_model_to_train(graph_module)


def switch_to_eval(graph_module: fx.GraphModule) -> None:
    """Batch norm and dropout as in evaluation."""
    with quiet():
        move_exported_model_to_eval(graph_module)


def _has_torchao_chain(spec: QSpec) -> bool:
    """Whether torchao will look for its own choose_qparams; ranges per token have another operator."""
    return spec.timing is Timing.DYNAMIC and spec.granularity is not Granularity.PER_TOKEN
