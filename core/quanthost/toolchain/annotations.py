"""Reads what a torchao quantizer annotates as qspecs, for quantizers that exist already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import torch
from torch import fx
from torchao.quantization.pt2e import FusedMovingAvgObsFakeQuantize
from torchao.quantization.pt2e.fake_quantize import FakeQuantizeBase
from torchao.quantization.pt2e.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import (
    DerivedQuantizationSpec,
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from quanthost.arith.dtypes import dtype_of
from quanthost.graph.sharing import Point
from quanthost.toolchain.pt2e import ANNOTATION, deep_copy
from quanthost.values import (
    AnyQSpec,
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Granularity,
    QSpec,
    RangeEstimator,
    Symmetry,
    Timing,
)

__all__ = ["OperatorAnnotation", "Quantizer", "qspec_of", "read_annotations", "shared_root"]

_PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_symmetric)
_SYMMETRIC = (torch.per_tensor_symmetric, torch.per_channel_symmetric)
# HistogramObserver searches the range with the least squared error
_ESTIMATORS = {
    HistogramObserver: Estimator.MSE,
    MinMaxObserver: Estimator.MINMAX,
    PerChannelMinMaxObserver: Estimator.MINMAX,
    MovingAverageMinMaxObserver: Estimator.MOVING_AVERAGE,
    MovingAveragePerChannelMinMaxObserver: Estimator.MOVING_AVERAGE,
    FusedMovingAvgObsFakeQuantize: Estimator.MOVING_AVERAGE,
}


@attrs.frozen(kw_only=True, eq=False)
class OperatorAnnotation:
    """The annotation of one operator: a spec for each input node and one for the result, ``None`` for float.

    The nodes belong to the graph that was passed in, not to a copy.
    """

    node: fx.Node
    inputs: dict[fx.Node, Any]
    output: Any


def read_annotations(quantizer: Quantizer, graph_module: fx.GraphModule) -> list[OperatorAnnotation]:
    """Return what a quantizer annotates, in the order of the graph, which does not change."""
    copied = deep_copy(graph_module)
    for node in copied.graph.nodes:
        node.meta.pop(ANNOTATION, None)
    originals = dict(zip(copied.graph.nodes, graph_module.graph.nodes))
    quantizer.annotate(copied)
    annotations: list[OperatorAnnotation] = []
    for node in copied.graph.nodes:
        annotation = node.meta.get(ANNOTATION)
        # quantizers also mark the constants that an annotated operator reads
        if node.op == "call_function" and isinstance(annotation, QuantizationAnnotation):
            inputs = {
                originals[source]: _to_originals(spec, originals)
                for source, spec in annotation.input_qspec_map.items()
            }
            output = _to_originals(annotation.output_qspec, originals)
            annotations.append(OperatorAnnotation(node=originals[node], inputs=inputs, output=output))
    return annotations


def _to_originals(spec: Any, originals: Mapping[fx.Node, fx.Node]) -> Any:
    """Replace the copy's nodes in a spec by the nodes of the original graph."""
    if isinstance(spec, SharedQuantizationSpec):
        return SharedQuantizationSpec(_key(spec.edge_or_node, originals))
    if isinstance(spec, DerivedQuantizationSpec):
        keys = [_key(each, originals) for each in spec.derived_from]
        return DerivedQuantizationSpec(**{**_fields(spec), "derived_from": keys})
    return spec


def _fields(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in type(spec).__dataclass_fields__}


def _key(edge_or_node: Any, originals: Mapping[fx.Node, fx.Node]) -> Any:
    if isinstance(edge_or_node, tuple):
        return tuple(originals[node] for node in edge_or_node)
    return originals[edge_or_node]


def point_of(edge_or_node: Any) -> Point:
    """Convert torchao's key of a result, or of one use of it, to a point."""
    if isinstance(edge_or_node, tuple):
        return Point(*edge_or_node)
    return Point(edge_or_node)


def qspec_of(spec: Any, capture_of: Callable[[Point], str | None]) -> AnyQSpec | str:
    """Convert a torchao spec to a qspec, or return the reason why there is none.

    ``capture_of`` names the captures whose scales a derived spec multiplies.
    """
    if isinstance(spec, FixedQParamsQuantizationSpec):
        return _fixed_qspec(spec)
    if isinstance(spec, DerivedQuantizationSpec):
        return _derived_qspec(spec, capture_of)
    if isinstance(spec, QuantizationSpec):
        return _observed_qspec(spec)
    return f"a {type(spec).__name__}"


