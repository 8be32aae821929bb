"""ExecuTorch's passes without their tracing: what a pass leaves alone keeps what is known of it.

Each pass of ExecuTorch traces the whole graph anew, with fake tensors, whether it changes something or not.
Here a graph is copied instead, and only what a pass changed is computed anew: a node whose operator or
operands are no longer those that its fake tensor was computed from, and whatever reads a result that became
another. A pass that rewrites operators while it traces is asked beforehand, by the tables of ``passes``,
whether any operator of the graph concerns it: those are rewritten in place, or the pass traces. One that is
not in the tables traces as ever.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from executorch.exir.delegate import executorch_call_delegate
from executorch.exir.dialects.edge._ops import EdgeOpOverload
from executorch.exir.pass_base import ExportPass
from executorch.exir.passes.replace_aten_with_edge_pass import OpReplacePass
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._export.pass_base import _ExportPassBaseDeprecatedDoNotUse
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.passes.infra.pass_base import PassResult
from torch.utils import _pytree as pytree
from torch.utils._mode_utils import no_dispatch

from quanthost.graph.view import is_dequantize, is_quantize
from quanthost.toolchain import copies
from quanthost.toolchain.fast.passes import REWRITES, TWINS, VALUE, MustTrace, Rewrite, concerns
from quanthost.toolchain.fast.proved import FINGERPRINTS
from quanthost.toolchain.replacement import Replacement, replaced

__all__ = ["compute", "copy_graph", "incremental", "refresh"]

_FROM = "quanthost_computed_from"


class _Value:
    """A fake tensor as an operand: equal to itself alone."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and other.held is self.held

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: Any) -> _Value:
        # some passes copy all that a node carries; a fake tensor copied so would be another one
        return self


# shape, strides, dtype and device
_Form = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]
# the forms of results by what they depend on, for each mode that is alive
_KNOWN: WeakKeyDictionary[FakeTensorMode, dict[tuple[Any, ...], _Form]] = WeakKeyDictionary()


def _origin_of(node: fx.Node) -> tuple[Any, Any]:
    """What a node's fake result is computed from."""
    return node.target, fx.map_arg((node.args, node.kwargs), lambda n: _Value(n.meta.get(VALUE)))


def refresh(module: fx.GraphModule) -> None:
    """Compute anew what the graph's nodes give, where they or what they read have changed.

    Raises:
        MustTrace: a stale node calls no plain operator.
    """
    calls = [node for node in module.graph.nodes if node.op == "call_function"]
    if not any(_FROM in node.meta for node in calls):
        # just traced
        for node in calls:
            if VALUE in node.meta:
                node.meta[_FROM] = _origin_of(node)
    mode = _mode_of(module)
    for node in module.graph.nodes:
        if node.op == "get_attr" and VALUE not in node.meta:
            node.meta[VALUE] = _attribute(module, node, mode)
        if node.op != "call_function":
            continue
        origin = _origin_of(node)
        if node.target is executorch_call_delegate and VALUE in node.meta:
            # what a delegate gives is known from its partition, and no pass changes it
            node.meta.setdefault(_FROM, origin)
        if VALUE not in node.meta or node.meta.get(_FROM) != origin:
            made = compute(node, mode)
            if not _alike(node.meta.get(VALUE), made):
                node.meta[VALUE] = made
            node.meta[_FROM] = origin
        # what ExecuTorch's tracing notes of tensors without a fake one: there are none
        value = node.meta[VALUE]
        plain = isinstance(value, torch.Tensor)
        node.meta["tensor_meta"] = None if plain else pytree.tree_map(lambda _: None, value)


def _mode_of(module: fx.GraphModule) -> FakeTensorMode:
    for node in module.graph.nodes:
        if isinstance(value := node.meta.get(VALUE), FakeTensor):
            mode = value.fake_mode
            mode.allow_non_fake_inputs = True
            return mode
    raise MustTrace


def _attribute(module: fx.GraphModule, node: fx.Node, mode: FakeTensorMode) -> Any:
    value = operator.attrgetter(str(node.target))(module)
    return mode.from_tensor(value, static_shapes=True) if isinstance(value, torch.Tensor) else value


def compute(node: fx.Node, mode: FakeTensorMode) -> Any:
    """What a call gives for the fake tensors of its operands.

    Raises:
        MustTrace: it calls no plain operator, or an operand is not known.
    """
    plain = isinstance(node.target, (OpOverload, EdgeOpOverload))
    if not plain and getattr(node.target, "__module__", "") not in ("_operator", "math"):
        raise MustTrace
    if any(VALUE not in source.meta for source in node.all_input_nodes):
        raise MustTrace
    key = _key(node)
    known = _KNOWN.setdefault(mode, {})
    form = None if key is None else known.get(key)
    if form is not None:
        return _again(form, mode)
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta[VALUE])
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
        tensor = value.meta[VALUE]
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
    """A copy as of ``toolchain.copies`` that takes its arguments in the structure that ``module`` takes."""
    return copies.copy_graph(module, module.graph._codegen)


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
    twin_of, concerned, rewrite = TWINS.get(kind), concerns().get(kind), REWRITES.get(kind)
    in_tables = twin_of is not None or concerned is not None
    if not in_tables and not _only_regenerates(kind, base):
        return None
    # of a pass that only regenerates, the tables say nothing, and its own code runs
    if not FINGERPRINTS.accept(kind if in_tables else base):
        return None
    if _has_submodules(module):
        return None
    delegates = any(node.target is executorch_call_delegate for node in module.graph.nodes)
    # what only looks needs no graph of its own; ExecuTorch takes delegates out of what a pass was given
    made = module if twin_of is None and not delegates else copy_graph(module)
    try:
        refresh(made)
        if concerned is not None and any(_operators(made, concerned)):
            if rewrite is None:
                return None
            made = copy_graph(module) if made is module else made
            _rewrite(made, list(_operators(made, concerned)), rewrite)
        if twin_of is not None:
            _retarget(made, twin_of, same=kind is OpReplacePass)
            refresh(made)
    except MustTrace:
        return None
    made.recompile()
    return PassResult(made, True)


def _operators(module: fx.GraphModule, concerned: Callable[[fx.Node], bool]) -> Iterator[fx.Node]:
    for node in module.graph.nodes:
        if isinstance(node.target, (OpOverload, EdgeOpOverload)) and concerned(node):
            yield node


def _rewrite(module: fx.GraphModule, nodes: list[fx.Node], rewrite: Rewrite) -> None:
    for node in nodes:
        with module.graph.inserting_before(node):
            rewrite(module, node)
    refresh(module)


# what passes derive from: a pass that overrides nothing of its base only traces
BASES = (ExportPass, _ExportPassBaseDeprecatedDoNotUse)


def _call(base: type) -> Callable[..., PassResult]:
    def call(traced: Callable[..., PassResult], self: Any, graph_module: fx.GraphModule) -> PassResult:
        made = _quickly(self, graph_module, base)
        return traced(self, graph_module) if made is None else made

    return call


REPLACEMENTS = tuple(
    Replacement(target, _call(base), FINGERPRINTS)
    for target, base in zip(
        (
            "executorch.exir.pass_base:_ExportPassBase.call",
            "torch._export.pass_base:_ExportPassBaseDeprecatedDoNotUse.call",
        ),
        BASES,
    )
)


def incremental() -> AbstractContextManager[None]:
    """While entered, in this thread, passes trace only what they change."""
    return replaced(*REPLACEMENTS)
