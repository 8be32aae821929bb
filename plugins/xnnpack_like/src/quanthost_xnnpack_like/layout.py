"""Constraints that follow from the memory layouts that the delegate gives its tensors.

Its compiler gives each 4-d tensor a layout: some operators need channels-last, some contiguous, the
others take the layout of their operands. Source: ``ChannelsLastTaggedReshapePass`` of
``executorch.backends.xnnpack`` 1.5.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quanthost.api import Kernel, Site, constraint, is_dequantize, is_quantize, operator_name, tensor_meta

if TYPE_CHECKING:
    from torch.fx import Node

__all__ = ["contiguous", "float_around", "not_of_maximum", "of_maximum", "reads_alone"]

# names of the captured and of the edge graph
_CHANNELS_LAST = frozenset(
    (
        *("convolution", "conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"),
        *("mean", "max", "prelu", "upsample_bilinear2d"),
    )
)
_CONTIGUOUS = frozenset(("view", "reshape", "flatten", "_unsafe_view", "squeeze", "unsqueeze", "linear"))
_ACTIVATIONS = frozenset(("relu", "relu6", "hardtanh", "clamp", "hardswish", "sigmoid", "tanh", "gelu"))
_RANGE_AT_RUN_TIME = frozenset(("choose_qparams", "quantize_per_tensor"))


def _base(node: Node) -> str:
    """The operator without namespace and overload; for a node that is no call, its kind."""
    if node.op != "call_function":
        return str(node.op)
    parts = operator_name(node).split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _maker(node: Node) -> Node | None:
    """The operator that makes a tensor channels-last, ``None`` if it is contiguous."""
    waiting, visited = [node], {node}
    while waiting:
        current = waiting.pop()
        meta = tensor_meta(current)
        # a getitem reads the first result of ``max``, whose own result is no tensor
        if current.op != "call_function" or (meta is not None and meta.dim() != 4):
            continue
        if _base(current) in _CHANNELS_LAST:
            return current
        if _base(current) not in _CONTIGUOUS:
            fresh = [source for source in current.all_input_nodes if source not in visited]
            visited.update(fresh)
            waiting.extend(fresh)
    return None


@constraint("the input is held contiguous, not channels-last")
def contiguous(site: Site) -> str | None:
    """For an operator whose axis the compiler does not translate."""
    maker = _maker(site.tensors("input")[0])
    if maker is None:
        return None
    return f"the delegate holds the input channels-last, since {maker.name} makes it so"


@constraint(
    "the input is one of the model's, or comes from a channels-last kernel, and nothing else reads it",
    kernels={Kernel.DYNAMIC},
)
def reads_alone(site: Site) -> str | None:
    """With ranges at run time the compiler turns the whole chain before a convolution channels-last.

    It does so for all readers of that chain's first tensor, whatever their layout was.
    """
    reader, node = site.anchor, _float_source(site.tensors("input")[0])
    while True:
        others = [user for user in node.users if user is not reader and _base(user) not in _RANGE_AT_RUN_TIME]
        if others or len(_chains(node)) > 1:
            return f"{node.name} has other readers, which would read it channels-last"
        if node.op == "placeholder" or _base(node) in _CHANNELS_LAST:
            return None
        if _base(node) not in _ACTIVATIONS:
            return f"the input comes from {node.name}, whose result is not known to be channels-last"
        reader, node = node, node.all_input_nodes[0]


def _chains(node: Node) -> list[Node]:
    return [user for user in node.users if is_quantize(user)]


@constraint("1-d: float tensors before and behind", kernels={Kernel.FLOAT})
def float_around(site: Site) -> str | None:
    """The delegate turns it into a 2-d one, which it treats as quantized if a neighbouring tensor is.

    Source: ``Conv1dUnsqueezePass`` of ``executorch.backends.xnnpack`` 1.5.1.
    """
    if len(site.shape("weight")) != 3:
        return None
    source, readers = site.tensors("input")[0], site.anchor.users
    if is_dequantize(source):
        return f"it reads the quantized {source.name}, its weight is not"
    quantized = next((reader for reader in readers if is_quantize(reader)), None)
    return None if quantized is None else f"its result is quantized in {quantized.name}, its weight is not"


def _float_source(node: Node) -> Node:
    """The tensor before quantize and dequantize, if there are any."""
    while is_dequantize(node) or is_quantize(node):
        node = node.all_input_nodes[0]
    return node


def _maximum_before(site: Site) -> str | None:
    """The name of the max pool that is read directly."""
    node = _float_source(site.tensors("input")[0])
    if _base(node) == "getitem":
        node = node.all_input_nodes[0]
    return node.name if _base(node) in ("max_pool2d", "max_pool2d_with_indices", "max") else None


@constraint("no maximum of a window directly before", kernels={Kernel.STATIC})
def not_of_maximum(site: Site) -> str | None:
    """The delegate's runtime merges the bounds into the pool before them, which then uses their parameters.

    But a pool does not rescale: with different parameters the results are wrong. Seen with executorch
    1.5.1; in float there is nothing to rescale, and the results are right.
    """
    name = _maximum_before(site)
    return None if name is None else f"it reads {name}, and the runtime merges the two"


@constraint("a maximum of a window directly before")
def of_maximum(site: Site) -> str | None:
    return None if _maximum_before(site) is not None else "it reads no maximum of a window"
