"""ExecuTorch's passes without their tracing: what a pass leaves alone keeps what is known of it.

Each pass of ExecuTorch traces the whole graph anew, with fake tensors, whether it changes something or not.
Here a graph is copied instead, and only what a pass changed is computed anew: a node whose operator or
operands are no longer those that its fake tensor was computed from, and whatever reads a result that became
another. A pass that rewrites operators while it traces is asked beforehand, by the table, whether any
operator of the graph concerns it; one that is not in the table traces as ever.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from executorch.exir.delegate import executorch_call_delegate
from executorch.exir.dialects.edge._ops import EdgeOpOverload
from executorch.exir.pass_base import ExportPass
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
from torch._dispatch.python import enable_python_dispatcher
from torch._export.pass_base import _ExportPassBaseDeprecatedDoNotUse
from torch._export.passes.replace_view_ops_with_view_copy_ops_pass import (
    _NON_FUNCTIONAL_OPS_TO_FUNCTIONAL_OPS,
    ReplaceViewOpsWithViewCopyOpsPass,
    get_view_copy_of_view_op,
)
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.passes.infra.pass_base import PassResult
from torch.fx.traceback import NodeSource, NodeSourceAction
from torch.utils import _pytree as pytree
from torch.utils._mode_utils import no_dispatch

from quanthost.graph.view import is_dequantize, is_quantize
from quanthost.toolchain.patching import Patch, entered

__all__ = ["compute", "copy_graph", "incremental", "refresh"]

_FROM = "quanthost_computed_from"
_MARKER = "val"


class _MustTrace(Exception):
    """The graph has something that only tracing can compute."""


class _Value:
    """A fake tensor as an operand: equal to itself alone."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and other.held is self.held

    __hash__ = None  # type: ignore[assignment]


# shape, strides, dtype and device
_Form = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]
# the forms of results by what they depend on, for each mode that is alive
_KNOWN: WeakKeyDictionary[FakeTensorMode, dict[tuple[Any, ...], _Form]] = WeakKeyDictionary()


def _origin_of(node: fx.Node) -> tuple[Any, Any]:
    """What a node's fake result is computed from."""
    return node.target, fx.map_arg((node.args, node.kwargs), lambda n: _Value(n.meta.get(_MARKER)))


def refresh(module: fx.GraphModule) -> None:
    """Compute anew what the graph's nodes give, where they or what they read have changed.

    Raises:
        _MustTrace: a stale node calls no plain operator.
    """
    calls = [node for node in module.graph.nodes if node.op == "call_function"]
    if not any(_FROM in node.meta for node in calls):
        # just traced
        for node in calls:
            if _MARKER in node.meta:
                node.meta[_FROM] = _origin_of(node)
    mode = _mode_of(module)
    for node in module.graph.nodes:
        if node.op == "get_attr" and _MARKER not in node.meta:
            node.meta[_MARKER] = _attribute(module, node, mode)
        if node.op != "call_function":
            continue
        origin = _origin_of(node)
        if node.target is executorch_call_delegate and _MARKER in node.meta:
            # what a delegate gives is known from its partition, and no pass changes it
            node.meta.setdefault(_FROM, origin)
        if _MARKER not in node.meta or node.meta.get(_FROM) != origin:
            made = compute(node, mode)
            if not _alike(node.meta.get(_MARKER), made):
                node.meta[_MARKER] = made
            node.meta[_FROM] = origin
        # what ExecuTorch's tracing notes of tensors without a fake one: there are none
        value = node.meta[_MARKER]
        plain = isinstance(value, torch.Tensor)
        node.meta["tensor_meta"] = None if plain else pytree.tree_map(lambda _: None, value)


def _mode_of(module: fx.GraphModule) -> FakeTensorMode:
    for node in module.graph.nodes:
        if isinstance(value := node.meta.get(_MARKER), FakeTensor):
            mode = value.fake_mode
            mode.allow_non_fake_inputs = True
            return mode
    raise _MustTrace


def _attribute(module: fx.GraphModule, node: fx.Node, mode: FakeTensorMode) -> Any:
    value = operator.attrgetter(str(node.target))(module)
    return mode.from_tensor(value, static_shapes=True) if isinstance(value, torch.Tensor) else value


def compute(node: fx.Node, mode: FakeTensorMode) -> Any:
    """What a call gives for the fake tensors of its operands.

    Raises:
        _MustTrace: it calls no plain operator, or an operand is not known.
    """
    plain = isinstance(node.target, (OpOverload, EdgeOpOverload))
    if not plain and getattr(node.target, "__module__", "") not in ("_operator", "math"):
        raise _MustTrace
    if any(_MARKER not in source.meta for source in node.all_input_nodes):
        raise _MustTrace
    key = _key(node)
    known = _KNOWN.setdefault(mode, {})
    form = None if key is None else known.get(key)
    if form is not None:
        return _again(form, mode)
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta[_MARKER])
    with mode, enable_python_dispatcher(), torch.no_grad():
        made = node.target(*args, **kwargs)
    if key is not None and _is_plain(made):
        known[key] = _form(made)
    return made


