"""Graph rewrites before annotation: operators put into forms that the table has rows for."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import map_arg

from quanthost.api import Rewriter, argument, constant, operator_name, tensor_meta
from quanthost_xnnpack_like.biases import bias_for_each_layer
from quanthost_xnnpack_like.hardsigmoid import hardsigmoid_into_layer
from quanthost_xnnpack_like.hardswish import written_out_hardsigmoid, written_out_hardswish

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

__all__ = ["REWRITES"]

_aten = torch.ops.aten
_IDENTITIES = (
    "aten.alias.",
    "aten.detach.",
    "aten.lift_fresh_copy.",
    "aten.dropout.",
    "aten.feature_dropout.",
)


def _each(
    *names: str,
) -> Callable[[Callable[[Rewriter, Node], Node | None]], Callable[[GraphModule], None]]:
    """A rewrite of each node of these operators; the function returns the replacement, or ``None``."""

    def wrap(rule: Callable[[Rewriter, Node], Node | None]) -> Callable[[GraphModule], None]:
        def rewrite(graph_module: GraphModule) -> None:
            for node in list(graph_module.graph.nodes):
                if node.op != "call_function" or not operator_name(node).startswith(names):
                    continue
                rewriter = Rewriter(graph_module, node)
                made = rule(rewriter, node)
                if made is not None:
                    rewriter.replace_with(made)

        rewrite.__name__ = rule.__name__
        rewrite.__doc__ = rule.__doc__
        return rewrite

    return wrap


def _static_shape(node: Node) -> list[int] | None:
    """The shape of a node's tensor where it has no symbol in it."""
    meta = tensor_meta(node)
    if meta is None or not all(isinstance(size, int) for size in meta.shape):
        return None
    return list(meta.shape)


def _inferable_shape(node: Node) -> list[int] | None:
    """The same with one dimension that may vary, written as -1: the delegate infers it."""
    meta = tensor_meta(node)
    if meta is None:
        return None
    shape = [size if isinstance(size, int) else -1 for size in meta.shape]
    return shape if shape.count(-1) < 2 else None


_FOLDED_SIZE = 1 << 20
_RANDOM = frozenset(("rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal", "dropout"))


def fold_constants(graph_module: GraphModule) -> None:
    """What depends on no input is computed now: positions, masks, expanded tokens, turned weights."""
    known: dict[Node, torch.Tensor] = {}
    for node in list(graph_module.graph.nodes):
        held = constant(graph_module, node)
        if held is not None:
            known[node] = held.detach()
        meta = tensor_meta(node)
        if not _is_foldable(node, known) or meta is None or _static_shape(node) is None:
            continue
        args, kwargs = map_arg((node.args, node.kwargs), known.__getitem__)
        with torch.no_grad():
            value = node.target(*args, **kwargs)
        rewriter = Rewriter(graph_module, node)
        made = rewriter.constant(value.clone(memory_format=torch.contiguous_format), "_folded")
        rewriter.replace_with(made)
        known[made] = value


def _is_foldable(node: Node, known: dict[Node, torch.Tensor]) -> bool:
    meta = tensor_meta(node)
    if node.op != "call_function" or meta is None or meta.numel() > _FOLDED_SIZE:
        return False
    if not all(source in known for source in node.all_input_nodes):
        return False
    base = operator_name(node).split(".")[1:2]
    is_torchs = isinstance(node.target, torch._ops.OpOverload) and not node.target._schema.is_mutable
    return is_torchs and _RANDOM.isdisjoint(base)


