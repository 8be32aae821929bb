"""``run_decompositions`` node by node: traces an operator once for each kind of its operands.

``ExportedProgram.run_decompositions`` traces the whole graph again. If each operator is functional and each
shape is known, the operators of a table can be replaced one by one, and one expansion serves all operators
whose operands have the same shapes and dtypes. Any other program is left to torch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
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
from quanthost.toolchain.fast.accepted_code import FINGERPRINTS
from quanthost.toolchain.fast.retrace import copy_graph
from quanthost.toolchain.replacement import Replacement, replace_all

__all__ = ["decompose", "has_known_shapes", "is_functional", "local_decompositions"]

Table = Mapping[Any, Callable[..., Any]]


class _NeedsFullTrace(Exception):
    """The whole graph must be traced."""


def _batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float,
    cudnn_enabled: bool,
) -> Any:  # fmt: skip
    if training:
        raise _NeedsFullTrace
    return torch.ops.aten._native_batch_norm_legit_no_training.default(
        x, weight, bias, mean, variance, momentum, eps
    )[0]


# traced alone, batch norm becomes an operator that is not functional
_SUBSTITUTES: Table = {torch.ops.aten.batch_norm.default: _batch_norm}


def decompose(program: ExportedProgram, table: Table) -> ExportedProgram | None:
    """Replace the operators of a table; return ``None`` if the whole graph must be traced.

    A program without such operators is returned unchanged.
    """
    if not _is_plain(program):
        return None
    if not any(_is_decomposed(node, table) or _is_assertion(node) for node in program.graph.nodes):
        return program
    module = copy_graph(program.graph_module)
    expand = _Expansion(table)
    try:
        for node in list(module.graph.nodes):
            if _is_assertion(node):
                module.graph.erase_node(node)
            elif _is_decomposed(node, table):
                expand.replace(node)
    except _NeedsFullTrace:
        return None
    module.graph.eliminate_dead_code()
    module.recompile()
    return ExportedProgram(
        root=module, graph=module.graph, state_dict=program.state_dict, constants=program.constants,
        graph_signature=_get_updated_graph_signature(program.graph_signature, module),
        range_constraints=program.range_constraints, module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
    )  # fmt: skip


def _is_decomposed(node: fx.Node, table: Table) -> bool:
    """Whether the table has the operator, or torch never preserves it: a composite that may give a view."""
    if node.op != "call_function" or not isinstance(node.target, OpOverload):
        return False
    return node.target in table or (_is_composite(node.target) and not _is_preservable_cia_op(node.target))


def _is_assertion(node: fx.Node) -> bool:
    """Whether a node asserts a dtype from tracing, which holds as long as all shapes are known.

    ExecuTorch removes these nodes too, after its first decomposition.
    """
    return bool(node.target is torch.ops.aten._assert_tensor_metadata.default)


def _is_plain(program: ExportedProgram) -> bool:
    """Whether all operators are functional, all shapes known, and a call leaves no state."""
    signature = program.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate or signature.backward_signature:
        return False
    return all(_is_plain_node(node) for node in program.graph.nodes)


def is_functional(node: fx.Node) -> bool:
    """Whether a call changes none of its operands; ``getitem`` counts."""
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
    """Whether a node's result, one tensor or several, has no symbolic size."""
    return all(map(_has_no_symbols, pytree.tree_leaves(value)))


def _has_no_symbols(leaf: Any) -> bool:
    sizes = (*leaf.shape, *leaf.stride()) if isinstance(leaf, torch.Tensor) else (leaf,)
    return not any(isinstance(size, (torch.SymInt, torch.SymFloat, torch.SymBool)) for size in sizes)


