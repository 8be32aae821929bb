"""Folds batch norms in evaluation into the weights of the layers before them."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from quanthost.graph.operator_facts import operator_facts
from quanthost.graph.operators import argument, operator_name
from quanthost.graph.rewrite import Rewriter
from quanthost.graph.view import GraphView, constant, tensor_meta

__all__ = ["fold_batch_norms", "not_trainable"]

_BATCH_NORMS = ("aten.batch_norm.default", "aten._native_batch_norm_legit_no_training.default")
_STATISTICS = ("weight", "bias", "running_mean", "running_var")


def fold_batch_norms(graph_module: fx.GraphModule) -> None:
    """Fold, in place, each batch norm that is the only reader of a layer with constant weights.

    With s = weight / sqrt(running_var + eps) for each channel, the layer's weight becomes weight·s and its
    bias (bias - running_mean)·s + the norm's bias. The layer gets constants of its own: others that read
    the same weights keep theirs.
    """
    view = GraphView(graph_module)
    for norm in list(graph_module.graph.nodes):
        if norm.op != "call_function" or operator_name(norm) not in _BATCH_NORMS:
            continue
        layer, results = argument(norm, "input"), _results(norm)
        if results is not None and _is_foldable(layer, norm, view):
            _fold(graph_module, layer, norm)
            for result in results:
                result.replace_all_uses_with(layer)
                graph_module.graph.erase_node(result)
            if norm not in results:
                graph_module.graph.erase_node(norm)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()


def not_trainable(graph_module: fx.GraphModule) -> list[tuple[fx.Node, str]]:
    """Convolutions that torchao 0.18 cannot train with the batch norm after them, each with the reason.

    It folds the norm into the weight's parameter, even if other operators read it.
    """
    layers = []
    for norm in graph_module.graph.nodes:
        if norm.op != "call_function" or operator_name(norm) != _BATCH_NORMS[0]:
            continue
        layer = argument(norm, "input")
        if not operator_facts(layer).is_convolution:
            continue
        weight = argument(layer, "weight")
        if not isinstance(constant(graph_module, weight), nn.Parameter):
            layers.append((layer, "its weight is no parameter"))
        elif len(weight.users) > 1:
            layers.append((layer, "other operators read its weight"))
        elif "transpose" in operator_name(layer) and argument(layer, "groups", 1) != 1:
            layers.append((layer, "it is transposed and has groups"))
        elif argument(norm, "running_mean") is None:
            layers.append((layer, "the batch norm keeps no running statistics"))
    return layers


def _results(norm: fx.Node) -> list[fx.Node] | None:
    """The nodes that hold the normalized tensor, ``None`` if statistics are read too."""
    if operator_name(norm) == _BATCH_NORMS[0]:
        return [norm]
    readers = list(norm.users)
    return readers if all(r.target is operator.getitem and r.args[1] == 0 for r in readers) else None


def _is_foldable(layer: fx.Node, norm: fx.Node, view: GraphView) -> bool:
    if not operator_facts(layer).is_layer:
        return False
    if len(layer.users) != 1 or argument(norm, "training", False):
        return False
    read = [*(argument(layer, name) for name in ("weight", "bias")), *_statistics(norm)]
    if not all(node is None or view.is_constant(node) for node in read):
        return False
    weight, mean, variance = read[0], *read[-2:]
    meta, weight_tensor = tensor_meta(layer), constant(view.graph_module, weight)
    if None in (mean, variance) or meta is None or weight_tensor is None:
        return False
    # else the channels of the layer are not those of the norm: no batch, or rows of rows
    return bool(meta.dim() == weight_tensor.dim())


def _statistics(norm: fx.Node) -> list[Any]:
    return [argument(norm, name) for name in _STATISTICS]


def _fold(graph_module: fx.GraphModule, layer: fx.Node, norm: fx.Node) -> None:
    weight, bias = (constant(graph_module, argument(layer, name)) for name in ("weight", "bias"))
    factor, shift, mean, variance = (constant(graph_module, node) for node in _statistics(norm))
    assert weight is not None
    assert mean is not None
    assert variance is not None
    with torch.no_grad():
        scale = torch.rsqrt(variance + argument(norm, "eps"))
        scale = scale if factor is None else scale * factor
        new_bias = -mean * scale if bias is None else (bias - mean) * scale
        new_bias = new_bias if shift is None else new_bias + shift
        folded = (weight * _along_outputs(layer, scale, weight)).to(weight.dtype)
    rewriter = Rewriter(graph_module, argument(layer, "weight"))
    constants = [
        rewriter.constant(nn.Parameter(tensor, weight.requires_grad), f"_{layer.name}_{name}")
        for name, tensor in (("folded_weight", folded), ("folded_bias", new_bias.to(weight.dtype)))
    ]
    layer.args = (layer.args[0], *constants, *layer.args[3:])


def _along_outputs(layer: fx.Node, scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The scale of each output channel in a shape that broadcasts with the layer's weight.

    Weights are (out, in / groups, …), of transposed convolutions (in, out / groups, …).
    """
    kernel = [1] * (weight.dim() - 2)
    if not argument(layer, "transposed", "transpose" in operator_name(layer)):
        return scale.reshape(-1, 1, *kernel)
    groups = argument(layer, "groups", 1)
    rows = scale.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1)
    return rows.reshape(*weight.shape[:2], *kernel)
