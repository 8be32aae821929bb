"""``run_decompositions`` node by node: an operator is traced once for each kind of operands that it has.

``ExportedProgram.run_decompositions`` traces the whole graph anew. Where each operator is functional and each
shape is known, the operators that a table takes apart can be replaced one by one, and what is made of one of
them serves all that have operands of the same shapes and dtypes. Anything else is left to torch.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from executorch.exir.program._program import _get_updated_graph_signature
from torch import fx
from torch._export.utils import _is_preservable_cia_op
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export._trace import _ignore_backend_decomps
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from quanthost.graph.operator_facts import facts_of
from quanthost.toolchain.fast.patching import Patch
from quanthost.toolchain.fast.retrace import copy_graph

__all__ = ["decomposed", "has_known_shapes", "is_functional", "local_decompositions"]

Table = Mapping[Any, Callable[..., Any]]


class _Whole(Exception):
    """Only the whole graph can be traced."""


def _batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float,
    cudnn_enabled: bool,
) -> Any:  # fmt: skip
    if training:
        raise _Whole
    return torch.ops.aten._native_batch_norm_legit_no_training.default(
        x, weight, bias, mean, variance, momentum, eps
    )[0]


# traced by itself, it becomes an operator that is not functional
_INSTEAD: Table = {torch.ops.aten.batch_norm.default: _batch_norm}


def decomposed(program: ExportedProgram, table: Table) -> ExportedProgram | None:
    """The program without the operators of a table, ``None`` where the whole has to be traced.

    The same program where it has none of them.
    """
    if not _is_plain(program):
        return None
    if not any(_is_taken_apart(node, table) or _is_assertion(node) for node in program.graph.nodes):
        return program
    module = copy_graph(program.graph_module)
    expand = _Expansion(table)
    try:
        for node in list(module.graph.nodes):
            if _is_assertion(node):
                module.graph.erase_node(node)
            elif _is_taken_apart(node, table):
                expand.replace(node)
    except _Whole:
        return None
    module.graph.eliminate_dead_code()
    module.recompile()
    return ExportedProgram(
        root=module, graph=module.graph, state_dict=program.state_dict, constants=program.constants,
        graph_signature=_get_updated_graph_signature(program.graph_signature, module),
        range_constraints=program.range_constraints, module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
    )  # fmt: skip


def _is_taken_apart(node: fx.Node, table: Table) -> bool:
    """By the table, or because torch keeps no such operator whole: composites that may give a view."""
    if node.op != "call_function" or not isinstance(node.target, OpOverload):
        return False
    return node.target in table or (_is_composite(node.target) and not _is_preservable_cia_op(node.target))


def _is_assertion(node: fx.Node) -> bool:
    """Whether it states a dtype that tracing saw, which holds as long as all forms are known.

    ExecuTorch takes these away as well, after its first decomposition.
    """
    return bool(node.target is torch.ops.aten._assert_tensor_metadata.default)


def _is_plain(program: ExportedProgram) -> bool:
    """Whether all operators are functional, all shapes known, and nothing outlives the call."""
    signature = program.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate or signature.backward_signature:
        return False
    return all(_is_plain_node(node) for node in program.graph.nodes)


def is_functional(node: fx.Node) -> bool:
    """Whether a call changes none of its operands; taking one of several results counts."""
    if isinstance(node.target, OpOverload):
        return not node.target._schema.is_mutable
    return node.target is operator.getitem


def _is_plain_node(node: fx.Node) -> bool:
    if _is_assertion(node):
        return True
    if node.op == "call_function":
        if not is_functional(node):
            return False
    elif node.op not in ("placeholder", "output"):
        return False
    return node.op == "output" or ("val" in node.meta and has_known_shapes(node.meta["val"]))


def has_known_shapes(value: Any) -> bool:
    """Whether nothing of a node's result, a tensor or several, is a symbol."""
    return all(map(_is_known, pytree.tree_leaves(value)))


def _is_known(leaf: Any) -> bool:
    sizes = (*leaf.shape, *leaf.stride()) if isinstance(leaf, torch.Tensor) else (leaf,)
    return not any(isinstance(size, (torch.SymInt, torch.SymFloat, torch.SymBool)) for size in sizes)


