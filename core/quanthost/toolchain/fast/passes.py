"""ExecuTorch's rewriting passes as tables: which operators each pass changes, and how."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from executorch.exir.dim_order_utils import get_dim_order
from executorch.exir.passes.const_prop_pass import ConstPropPass
from executorch.exir.passes.legalize_portable_dim_order_pass import LegalizePortableDimOrderPass
from executorch.exir.passes.memory_format_ops_pass import DimOrderOpsRevertPass, MemoryFormatOpsPass
from executorch.exir.passes.normalize_transpose_pass import NormalizeTransposePass
from executorch.exir.passes.remove_mixed_type_operators import RemoveMixedTypeOperators
from executorch.exir.passes.replace_aten_with_edge_pass import (
    OpReplacePass,
    aten_to_edge,
    should_lower_to_edge,
)
from executorch.exir.passes.replace_broken_ops_with_function_ops_pass import (
    ReplaceBrokenOpsWithFunctionalOpsPass,
)
from executorch.exir.passes.scalar_to_tensor_pass import ScalarToTensorPass
from executorch.exir.passes.sym_to_tensor_pass import SymToTensorPass
from torch import fx
from torch._export.passes.replace_view_ops_with_view_copy_ops_pass import (
    _NON_FUNCTIONAL_OPS_TO_FUNCTIONAL_OPS,
    ReplaceViewOpsWithViewCopyOpsPass,
    get_view_copy_of_view_op,
)
from torch._ops import OpOverload
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND, elementwise_dtypes

__all__ = ["REWRITES", "TWINS", "VALUE", "MustTrace", "Rewrite", "concerns"]

# the metadata key of a node's fake result
VALUE = "val"

# changes a node of the module's graph; new nodes go before it
Rewrite = Callable[[fx.GraphModule, fx.Node], None]


class MustTrace(Exception):
    """The graph has something that only tracing can compute."""


# rewriting passes: whether a node concerns them ------------------------------------------------------------


def _parameters(node: fx.Node) -> Iterator[tuple[Any, Any]]:
    """Each argument with its parameter in the operator's schema."""
    schema = node.target._schema.arguments
    yield from zip(node.args, schema)
    by_name = {parameter.name: parameter for parameter in schema}
    yield from ((value, by_name[name]) for name, value in node.kwargs.items() if name in by_name)


def _is_number_for_tensor(value: Any, parameter: Any) -> bool:
    return isinstance(value, (int, float, bool)) and isinstance(parameter.type, torch.TensorType)


def _has_number_for_tensor(node: fx.Node) -> bool:
    return any(_is_number_for_tensor(value, parameter) for value, parameter in _parameters(node))


def _has_symbol_for_tensor(node: fx.Node) -> bool:
    return any(
        isinstance(value, fx.Node)
        and isinstance(parameter.type, torch.TensorType)
        and not isinstance(value.meta.get(VALUE), torch.Tensor)
        for value, parameter in _parameters(node)
    )


# type promotion of the operators whose operands the pass converts to one type
_PROMOTED = {
    torch.ops.aten.add.Tensor: ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT,
    torch.ops.aten.mul.Tensor: ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT,
    torch.ops.aten.sub.Tensor: ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT,
    torch.ops.aten.div.Tensor: ELEMENTWISE_TYPE_PROMOTION_KIND.INT_TO_FLOAT,
    torch.ops.aten.div.Tensor_mode: ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT,
    torch.ops.aten.minimum.default: ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT,
}


def _promoted_dtype(node: fx.Node) -> torch.dtype:
    """The type in which the operands are computed.

    Raises:
        MustTrace: an operand is no tensor.
    """
    operands = [arg.meta.get(VALUE) if isinstance(arg, fx.Node) else arg for arg in node.args]
    if not all(isinstance(operand, torch.Tensor) for operand in operands):
        raise MustTrace
    how = _PROMOTED[node.target]
    if node.target is torch.ops.aten.div.Tensor_mode and node.kwargs.get("rounding_mode") is None:
        how = ELEMENTWISE_TYPE_PROMOTION_KIND.INT_TO_FLOAT
    dtype: torch.dtype = elementwise_dtypes(*operands, type_promotion_kind=how)[1]
    return dtype


def _mixes_types(node: fx.Node) -> bool:
    if node.target not in _PROMOTED or len(node.args) <= 1:
        return False
    dtype = _promoted_dtype(node)
    return any(source.meta[VALUE].dtype is not dtype for source in node.all_input_nodes)


def _has_other_order(node: fx.Node) -> bool:
    """Whether the input's dimension order is not the one that portable kernels need."""
    if node.target not in LegalizePortableDimOrderPass._target_ops:
        return False
    value = node.args[0].meta.get(VALUE) if isinstance(node.args[0], fx.Node) else node.args[0]
    return isinstance(value, torch.Tensor) and value.dim_order() != tuple(range(value.dim()))


