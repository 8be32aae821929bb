"""torchao's PT2E flow: writes our plan as annotations, and calls prepare and convert."""

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
from quanthost.toolchain import shortcuts
from quanthost.toolchain.graph_caches import clear_graph_caches
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
]

ANNOTATION = "quantization_annotation"


@attrs.frozen(kw_only=True)
class QuantPlan:
    """The quantization of a graph: groups of points with one spec each, derived points, and operators.

    ``derived`` lists for each derived point the points whose scales are multiplied.
    """

    groups: tuple[tuple[tuple[Point, ...], AnyQSpec], ...] = ()
    derived: tuple[tuple[Point, DerivedQSpec, tuple[Point, ...]], ...] = ()
    operators: tuple[fx.Node, ...] = ()


class CallbackQuantizer(Quantizer):  # type: ignore[misc]  # torchao is untyped
    """A torchao ``Quantizer`` for ``prepare_pt2e`` whose three steps are functions.

    torchao also calls it, after the whole graph, for the graphs that ``scan`` and ``while_loop`` run. These
    stay as they are, like the branches of ``cond``, since no decision is made in them.
    """

    def __init__(
        self,
        *,
        transform: Callable[[fx.GraphModule], fx.GraphModule],
        plan: Callable[[fx.GraphModule], QuantPlan],
        check: Callable[[fx.GraphModule], None],
        qat: bool = False,
    ) -> None:
        self._transform, self._plan, self._check, self._qat = transform, plan, check, qat
        self._inner: tuple[fx.GraphModule, ...] = ()

    def transform_for_annotation(self, model: fx.GraphModule) -> fx.GraphModule:
        if self._is_inner(model):
            return model
        self._inner = tuple(
            module for module in model.modules() if isinstance(module, fx.GraphModule) and module is not model
        )
        _show_batch_norms(model)
        return self._transform(model)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        if not self._is_inner(model):
            apply_plan(self._plan(model), qat=self._qat)
        return model

    def validate(self, model: fx.GraphModule) -> None:
        if not self._is_inner(model):
            self._check(model)

    def _is_inner(self, model: fx.GraphModule) -> bool:
        return any(model is module for module in self._inner)


def apply_plan(plan: QuantPlan, *, qat: bool) -> None:
    """Write a plan as torchao annotations: the first point of a group has the spec, the others share it."""
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
        # in training, torchao takes a convolution's first spec for its input and the second for its weight
        specs = annotation.input_qspec_map
        ordered = [n for n in node.all_input_nodes if n in specs]
        # derived specs come last: they read the observers of their sources
        ordered.sort(key=lambda n: isinstance(specs[n], DerivedQuantizationSpec))
        annotation.input_qspec_map = {n: specs[n] for n in ordered}
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
    """One scale for each channel of the first axis, all equal if no source is per channel."""
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

    The caller has folded all batch norms that can be folded: ``prepare_pt2e`` of torchao 0.18 would also
    fold those whose weights, or whose layer's result, another node reads.
    """
    if not qat:
        _hide_batch_norms(graph_module)
    names = ("compiled_when_called", "counted_names", "present_convolutions")
    with quiet(), shortcuts.entered(*names), clear_graph_caches():
        prepared = (prepare_qat_pt2e if qat else prepare_pt2e)(graph_module, quantizer)
    assert isinstance(prepared, fx.GraphModule)
    prepared.recompile()
    return prepared


def convert(graph_module: fx.GraphModule, *, qat: bool = False) -> fx.GraphModule:
    """``convert_pt2e`` on a graph that the caller owns.

    Only a trained graph has batch norms that torchao fused, and the search for them takes seconds.
    """
    if not qat and not any(node.op == "call_module" for node in graph_module.graph.nodes):
        # nothing observes, so nothing is quantized; and convert_pt2e fails on branches within branches
        return graph_module
    if not qat:
        _hide_batch_norms(graph_module)
    leave_room_for_biases(graph_module)
    with quiet(), shortcuts.entered("counted_names", "present_convolutions"), clear_graph_caches():
        converted = convert_pt2e(graph_module, fold_quantize=False)
        assert isinstance(converted, fx.GraphModule)
        _fold_quantized(converted)
    _show_batch_norms(converted)
    return converted


def _fold_quantized(module: fx.GraphModule) -> None:
    """Store quantized constants as integers.

    torchao's own folding computes everything that depends on constants only. It would store dequantized
    weights.
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
            is_constant = node.op == "get_attr" and constant(module, node) is not None
            if not is_constant and not (node.op == "call_function" and sources and fixed.issuperset(sources)):
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
    """Call ``RangeObserver.leave_room`` for each layer, whose input and weight observers are known only here.

    ``convert`` calls this too. Code that needs the scales earlier calls it first.
    """
    for module in graph_module.modules():
        if isinstance(module, RangeObserver):
            module.least_scale = None
    for node in graph_module.graph.nodes:
        if operator_facts(node).channel_axis is None:
            continue
        data, weight = (_observer_of(graph_module, argument(node, key)) for key in ("input", "weight"))
        bias = argument(node, "bias")
        if isinstance(bias, fx.Node) and bias.op == "call_module":
            bias = bias.args[0]
        value = constant(graph_module, bias)
        if data is None or weight is None or value is None or data.is_dynamic:
            continue
        per_channel = weight.spec.granularity is Granularity.PER_CHANNEL
        if per_channel or weight.spec.granularity is Granularity.PER_TENSOR:
            weight.leave_room(value, data.calculate_qparams()[0])


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
    """Hide batch norms from torchao, which finds them by their operator."""
    _exchange(graph_module, _HIDDEN)


def _show_batch_norms(graph_module: fx.GraphModule) -> None:
    _exchange(graph_module, [(shown, hidden) for hidden, shown in _HIDDEN])


def _exchange(graph_module: fx.GraphModule, pairs: Iterable[tuple[Any, Any]]) -> None:
    for old, new in pairs:
        for node in graph_module.graph.find_nodes(op="call_function", target=old):
            node.target = new
    graph_module.recompile()


def deep_copy(graph_module: fx.GraphModule, *, share: bool = True) -> fx.GraphModule:
    """Copy the graph and its observers; parameters and buffers are copied unless ``share`` is set."""
    tensors = (*graph_module.parameters(), *graph_module.buffers()) if share else ()
    shared = {id(tensor): tensor for tensor in tensors}
    with quiet():
        copied = copy.deepcopy(graph_module, dict(shared))
    _move_annotations(dict(zip(graph_module.graph.nodes, copied.graph.nodes)))
    return copied


def _move_annotations(copies: dict[fx.Node, fx.Node]) -> None:
    """Replace original nodes in the annotations of copied nodes by their copies, which fx does not do."""
    for node in copies.values():
        annotation = node.meta.get(ANNOTATION)
        if annotation is None:
            continue
        inputs = {copies.get(source, source): spec for source, spec in annotation.input_qspec_map.items()}
        node.meta[ANNOTATION] = dataclasses.replace(annotation, input_qspec_map=inputs)


def switch_to_eval(graph_module: fx.GraphModule) -> None:
    """Switch batch norm and dropout to evaluation mode."""
    with quiet():
        move_exported_model_to_eval(graph_module)


def _has_torchao_chain(spec: QSpec) -> bool:
    """Whether torchao inserts its own choose_qparams; ranges per token use another operator."""
    return spec.timing is Timing.DYNAMIC and spec.granularity is not Granularity.PER_TOKEN