class _Expansion:
    """Replaces operators by their decompositions, with a cache by operator and operands."""

    def __init__(self, table: Table) -> None:
        self._table = {op: how for op, how in table.items() if not _is_composite(op)}
        self._expansions: dict[Any, fx.GraphModule] = {}

    def replace(self, node: fx.Node) -> None:
        """Replace an operator by its decomposition."""
        operands = [n for n in pytree.tree_leaves((node.args, node.kwargs)) if isinstance(n, fx.Node)]
        expansion = self._expand(node, operands)
        placeholders = [n for n in expansion.graph.nodes if n.op == "placeholder"]
        copies = dict(zip(placeholders, operands))
        graph = node.graph
        meta = {key: value for key, value in node.meta.items() if key != "val"}
        with graph.inserting_before(node):
            for each in expansion.graph.nodes:
                if each.op == "call_function":
                    copies[each] = graph.node_copy(each, lambda n: copies[n])
                    copies[each].meta = {
                        **meta,
                        "val": pytree.tree_map_only(FakeTensor, _new_fake, each.meta["val"]),
                    }
        self._replace_uses(node, expansion.graph.output_node().args[0], copies)

    def _replace_uses(self, node: fx.Node, results: Any, copies: Mapping[fx.Node, fx.Node]) -> None:
        if isinstance(results, fx.Node):
            node.replace_all_uses_with(copies[results])
        else:
            for user in list(node.users):
                if user.target is not operator.getitem:
                    raise _NeedsFullTrace
                user.replace_all_uses_with(copies[results[user.args[1]]])
                node.graph.erase_node(user)
        node.graph.erase_node(node)

    def _expand(self, node: fx.Node, operands: list[fx.Node]) -> fx.GraphModule:
        leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
        key = (node.target, spec, *map(_operand_key, leaves))
        if key not in self._expansions:
            self._expansions[key] = self._trace(node, leaves, spec, operands)
        return self._expansions[key]

    def _trace(
        self, node: fx.Node, leaves: list[Any], spec: pytree.TreeSpec, operands: list[fx.Node]
    ) -> fx.GraphModule:
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, fx.Node)]
        target: Any = _SUBSTITUTES.get(node.target, node.target)

        def run(*tensors: Any) -> Any:
            filled = list(leaves)
            for place, tensor in zip(places, tensors):
                filled[place] = tensor
            args, kwargs = pytree.tree_unflatten(filled, spec)
            return target(*args, **kwargs)

        fakes = [source.meta["val"] for source in operands]
        mode = next((value.fake_mode for value in fakes if isinstance(value, FakeTensor)), None)
        if mode is None or not all(isinstance(value, FakeTensor) for value in fakes):
            raise _NeedsFullTrace
        with mode, torch.no_grad(), _ignore_backend_decomps():
            traced = make_fx(
                torch.func.functionalize(run, remove="mutations"), decomposition_table=self._table
            )(*fakes)
        traced.graph.eliminate_dead_code()
        for each in traced.graph.nodes:
            if each.op not in ("placeholder", "call_function", "output") or _adds_products(node.target, each):
                raise _NeedsFullTrace
            # a linear layer of one vector squeezes its result in place
            if each.op == "call_function" and not (is_functional(each) and _is_final(node.target, each)):
                raise _NeedsFullTrace
        return traced


def _is_final(target: OpOverload, part: fx.Node) -> bool:
    """Whether torch would leave a part of an operator as it is.

    A table may have its own way with composites and with what they consist of, as for the interpolation of
    pictures and for norms over each picture; what is no operator of core ATen is left to torch.
    """
    return not _is_composite(target) or part.target is operator.getitem or torch.Tag.core in part.target.tags


def _adds_products(target: OpOverload, part: fx.Node) -> bool:
    """Whether an operator that sums no products decomposes to one that does.

    A table may preserve that one: only torch, which uses the whole table, decides on those.
    """
    return not _sums_products(target) and _sums_products(part.target)


def _sums_products(target: Any) -> bool:
    if not isinstance(target, OpOverload):
        return False
    return facts_of(target._schema.name.split("::")[1]).factors is not None


def _is_composite(op: Any) -> bool:
    return isinstance(op, OpOverload) and torch._C._dispatch_has_kernel_for_dispatch_key(
        op.name(), "CompositeImplicitAutograd"
    )


def _operand_key(leaf: Any) -> Any:
    """The properties of an argument that determine the decomposition."""
    if not isinstance(leaf, fx.Node):
        return type(leaf), leaf
    value = leaf.meta["val"]
    if not isinstance(value, torch.Tensor):
        raise _NeedsFullTrace
    return value.dtype, tuple(value.shape), value.stride(), value.device


def _new_fake(value: FakeTensor) -> Any:
    """A new fake tensor for each node: shared memory would look like a view."""
    with value.fake_mode:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)


def _run_decompositions(
    original: Callable[..., ExportedProgram],
    program: ExportedProgram,
    decomp_table: Any = None,
    *args: Any,
    **kwargs: Any,
) -> ExportedProgram:
    plain = decomp_table is not None and not args and not kwargs
    result = decompose(program, dict(decomp_table)) if plain else None
    return original(program, decomp_table, *args, **kwargs) if result is None else result


REPLACEMENTS = (
    Replacement(
        "torch.export.exported_program:ExportedProgram.run_decompositions", _run_decompositions, FINGERPRINTS
    ),
)


def local_decompositions() -> AbstractContextManager[None]:
    """While entered, in this thread, programs are decomposed operator by operator if possible."""
    return replace_all(*REPLACEMENTS)