def _reads_only_constants(node: fx.Node) -> bool:
    return all(
        source.op == "get_attr" or getattr(source.meta.get(VALUE), "constant", None) is not None
        for source in node.all_input_nodes
    )


def _is_one_of(targets: Any) -> Callable[[fx.Node], bool]:
    return lambda node: node.target in targets


@functools.cache
def concerns() -> Mapping[type, Callable[[fx.Node], bool]]:
    from executorch.exir.passes.dim_order_ops_registry import DimOrderOpsMap, MemoryFormatOpsMap

    return {
        NormalizeTransposePass: _is_one_of((torch.ops.aten.t.default,)),
        ReplaceBrokenOpsWithFunctionalOpsPass: lambda node: bool(getattr(node.target, "is_view", False)),
        ScalarToTensorPass: _has_number_for_tensor,
        SymToTensorPass: _has_symbol_for_tensor,
        RemoveMixedTypeOperators: _mixes_types,
        LegalizePortableDimOrderPass: _has_other_order,
        MemoryFormatOpsPass: _is_one_of(DimOrderOpsMap),
        DimOrderOpsRevertPass: _is_one_of(MemoryFormatOpsMap),
        ConstPropPass: _reads_only_constants,
    }


# how they rewrite a node; passes that are not in this table trace ------------------------------------------


def _copied_meta(node: fx.Node) -> dict[str, Any]:
    """The metadata that nodes made from a node inherit; not its value."""
    keys = ("stack_trace", "nn_module_stack", "source_fn_stack", "custom", "from_node")
    return {key: node.meta[key] for key in keys if key in node.meta}


def _replace_numbers(module: fx.GraphModule, node: fx.Node) -> None:
    def constant(value: Any, parameter: Any) -> Any:
        is_number = _is_number_for_tensor(value, parameter)
        return _constant(module, torch.tensor(value)) if is_number else value

    pairs = list(_parameters(node))
    count = len(node.args)
    node.args = tuple(constant(*each) for each in pairs[:count])
    node.kwargs = {
        name: constant(value, parameter) for name, (value, parameter) in zip(node.kwargs, pairs[count:])
    }


def _constant(module: fx.GraphModule, tensor: torch.Tensor) -> fx.Node:
    # the name that torch's tracing uses
    name = next(n for n in map("_tensor_constant{}".format, itertools.count()) if not hasattr(module, n))
    module.register_buffer(name, tensor)
    return module.graph.get_attr(name)


def _unify_types(module: fx.GraphModule, node: fx.Node) -> None:
    dtype = _promoted_dtype(node)

    def converted(source: fx.Node) -> fx.Node:
        if source.meta[VALUE].dtype is dtype:
            return source
        conversion = module.graph.call_function(torch.ops.aten._to_copy.default, (source,), {"dtype": dtype})
        conversion.meta.update(_copied_meta(node))
        return conversion

    node.args = tuple(converted(source) for source in node.args)


def _set_dim_order(module: fx.GraphModule, node: fx.Node) -> None:
    from executorch.exir.passes.dim_order_ops_registry import DimOrderOpsMap

    value = node.args[0].meta.get(VALUE) if isinstance(node.args[0], fx.Node) else None
    if not isinstance(value, torch.Tensor):
        raise MustTrace
    kwargs = {**node.kwargs}
    layout = kwargs.pop("memory_format", torch.preserve_format)
    follows = layout in (None, torch.preserve_format)
    order = list(value.dim_order()) if follows else get_dim_order(layout, value.dim())
    node.target, node.kwargs = DimOrderOpsMap[node.target], {**kwargs, "dim_order": order}


REWRITES: Mapping[type, Rewrite] = {
    ScalarToTensorPass: _replace_numbers,
    RemoveMixedTypeOperators: _unify_types,
    MemoryFormatOpsPass: _set_dim_order,
}


# passes that rewrite every graph: the new operator for an operator ------------------------------------------


def _edge_twin(target: Any) -> Any | None:
    return aten_to_edge(target) if should_lower_to_edge(target) else None


def _copying_twin(target: Any) -> Any | None:
    if not isinstance(target, OpOverload):
        return None
    return _NON_FUNCTIONAL_OPS_TO_FUNCTIONAL_OPS.get(target) or get_view_copy_of_view_op(target._schema)


TWINS: Mapping[type, Callable[[Any], Any | None]] = {
    OpReplacePass: _edge_twin,
    ReplaceViewOpsWithViewCopyOpsPass: _copying_twin,
}
