"""Runs ExecuTorch's passes without tracing: nodes that a pass does not change keep their fake results.

Each pass of ExecuTorch traces the whole graph again with fake tensors, even if it changes nothing. Here a
graph is copied instead, and only changed nodes are computed again: those whose operator or operands are no
longer those that their fake tensor was computed from, and the readers of a result that changed. For a pass
that rewrites operators while it traces, the tables of ``passes`` say which operators it changes. These are
rewritten in place, or the pass traces. A pass that is not in the tables traces.
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
from quanthost.toolchain.fast.accepted_code import FINGERPRINTS
from quanthost.toolchain.fast.passes import REWRITES, TWINS, VALUE, MustTrace, Rewrite, concerns
from quanthost.toolchain.replacement import Replacement, replace_all

__all__ = ["compute", "copy_graph", "incremental", "refresh"]

_COMPUTED_FROM = "quanthost_computed_from"


class _Operand:
    """A fake tensor as an operand, compared by identity."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Operand) and other.value is self.value

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: Any) -> _Operand:
        # some passes deep-copy a node's metadata; a copied fake tensor would no longer be the same
        return self


# shape, strides, dtype and device
_Form = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]
# the forms of results by key, for each fake mode that still exists
_FORMS: WeakKeyDictionary[FakeTensorMode, dict[tuple[Any, ...], _Form]] = WeakKeyDictionary()


def _computation_of(node: fx.Node) -> tuple[Any, Any]:
    """The operator and operands that a node's fake result is computed from."""
    return node.target, fx.map_arg((node.args, node.kwargs), lambda n: _Operand(n.meta.get(VALUE)))


def refresh(module: fx.GraphModule) -> None:
    """Compute the fake results of nodes again if the nodes or their operands have changed.

    Raises:
        MustTrace: a stale node calls no plain operator.
    """
    calls = [node for node in module.graph.nodes if node.op == "call_function"]
    if not any(_COMPUTED_FROM in node.meta for node in calls):
        # just traced
        for node in calls:
            if VALUE in node.meta:
                node.meta[_COMPUTED_FROM] = _computation_of(node)
    mode = _mode_of(module)
    for node in module.graph.nodes:
        if node.op == "get_attr" and VALUE not in node.meta:
            node.meta[VALUE] = _attribute(module, node, mode)
        if node.op != "call_function":
            continue
        computation = _computation_of(node)
        if node.target is executorch_call_delegate and VALUE in node.meta:
            # a delegate's result is known from its partition, and no pass changes it
            node.meta.setdefault(_COMPUTED_FROM, computation)
        if VALUE not in node.meta or node.meta.get(_COMPUTED_FROM) != computation:
            result = compute(node, mode)
            if not _are_equal(node.meta.get(VALUE), result):
                node.meta[VALUE] = result
            node.meta[_COMPUTED_FROM] = computation
        # as ExecuTorch's tracing leaves it
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
    """The result of a call on the fake tensors of its operands.

    Raises:
        MustTrace: it calls no plain operator, or an operand has no fake result.
    """
    plain = isinstance(node.target, (OpOverload, EdgeOpOverload))
    if not plain and getattr(node.target, "__module__", "") not in ("_operator", "math"):
        raise MustTrace
    if any(VALUE not in source.meta for source in node.all_input_nodes):
        raise MustTrace
    key = _key(node)
    forms = _FORMS.setdefault(mode, {})
    form = None if key is None else forms.get(key)
    if form is not None:
        return _tensor_of(form, mode)
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta[VALUE])
    with mode, enable_python_dispatcher(), torch.no_grad():
        result = node.target(*args, **kwargs)
    if key is not None and _is_plain(result):
        forms[key] = _form(result)
    return result


def _key(node: fx.Node) -> tuple[Any, ...] | None:
    """What a call's fake result depends on, ``None`` if that is more than dtypes, shapes and numbers."""
    operands = (*node.args, *node.kwargs.values())
    try:
        kinds = map(_operand_key_without_value if _converts(node) else _operand_key, operands)
        return (node.target, len(node.args), *node.kwargs, *kinds)
    except _NoKey:
        return None


def _converts(node: fx.Node) -> bool:
    """Whether it quantizes or dequantizes: scales and zero points do not affect the result's form."""
    return is_quantize(node) or is_dequantize(node)


def _operand_key_without_value(value: Any) -> Any:
    return type(value) if type(value) in (int, float) else _operand_key(value)


class _NoKey(Exception):
    """An operand has no key."""


_NUMBERS = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.memory_format, torch.layout)


def _operand_key(value: Any) -> Any:
    if isinstance(value, fx.Node):
        tensor = value.meta[VALUE]
        if not _is_plain(tensor) or tensor.constant is not None:
            raise _NoKey
        return _form(tensor)
    if isinstance(value, (list, tuple)):
        return (list, *map(_operand_key, value))
    if isinstance(value, _NUMBERS):
        # 1, 1.0 and True are equal, and promote differently
        return type(value), value
    raise _NoKey