@_each("aten.layer_norm.default")
def layer_norm_to_products(rewriter: Rewriter, node: Node) -> Node | None:
    """Mean and variance as products with a column of 1/C: the delegate has no reduction over the last axis.

    y = (x - E[x]) / sqrt(E[(x - E[x])²] + eps) · weight + bias
    """
    source, normalized = argument(node, "input"), argument(node, "normalized_shape")
    shape, meta = _static_shape(source), tensor_meta(node)
    if shape is None or len(normalized) != 1 or meta is None or meta.dtype != torch.float32:
        return None
    channels = int(normalized[0])
    column = rewriter.constant(torch.full((channels, 1), 1.0 / channels), "_mean_column")
    flat = rewriter.call(_aten.reshape.default, source, [-1, channels])
    mean = rewriter.call(_aten.mm.default, flat, column)
    centred = rewriter.call(_aten.sub.Tensor, flat, mean)
    squares = rewriter.call(_aten.mul.Tensor, centred, centred)
    variance = rewriter.call(_aten.mm.default, squares, column)
    shifted = rewriter.call(
        _aten.add.Tensor, variance, rewriter.constant(torch.tensor([float(argument(node, "eps"))]), "_eps")
    )
    made = rewriter.call(_aten.mul.Tensor, centred, rewriter.call(_aten.rsqrt.default, shifted))
    for part, target in (
        (argument(node, "weight"), _aten.mul.Tensor),
        (argument(node, "bias"), _aten.add.Tensor),
    ):
        if part is not None:
            made = rewriter.call(target, made, part)
    return rewriter.call(_aten.reshape.default, made, shape)


# far below any score, and far above what would destroy a range
_MASKED = -1e9


@_each("aten.scaled_dot_product_attention.default")
def attention_to_products(rewriter: Rewriter, node: Node) -> Node | None:
    """softmax(query · keyᵀ · scale + mask) · value, as batched products of 3-d tensors."""
    query, key, value = (argument(node, name) for name in ("query", "key", "value"))
    shapes = [_static_shape(part) for part in (query, key, value)]
    shape, meta = _static_shape(node), tensor_meta(node)
    if shape is None or meta is None or meta.dtype != torch.float32 or None in shapes:
        return None
    queries, keys, values = (list(part or ()) for part in shapes)
    plain = queries[:-2] == keys[:-2] == values[:-2] and not argument(node, "enable_gqa", False)
    if not plain or argument(node, "dropout_p"):
        return None
    mask = _additive_mask(rewriter, node, queries[-2], keys[-2])
    given = argument(node, "scale")
    scale = float(given) if given is not None else queries[-1] ** -0.5
    flat_query = rewriter.call(_aten.reshape.default, query, [-1, *queries[-2:]])
    flat_key = rewriter.call(_aten.reshape.default, key, [-1, *keys[-2:]])
    flat_value = rewriter.call(_aten.reshape.default, value, [-1, *values[-2:]])
    factor = rewriter.constant(torch.tensor([scale]), "_attention_scale")
    scaled = rewriter.call(_aten.mul.Tensor, flat_query, factor)
    scores = rewriter.call(
        _aten.bmm.default, scaled, rewriter.call(_aten.permute.default, flat_key, [0, 2, 1])
    )
    if mask is not None:
        whole = [*queries[:-1], keys[-2]]
        masked = rewriter.call(_aten.add.Tensor, rewriter.call(_aten.reshape.default, scores, whole), mask)
        scores = rewriter.call(_aten.reshape.default, masked, [-1, *whole[-2:]])
    weights = rewriter.call(_aten.softmax.int, scores, -1)
    made = rewriter.call(_aten.bmm.default, weights, flat_value)
    return rewriter.call(_aten.reshape.default, made, shape)


def _additive_mask(rewriter: Rewriter, node: Node, queries: int, keys: int) -> Node | None:
    """What is added to the scores: ``None`` where nothing is masked."""
    mask = argument(node, "attn_mask")
    if argument(node, "is_causal"):
        seen = torch.ones(queries, keys, dtype=torch.bool).tril()
        return rewriter.constant(torch.zeros(queries, keys).masked_fill(~seen, _MASKED), "_causal_mask")
    if mask is None:
        return None
    held, meta = constant(rewriter.graph_module, mask), tensor_meta(mask)
    is_bool = meta is not None and meta.dtype == torch.bool
    if held is not None and is_bool:
        if bool(held.all()):
            return None
        return rewriter.constant(torch.zeros(held.shape).masked_fill(~held, _MASKED), "_attention_mask")
    if held is not None:
        return rewriter.constant(held.detach().clamp(min=_MASKED), "_attention_mask")
    if not is_bool or meta is None:
        return rewriter.call(_aten.clamp.default, mask, _MASKED)
    nothing = rewriter.constant(torch.zeros(()), "_unmasked")
    whole = rewriter.call(_aten.expand.default, nothing, list(meta.shape))
    hidden = rewriter.call(_aten.logical_not.default, mask)
    return rewriter.call(_aten.masked_fill.Scalar, whole, hidden, _MASKED)