class _Expansion:
    """What a table makes of operators, by operator and operands."""

    def __init__(self, table: Table) -> None:
        self._table = {op: how for op, how in table.items() if not _is_composite(op)}
        self._known: dict[Any, fx.GraphModule] = {}

    def replace(self, node: fx.Node) -> None:
        """Put what an operator is made of in its place."""
        operands = [n for n in pytree.tree_leaves((node.args, node.kwargs)) if isinstance(n, fx.Node)]
        made = self._made(node, operands)
        inside = [n for n in made.graph.nodes if n.op == "placeholder"]
        copies = dict(zip(inside, operands))
        graph = node.graph
        kept = {key: value for key, value in node.meta.items() if key != "val"}
        with graph.inserting_before(node):
            for each in made.graph.nodes:
                if each.op == "call_function":
                    copies[each] = graph.node_copy(each, lambda n: copies[n])
                    copies[each].meta = {
                        **kept,
                        "val": pytree.tree_map_only(FakeTensor, _fresh, each.meta["val"]),
                    }
        self._exchange(node, made.graph.output_node().args[0], copies)

    def _exchange(self, node: fx.Node, results: Any, copies: Mapping[fx.Node, fx.Node]) -> None:
        if isinstance(results, fx.Node):
            node.replace_all_uses_with(copies[results])
        else:
            for user in list(node.users):
                if user.target is not operator.getitem:
                    raise _Whole
                user.replace_all_uses_with(copies[results[user.args[1]]])
                node.graph.erase_node(user)
        node.graph.erase_node(node)

    def _made(self, node: fx.Node, operands: list[fx.Node]) -> fx.GraphModule:
        leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
        key = (node.target, spec, *map(_kind, leaves))
        if key not in self._known:
            self._known[key] = self._trace(node, leaves, spec, operands)
        return self._known[key]

    def _trace(
        self, node: fx.Node, leaves: list[Any], spec: pytree.TreeSpec, operands: list[fx.Node]
    ) -> fx.GraphModule:
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, fx.Node)]
        target: Any = _INSTEAD.get(node.target, node.target)

        def run(*tensors: Any) -> Any:
            filled = list(leaves)
            for place, tensor in zip(places, tensors):
                filled[place] = tensor
            args, kwargs = pytree.tree_unflatten(filled, spec)
            return target(*args, **kwargs)

        given = [source.meta["val"] for source in operands]
        mode = next((value.fake_mode for value in given if isinstance(value, FakeTensor)), None)
        if mode is None or not all(isinstance(value, FakeTensor) for value in given):
            raise _Whole
        with mode, torch.no_grad(), _ignore_backend_decomps():
            made = make_fx(
                torch.func.functionalize(run, remove="mutations"), decomposition_table=self._table
            )(*given)
        made.graph.eliminate_dead_code()
        for each in made.graph.nodes:
            if each.op not in ("placeholder", "call_function", "output") or _hides_a_sum(node.target, each):
                raise _Whole
            # a linear layer of one vector squeezes its result in place
            if each.op == "call_function" and not is_functional(each):
                raise _Whole
        return made


def _hides_a_sum(target: OpOverload, made: fx.Node) -> bool:
    """Whether an operator that sums no products itself is made of one that does.

    A table may keep that one whole: only torch, which sees the whole table, decides on those.
    """
    return not _sums_products(target) and _sums_products(made.target)


def _sums_products(target: Any) -> bool:
    if not isinstance(target, OpOverload):
        return False
    return facts_of(target._schema.name.split("::")[1]).factors is not None


def _is_composite(op: Any) -> bool:
    return isinstance(op, OpOverload) and torch._C._dispatch_has_kernel_for_dispatch_key(
        op.name(), "CompositeImplicitAutograd"
    )


def _kind(leaf: Any) -> Any:
    """What of an argument decides on the result's operators."""
    if not isinstance(leaf, fx.Node):
        return type(leaf), leaf
    value = leaf.meta["val"]
    if not isinstance(value, torch.Tensor):
        raise _Whole
    return value.dtype, tuple(value.shape), value.stride(), value.device


def _fresh(value: FakeTensor) -> Any:
    """A tensor of its own for each place; one memory in two places would look like a view."""
    with value.fake_mode:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)


def _run_decompositions(
    traced: Callable[..., ExportedProgram],
    program: ExportedProgram,
    decomp_table: Any = None,
    *args: Any,
    **kwargs: Any,
) -> ExportedProgram:
    plain = decomp_table is not None and not args and not kwargs
    made = decomposed(program, dict(decomp_table)) if plain else None
    return traced(program, decomp_table, *args, **kwargs) if made is None else made


_PATCH = Patch(ExportedProgram, "run_decompositions", _run_decompositions)


@contextlib.contextmanager
def local_decompositions() -> Iterator[None]:
    """While entered, in this thread, programs are decomposed operator by operator where that can be."""
    with _PATCH.entered():
        yield