def _key(node: fx.Node) -> tuple[Any, ...] | None:
    """What a call's fake result depends on, ``None`` where it is more than dtypes, shapes and numbers."""
    operands = (*node.args, *node.kwargs.values())
    try:
        kinds = map(_kind_without_value if _converts(node) else _kind, operands)
        return (node.target, len(node.args), *node.kwargs, *kinds)
    except _Unkeyed:
        return None


def _converts(node: fx.Node) -> bool:
    """Whether it quantizes or dequantizes: scales and zero points, of each tensor its own, form nothing."""
    return is_quantize(node) or is_dequantize(node)


def _kind_without_value(value: Any) -> Any:
    return type(value) if type(value) in (int, float) else _kind(value)


class _Unkeyed(Exception):
    """An operand that no key tells from others."""


_NUMBERS = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.memory_format, torch.layout)


def _kind(value: Any) -> Any:
    if isinstance(value, fx.Node):
        tensor = value.meta[_MARKER]
        if not _is_plain(tensor) or tensor.constant is not None:
            raise _Unkeyed
        return _form(tensor)
    if isinstance(value, (list, tuple)):
        return (list, *map(_kind, value))
    if isinstance(value, _NUMBERS):
        # 1, 1.0 and True are equal, and promote differently
        return type(value), value
    raise _Unkeyed


def _is_plain(value: Any) -> bool:
    """Whether a result is one fake tensor of known shape, and not a part of another's memory."""
    if not isinstance(value, FakeTensor) or value.storage_offset() != 0:
        return False
    return not any(isinstance(size, torch.SymInt) for size in (*value.shape, *value.stride()))


def _form(tensor: FakeTensor) -> _Form:
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.fake_device


def _again(form: _Form, mode: FakeTensorMode) -> FakeTensor:
    """A fake tensor of that form, with a memory of its own."""
    shape, strides, dtype, device = form
    with no_dispatch():
        bare = torch.empty_strided(shape, strides, dtype=dtype, device="meta")
    return FakeTensor(mode, bare, device)


def _alike(old: Any, new: Any) -> bool:
    olds, old_spec = pytree.tree_flatten(old)
    news, new_spec = pytree.tree_flatten(new)
    return old_spec == new_spec and all(map(_alike_leaves, olds, news))