@_each(*_IDENTITIES)
def drop_identities(rewriter: Rewriter, node: Node) -> Node | None:
    """Operators that do nothing in evaluation."""
    if argument(node, "train", False):
        return None
    source: Node = node.args[0]
    return source


@_each(
    "aten.squeeze.", "aten.unsqueeze.", "aten.flatten.", "aten.unflatten.", "aten.view_as.",
    "aten.view.default", "aten.reshape.default",
)  # fmt: skip
def reshapes_to_view(rewriter: Rewriter, node: Node) -> Node | None:
    """Shape changes become one operator, of plain numbers; the delegate has them as a reshape."""
    shape = _inferable_shape(node)
    if shape is None or argument(node, "size", argument(node, "shape")) == shape:
        return None
    return rewriter.call(_aten.reshape.default, node.args[0], shape)


@_each("aten.select.int")
def select_to_slice(rewriter: Rewriter, node: Node) -> Node | None:
    """One index of a dimension is a slice of length one, without the dimension."""
    shape = _static_shape(node)
    source, dim, index = (argument(node, name) for name in ("self", "dim", "index"))
    whole = _static_shape(source)
    if shape is None or whole is None or not isinstance(index, int):
        return None
    dim %= len(whole)
    size = whole[dim]
    index %= size
    part = rewriter.call(_aten.slice.Tensor, source, dim, index, index + 1)
    return rewriter.call(_aten.reshape.default, part, shape)


@_each("aten.split.", "aten.split_with_sizes.", "aten.chunk.", "aten.unbind.")
def splits_to_slices(rewriter: Rewriter, node: Node) -> Node | None:
    """Each part of a split is a slice; ``unbind`` drops the dimension as well."""
    source, dim = argument(node, "self"), argument(node, "dim", 0)
    parts = node.meta.get("val")
    readers = list(node.users)
    if _static_shape(source) is None or any(r.target is not operator.getitem for r in readers):
        return None
    dim %= len(_static_shape(source) or ())
    unbinds = operator_name(node).startswith("aten.unbind.")
    ends = _ends(parts, dim, unbinds)
    for reader in readers:
        number: int = reader.args[1]
        start = ends[number - 1] if number else 0
        here = Rewriter(rewriter.graph_module, reader)
        made = here.call(_aten.slice.Tensor, source, dim, start, ends[number])
        if unbinds:
            made = here.call(_aten.reshape.default, made, list(parts[number].shape))
        here.replace_with(made)
    return None


def _ends(parts: Any, dim: int, unbinds: bool) -> list[int]:
    ends: list[int] = []
    for part in parts:
        ends.append((ends[-1] if ends else 0) + (1 if unbinds else int(part.shape[dim])))
    return ends


@_each("aten.mean.dim")
def mean_keeps_dimensions(rewriter: Rewriter, node: Node) -> Node | None:
    """The delegate averages height and width and keeps them; dropping them is a reshape."""
    source, dims = argument(node, "self"), argument(node, "dim")
    meta, shape = tensor_meta(source), _inferable_shape(node)
    if meta is None or meta.dim() != 4 or shape is None or argument(node, "keepdim") or dims is None:
        return None
    if sorted(d % 4 for d in dims) != [2, 3]:
        return None
    kept = rewriter.call(_aten.mean.dim, source, [2, 3], True)
    return rewriter.call(_aten.reshape.default, kept, shape)


@_each("aten.amax.default")
def amax_to_values_of_max(rewriter: Rewriter, node: Node) -> Node | None:
    """The delegate has no ``amax``, but the values of ``max``."""
    dims = argument(node, "dim")
    return _values_of_max(rewriter, list(dims), argument(node, "keepdim")) if dims else None


@_each("aten.max.dim")
def max_keeps_dimension(rewriter: Rewriter, node: Node) -> Node | None:
    """Where only the values are read; the delegate does not count dimensions from the last."""
    dim, keeps = argument(node, "dim"), argument(node, "keepdim")
    readers = [reader for reader in node.users if reader.users]
    if (keeps and dim >= 0) or any(reader.args[1] != 0 for reader in readers):
        return None
    made = _values_of_max(rewriter, [dim], keeps)
    for reader in readers if made is not None else ():
        Rewriter(rewriter.graph_module, reader).replace_with(made)
    return None