def _is_plain(value: Any) -> bool:
    """Whether a result is one fake tensor of known shape with its own memory."""
    if not isinstance(value, FakeTensor) or value.storage_offset() != 0:
        return False
    return not any(isinstance(size, torch.SymInt) for size in (*value.shape, *value.stride()))


def _form(tensor: FakeTensor) -> _Form:
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.fake_device


def _tensor_of(form: _Form, mode: FakeTensorMode) -> FakeTensor:
    """A new fake tensor of a form, with its own memory."""
    shape, strides, dtype, device = form
    with no_dispatch():
        bare = torch.empty_strided(shape, strides, dtype=dtype, device="meta")
    return FakeTensor(mode, bare, device)


def _are_equal(old: Any, new: Any) -> bool:
    olds, old_spec = pytree.tree_flatten(old)
    news, new_spec = pytree.tree_flatten(new)
    return old_spec == new_spec and all(map(_are_leaves_equal, olds, news))


def _are_leaves_equal(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return type(a) is type(b) and isinstance(a, (int, float, bool, str, type(None))) and a == b
    if any(isinstance(size, torch.SymInt) for each in (a, b) for size in (*each.shape, *each.stride())):
        return False
    same = (a.dtype, a.shape, a.stride(), a.device) == (b.dtype, b.shape, b.stride(), b.device)
    return bool(same)


def copy_graph(module: fx.GraphModule) -> fx.GraphModule:
    """Copy as ``toolchain.copies`` does, with the argument structure of ``module``."""
    return copies.copy_graph(module, module.graph._codegen)


def _retarget(module: fx.GraphModule, twin_of: Callable[[Any], Any | None], *, same: bool) -> None:
    """Replace operators; with ``same`` they compute the same, so that fake results stay valid."""
    for node in module.graph.nodes:
        twin = twin_of(node.target) if node.op == "call_function" else None
        if twin is None:
            continue
        computation = node.meta.get(_COMPUTED_FROM)
        if same and computation is not None:
            node.meta[_COMPUTED_FROM] = (twin, computation[1])
        node.target = twin


_OVERRIDABLE = (
    *("call_operator", "call_sym", "call_cond", "call_map", "call_getitem", "call_submodule"),
    *("call_delegate", "output", "placeholder", "inputs", "on_attr"),
)


def _only_traces(kind: type, base: type) -> bool:
    """Whether a pass overrides nothing of tracing: it has made its changes before, or makes none."""
    return all(getattr(kind, name, None) is getattr(base, name, None) for name in _OVERRIDABLE)


def _has_submodules(module: fx.GraphModule) -> bool:
    return any(isinstance(child, fx.GraphModule) for child in module.children())


def _run_incrementally(self: Any, module: fx.GraphModule, base: type) -> PassResult | None:
    """The result of a pass without tracing, ``None`` if the pass must trace."""
    kind = type(self)
    twin_of, concerned, rewrite = TWINS.get(kind), concerns().get(kind), REWRITES.get(kind)
    in_tables = twin_of is not None or concerned is not None
    if not in_tables and not _only_traces(kind, base):
        return None
    # a pass that only traces is not in the tables, and its own code runs
    if not FINGERPRINTS.accept(kind if in_tables else base):
        return None
    if _has_submodules(module):
        return None
    delegates = any(node.target is executorch_call_delegate for node in module.graph.nodes)
    # a pass without changes needs no copy, except with delegates: ExecuTorch removes them from its input
    result = module if twin_of is None and not delegates else copy_graph(module)
    try:
        refresh(result)
        if concerned is not None and any(_operators(result, concerned)):
            if rewrite is None:
                return None
            result = copy_graph(module) if result is module else result
            _rewrite(result, list(_operators(result, concerned)), rewrite)
        if twin_of is not None:
            _retarget(result, twin_of, same=kind is OpReplacePass)
            refresh(result)
    except MustTrace:
        return None
    result.recompile()
    return PassResult(result, True)


def _operators(module: fx.GraphModule, concerned: Callable[[fx.Node], bool]) -> Iterator[fx.Node]:
    for node in module.graph.nodes:
        if isinstance(node.target, (OpOverload, EdgeOpOverload)) and concerned(node):
            yield node


def _rewrite(module: fx.GraphModule, nodes: list[fx.Node], rewrite: Rewrite) -> None:
    for node in nodes:
        with module.graph.inserting_before(node):
            rewrite(module, node)
    refresh(module)


# base classes of passes: a pass that overrides nothing of its base only traces
BASES = (ExportPass, _ExportPassBaseDeprecatedDoNotUse)


def _call(base: type) -> Callable[..., PassResult]:
    def call(original: Callable[..., PassResult], self: Any, graph_module: fx.GraphModule) -> PassResult:
        result = _run_incrementally(self, graph_module, base)
        return original(self, graph_module) if result is None else result

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
    """While entered, in this thread, passes trace only the nodes that they change."""
    return replace_all(*REPLACEMENTS)