def _alike_leaves(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return type(a) is type(b) and isinstance(a, (int, float, bool, str, type(None))) and a == b
    if any(isinstance(size, torch.SymInt) for each in (a, b) for size in (*each.shape, *each.stride())):
        return False
    same = (a.dtype, a.shape, a.stride(), a.device) == (b.dtype, b.shape, b.stride(), b.device)
    return bool(same)


def copy_graph(module: fx.GraphModule) -> fx.GraphModule:
    """A copy with nodes of its own and the same tensors; what nodes carry is copied one level deep."""
    graph = fx.Graph()
    graph.set_codegen(module.graph._codegen)
    copies: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(module.graph, copies, return_output_node=True)
    if result is not None:
        value, old = result
        node = graph.output(value)
        node.meta = dict(old.meta)
    for old, new in copies.items():
        # as tracing would note it: debug handles go by the first node of this chain
        if new.op != "placeholder" and "from_node" not in new.meta:
            new.meta["from_node"] = [NodeSource(old, "copy_graph", NodeSourceAction.CREATE)]
    made = fx.GraphModule(module, graph)
    made.meta = dict(module.meta)
    return made


# rewriting passes: whether a node concerns them ------------------------------------------------------------


def _parameters(node: fx.Node) -> Iterator[tuple[Any, Any]]:
    """Each argument with what the operator's schema says of it."""
    schema = node.target._schema.arguments
    yield from zip(node.args, schema)
    by_name = {parameter.name: parameter for parameter in schema}
    yield from ((value, by_name[name]) for name, value in node.kwargs.items() if name in by_name)


def _number_for_tensor(node: fx.Node) -> bool:
    return any(
        isinstance(value, (int, float, bool)) and isinstance(parameter.type, torch.TensorType)
        for value, parameter in _parameters(node)
    )


def _symbol_for_tensor(node: fx.Node) -> bool:
    return any(
        isinstance(value, fx.Node)
        and isinstance(parameter.type, torch.TensorType)
        and not isinstance(value.meta.get(_MARKER), torch.Tensor)
        for value, parameter in _parameters(node)
    )


def _mixes_types(node: fx.Node) -> bool:
    """Whether the operands differ in dtype; numbers count, as they can promote."""
    if len(node.args) <= 1:
        return False
    values = [arg.meta.get(_MARKER) if isinstance(arg, fx.Node) else arg for arg in node.args[:2]]
    dtypes = [value.dtype if isinstance(value, torch.Tensor) else None for value in values]
    made = node.meta.get(_MARKER)
    result = made.dtype if isinstance(made, torch.Tensor) else None
    return len({*dtypes, result}) > 1 and str(node.target).split(".")[1] in _PROMOTED


_PROMOTED = ("add", "mul", "sub", "div", "minimum")


def _reads_constants_alone(node: fx.Node) -> bool:
    return all(
        source.op == "get_attr" or getattr(source.meta.get(_MARKER), "constant", None) is not None
        for source in node.all_input_nodes
    )


def _is_one_of(targets: Any) -> Callable[[fx.Node], bool]:
    return lambda node: node.target in targets


@functools.cache
def _concerns() -> Mapping[type, Callable[[fx.Node], bool]]:
    from executorch.exir.passes.dim_order_ops_registry import DimOrderOpsMap, MemoryFormatOpsMap

    return {
        NormalizeTransposePass: _is_one_of((torch.ops.aten.t.default,)),
        ReplaceBrokenOpsWithFunctionalOpsPass: lambda node: bool(getattr(node.target, "is_view", False)),
        ScalarToTensorPass: _number_for_tensor,
        SymToTensorPass: _symbol_for_tensor,
        RemoveMixedTypeOperators: _mixes_types,
        LegalizePortableDimOrderPass: _is_one_of(LegalizePortableDimOrderPass._target_ops),
        MemoryFormatOpsPass: _is_one_of(DimOrderOpsMap),
        DimOrderOpsRevertPass: _is_one_of(MemoryFormatOpsMap),
        ConstPropPass: _reads_constants_alone,
    }


# rewriting passes that concern every graph: what they make of an operator -----------------------------------


def _edge_twin(target: Any) -> Any | None:
    return aten_to_edge(target) if should_lower_to_edge(target) else None


def _copying_twin(target: Any) -> Any | None:
    if not isinstance(target, OpOverload):
        return None
    return _NON_FUNCTIONAL_OPS_TO_FUNCTIONAL_OPS.get(target) or get_view_copy_of_view_op(target._schema)


_TWINS: Mapping[type, Callable[[Any], Any | None]] = {
    OpReplacePass: _edge_twin,
    ReplaceViewOpsWithViewCopyOpsPass: _copying_twin,
}


def _retarget(module: fx.GraphModule, twin_of: Callable[[Any], Any | None], *, same: bool) -> None:
    """Exchange operators; ``same`` where they compute the same, so that their results stay known."""
    for node in module.graph.nodes:
        twin = twin_of(node.target) if node.op == "call_function" else None
        if twin is None:
            continue
        origin = node.meta.get(_FROM)
        if same and origin is not None:
            node.meta[_FROM] = (twin, origin[1])
        node.target = twin


_OVERRIDABLE = (
    *("call_operator", "call_sym", "call_cond", "call_map", "call_getitem", "call_submodule"),
    *("call_delegate", "output", "placeholder", "inputs", "on_attr"),
)


def _only_regenerates(kind: type, base: type) -> bool:
    """Whether a pass leaves tracing as it is: its own changes are made, or it makes none."""
    return all(getattr(kind, name, None) is getattr(base, name, None) for name in _OVERRIDABLE)


def _has_submodules(module: fx.GraphModule) -> bool:
    return any(isinstance(child, fx.GraphModule) for child in module.children())


def _quickly(self: Any, module: fx.GraphModule, base: type) -> PassResult | None:
    """What tracing would give, ``None`` where only tracing can."""
    kind = type(self)
    twin_of, concerns = _TWINS.get(kind), _concerns().get(kind)
    if twin_of is None and concerns is None and not _only_regenerates(kind, base):
        return None
    if _has_submodules(module):
        return None
    delegates = any(node.target is executorch_call_delegate for node in module.graph.nodes)
    # what only looks needs no graph of its own; ExecuTorch takes delegates out of what a pass was given
    made = module if twin_of is None and not delegates else copy_graph(module)
    try:
        refresh(made)
        operators = [n for n in made.graph.nodes if isinstance(n.target, (OpOverload, EdgeOpOverload))]
        if concerns is not None and any(map(concerns, operators)):
            return None
        if twin_of is not None:
            _retarget(made, twin_of, same=kind is OpReplacePass)
            refresh(made)
    except _MustTrace:
        return None
    made.recompile()
    return PassResult(made, True)


def _call(base: type) -> Callable[..., PassResult]:
    def call(traced: Callable[..., PassResult], self: Any, graph_module: fx.GraphModule) -> PassResult:
        made = _quickly(self, graph_module, base)
        return traced(self, graph_module) if made is None else made

    return call


_PATCHES = (
    Patch(ExportPass.__mro__[1], "call", _call(ExportPass)),
    Patch(_ExportPassBaseDeprecatedDoNotUse, "call", _call(_ExportPassBaseDeprecatedDoNotUse)),
)


@contextlib.contextmanager
def incremental() -> Iterator[None]:
    """While entered, in this thread, passes trace only what they change."""
    with entered(_PATCHES):
        yield