def _values_of_max(rewriter: Rewriter, dims: list[int], keeps: bool) -> Node | None:
    """The maximum over height, width or both, one after the other; dropping them is a reshape."""
    made: Node = argument(rewriter.node, "self")
    shape = _static_shape(made)
    if shape is None or len(shape) != 4 or not {dim % 4 for dim in dims} <= {2, 3}:
        return None
    for dim in {dim % 4 for dim in dims}:
        made = rewriter.call(operator.getitem, rewriter.call(_aten.max.dim, made, dim, True), 0)
    dropped = () if keeps else {dim % 4 for dim in dims}
    rest = [size for dim, size in enumerate(shape) if dim not in dropped]
    return made if keeps else rewriter.call(_aten.reshape.default, made, rest)


@_each("aten.silu.default")
def silu_to_product(rewriter: Rewriter, node: Node) -> Node | None:
    """x · sigmoid(x)."""
    gate = rewriter.call(_aten.sigmoid.default, node.args[0])
    return rewriter.call(_aten.mul.Tensor, node.args[0], gate)


@_each("aten.hardsigmoid.default")
def hardsigmoid_to_products(rewriter: Rewriter, node: Node) -> Node | None:
    """min(max(x + 3, 0), 6) / 6: the delegate has no kernel for the function, but for its parts."""
    three, sixth = _scalar(rewriter, 3.0), _scalar(rewriter, 1 / 6)
    if three is None or sixth is None:
        return None
    shifted = rewriter.call(_aten.add.Tensor, node.args[0], three)
    return rewriter.call(_aten.mul.Tensor, rewriter.call(_aten.hardtanh.default, shifted, 0.0, 6.0), sixth)


@_each("aten.elu.")
def elu_with_alpha(rewriter: Rewriter, node: Node) -> Node | None:
    """The delegate's compiler reads alpha where it stands, and knows no default."""
    if len(node.args) > 1 or "alpha" in node.kwargs:
        return None
    more = {key: value for key, value in node.kwargs.items() if key != "self"}
    return rewriter.call(_aten.elu.default, argument(node, "self"), 1.0, **more)


@_each("aten.clamp.default")
def clamp_to_hardtanh(rewriter: Rewriter, node: Node) -> Node | None:
    """The delegate fuses a hardtanh, but not a clamp, into the kernel before it."""
    low, high = argument(node, "min"), argument(node, "max")
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return None
    return rewriter.call(_aten.hardtanh.default, node.args[0], float(low), float(high))


@_each("aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor", "aten.div.Tensor")
def scalars_to_tensors(rewriter: Rewriter, node: Node) -> Node | None:
    """A number as operand becomes a constant tensor, which has a range and can be integer."""
    first, second = argument(node, "self"), argument(node, "other")
    if argument(node, "alpha", 1) != 1 or isinstance(second, bool) or not isinstance(second, (int, float)):
        return None
    scalar = _scalar(rewriter, second)
    return None if scalar is None else rewriter.call(node.target, first, scalar)


@_each("aten.rsub.Scalar")
def reversed_difference_to_difference(rewriter: Rewriter, node: Node) -> Node | None:
    """A number minus a tensor: the same with the number as a constant tensor."""
    number = argument(node, "other")
    if argument(node, "alpha", 1) != 1 or not isinstance(number, (int, float)):
        return None
    scalar = _scalar(rewriter, number)
    return None if scalar is None else rewriter.call(_aten.sub.Tensor, scalar, argument(node, "self"))


def _scalar(rewriter: Rewriter, number: float) -> Node | None:
    """A constant for a float32 result, of the result's rank."""
    meta = tensor_meta(rewriter.node)
    if meta is None or meta.dtype != torch.float32:
        return None
    # of lower rank, the delegate would hold both operands contiguous, and transpose between convolutions
    return rewriter.constant(torch.full([1] * max(meta.dim(), 1), float(number)), "_scalar")