def _fixed_qspec(spec: FixedQParamsQuantizationSpec) -> AnyQSpec | str:
    dtype = dtype_of(spec.dtype)
    if dtype is None:
        return f"integers of type {spec.dtype}"
    limits = _limits(spec, dtype)
    return FixedQSpec(dtype=dtype, scale=float(spec.scale), zero_point=int(spec.zero_point), **limits)


def _limits(spec: Any, dtype: DType) -> dict[str, int]:
    low, high = spec.quant_min, spec.quant_max
    return {
        "quant_min": dtype.minimum if low is None else int(low),
        "quant_max": dtype.maximum if high is None else int(high),
    }


def _observed_qspec(spec: QuantizationSpec) -> AnyQSpec | str:
    dtype = dtype_of(spec.dtype)
    if dtype is None:
        return f"integers of type {spec.dtype}"
    per_channel = spec.qscheme in _PER_CHANNEL
    estimator = RangeEstimator() if spec.is_dynamic else _estimator(spec.observer_or_fake_quant_ctr)
    if isinstance(estimator, str):
        return estimator
    limits = _limits(spec, dtype)
    return QSpec(
        dtype=dtype, quant_min=limits["quant_min"], quant_max=limits["quant_max"],
        granularity=Granularity.PER_CHANNEL if per_channel else Granularity.PER_TENSOR,
        axis=(0 if spec.ch_axis is None else int(spec.ch_axis)) if per_channel else None,
        symmetry=Symmetry.SYMMETRIC if spec.qscheme in _SYMMETRIC else Symmetry.AFFINE,
        timing=Timing.DYNAMIC if spec.is_dynamic else Timing.STATIC, estimator=estimator,
    )  # fmt: skip


def _estimator(make: Any) -> RangeEstimator | str:
    """The range estimator of the observer that a spec's factory creates."""
    observer = make()
    if isinstance(observer, FakeQuantizeBase) and not isinstance(observer, FusedMovingAvgObsFakeQuantize):
        observer = observer.activation_post_process
    kind = _ESTIMATORS.get(type(observer))
    if kind is None:
        return f"ranges from a {type(observer).__name__}"
    if kind is not Estimator.MOVING_AVERAGE:
        return RangeEstimator(kind=kind)
    inner = getattr(observer, "activation_post_process", observer)
    return RangeEstimator(kind=kind, momentum=float(inner.averaging_constant))


class _Probe:
    """Stands in for an observer, to test how a spec derives its scale."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([self._scale]), torch.tensor([0])


def _derived_qspec(
    spec: DerivedQuantizationSpec, capture_of: Callable[[Point], str | None]
) -> AnyQSpec | str:
    dtype = dtype_of(spec.dtype)
    if dtype is None:
        return f"integers of type {spec.dtype}"
    sources = [capture_of(point_of(key)) for key in spec.derived_from]
    if None in sources:
        return "a scale that is derived from another operator's"
    if not _multiplies(spec, len(sources)):
        return "a scale that is derived otherwise than as a product"
    return DerivedQSpec(sources=tuple(map(str, sources)), dtype=dtype, **_limits(spec, dtype))


def _multiplies(spec: DerivedQuantizationSpec, count: int) -> bool:
    """Whether a spec multiplies scales; powers of two multiply without rounding."""
    scales = [0.5**power for power in range(1, count + 1)]
    product = 0.5 ** (count * (count + 1) // 2)
    try:
        scale, zero_point = spec.derive_qparams_fn([_Probe(each) for each in scales])
    except Exception:
        return False
    return bool((scale == product).all()) and not bool(zero_point.any())


def shared_root(spec: Any, specs: Mapping[Point, Any]) -> tuple[Any, Iterable[Point]]:
    """Follow shared specs to the spec they refer to; also return the points on the way."""
    path: list[Point] = []
    while isinstance(spec, SharedQuantizationSpec):
        point = point_of(spec.edge_or_node)
        if point in path:
            return None, path
        path.append(point)
        spec = specs.get(point)
    return spec, path