@_each("aten.addmm.default")
def addmm_to_linear(rewriter: Rewriter, node: Node) -> Node | None:
    """A product with a constant matrix is a linear layer with the transposed weight."""
    bias, source, matrix = (argument(node, name) for name in ("self", "mat1", "mat2"))
    weight = constant(rewriter.graph_module, matrix)
    if weight is None or constant(rewriter.graph_module, bias) is None:
        return None
    if argument(node, "alpha", 1) != 1 or argument(node, "beta", 1) != 1:
        return None
    turned = rewriter.constant(weight.detach().t().contiguous(), "_linear_weight")
    return rewriter.call(_aten.linear.default, source, turned, bias)


@_each("aten.mm.default", "aten.matmul.default")
def mm_to_linear(rewriter: Rewriter, node: Node) -> Node | None:
    """The same without bias, also for a batch of matrices."""
    source = node.args[0]
    matrix: Node = node.args[1]
    weight = constant(rewriter.graph_module, matrix)
    if weight is None or weight.dim() != 2:
        return None
    turned = rewriter.constant(weight.detach().t().contiguous(), "_linear_weight")
    return rewriter.call(_aten.linear.default, source, turned, None)


@_each("aten.prelu.default")
def prelu_to_four_dimensions(rewriter: Rewriter, node: Node) -> Node | None:
    """The delegate's PReLU is 4-d, channels second, with a slope for each channel."""
    source, slope = argument(node, "self"), constant(rewriter.graph_module, argument(node, "weight"))
    shape = _static_shape(source)
    if slope is None or shape is None or not 2 <= len(shape) <= 4:
        return None
    if len(shape) == 4 and slope.numel() == shape[1]:
        return None
    slopes = rewriter.constant(slope.detach().expand(shape[1]).clone(), "_slope")
    lifted = rewriter.call(_aten.reshape.default, source, [*shape, *([1] * (4 - len(shape)))])
    made = rewriter.call(_aten.prelu.default, lifted, slopes)
    return made if len(shape) == 4 else rewriter.call(_aten.reshape.default, made, shape)


@_each("aten.batch_norm.default")
def batch_norm_to_convolution(rewriter: Rewriter, node: Node) -> Node | None:
    """A batch norm that no convolution took is a 1×1 depthwise convolution: scale and shift a channel."""
    if argument(node, "training"):
        return None
    read = [argument(node, name) for name in ("weight", "bias", "running_mean", "running_var")]
    weight, bias, mean, variance = (
        constant(rewriter.graph_module, part) if part is not None else None for part in read
    )
    meta = tensor_meta(node)
    if mean is None or variance is None or meta is None or meta.dim() not in (2, 3, 4):
        return None
    scale = torch.rsqrt(variance.detach() + argument(node, "eps"))
    scale = scale if weight is None else scale * weight.detach()
    shift = -mean.detach() * scale
    shift = shift if bias is None else shift + bias.detach()
    rows = meta.dim() == 2
    channels, spatial = scale.numel(), 1 if meta.dim() == 3 else 2
    source = argument(node, "input")
    if rows:
        source = rewriter.call(_aten.reshape.default, source, [-1, channels, 1, 1])
    kernel = rewriter.constant(scale.reshape(channels, 1, *([1] * spatial)), "_norm_scale")
    offset = rewriter.constant(shift, "_norm_shift")
    convolution = _aten.conv2d.default if spatial == 2 else _aten.conv1d.default
    ones, zeros = [1] * spatial, [0] * spatial
    made = rewriter.call(convolution, source, kernel, offset, ones, zeros, ones, channels)
    return rewriter.call(_aten.reshape.default, made, [-1, channels]) if rows else made


REWRITES = (
    fold_constants,
    attention_to_products,
    drop_identities,
    reshapes_to_view,
    select_to_slice,
    splits_to_slices,
    mean_keeps_dimensions,
    amax_to_values_of_max,
    max_keeps_dimension,
    silu_to_product,
    clamp_to_hardtanh,
    elu_with_alpha,
    written_out_hardswish,
    written_out_hardsigmoid,
    hardsigmoid_into_layer,
    hardsigmoid_to_products,
    addmm_to_linear,
    mm_to_linear,
    prelu_to_four_dimensions,
    batch_norm_to_convolution,
    layer_norm_to_products,
    scalars_to_tensors,
    reversed_difference_to_difference,
    bias_for_each_layer,
)
