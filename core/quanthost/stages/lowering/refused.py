"""Explains why the toolchain refused a graph: the operator, its line in the model, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import fx

from quanthost.errors import LoweringError
from quanthost.graph.operators import base_name, control_flow, operator_name
from quanthost.graph.provenance import NodeInfo
from quanthost.graph.rewrite import origin
from quanthost.graph.view import tensor_meta
from quanthost.toolchain.error_text import chain_text

__all__ = ["refuse_loops", "refused"]

# what ExecuTorch's emitter has instructions for (exir/emit/_emitter.py)
_EMITTED = frozenset({"cond", "map_impl", "scan"})
_EXECUTED = re.compile(r"While executing %(\w+)")
_DATA_DEPENDENT = re.compile(
    "data-dependent|upper bound for symbolic expression|graph_output_allocated not set"
    "|does not fit in 64 bits|bad number .* for type int32"
)
_UNSUPPORTED_DTYPE = re.compile(r"torch\.uint(?:16|32|64)")
# torch checks the results of these with an operator that has an effect, which ExecuTorch cannot lower
_EFFECT = "'WithEffects' object"
_CHECKED = ("linalg_", "cholesky", "inverse", "lu_")


def refused(error: BaseException, graph: fx.Graph, nodes: Sequence[NodeInfo], plugin: str) -> LoweringError:
    """The error for the app developer, to be raised from ``error``.

    ``graph`` is the one that was exported, ``nodes`` are those of the captured model.
    """
    text = chain_text(error)
    is_data_dependent = _DATA_DEPENDENT.search(text) is not None
    node = None if is_data_dependent else _culprit(error, text, graph)
    if node is None:
        # what depends on data is the first suspect where the toolchain names nothing
        node = _depending_on_data(graph)
        is_data_dependent = is_data_dependent or node is not None
    operator = "" if node is None else f"{operator_name(node)}: "
    if is_data_dependent:
        needed = "sizes that follow from the sizes of the inputs"
        remedy = "pad to a fixed size and mask, or compute this part outside of the model"
    else:
        needed = "a graph that torch.export and ExecuTorch accept"
        remedy = "report the error" if node is None else "keep this operator in float, and report the error"
    return LoweringError(
        f"the toolchain refused the graph: {operator}{text}", needed=needed, stage="lower", plugin=plugin,
        remedy=remedy, **_place(node, nodes),
    )  # fmt: skip


def refuse_loops(graph: fx.Graph, nodes: Sequence[NodeInfo], plugin: str) -> None:
    """Refuse control flow that programs of ExecuTorch do not have.

    Raises:
        LoweringError: the graph has such an operator.
    """
    for node in graph.nodes:
        name = control_flow(node)
        if name is None or name in _EMITTED:
            continue
        raise LoweringError(
            f"the control flow {name}", stage="lower", plugin=plugin,
            needed="torch.cond, or the scan and map of torch._higher_order_ops",
            remedy="unroll the loop if its length is known, use scan, or loop outside of the model",
            **_place(node, nodes),
        )  # fmt: skip


def _place(node: fx.Node | None, nodes: Sequence[NodeInfo]) -> dict[str, str | None]:
    """Name and line of the captured node that a node comes from, as fields of an error."""
    name = None if node is None else origin(node)
    info = next((each for each in nodes if each.name == name), None)
    return {} if info is None else {"node": info.name, "where": info.source}


def _culprit(error: BaseException, text: str, graph: fx.Graph) -> fx.Node | None:
    dtype = _UNSUPPORTED_DTYPE.search(text)
    if dtype is not None:
        return next((n for n in graph.nodes if str(getattr(tensor_meta(n), "dtype", "")) == dtype[0]), None)
    if _EFFECT in text:
        return next((node for node in graph.nodes if base_name(node).startswith(_CHECKED)), None)
    return _executed(error, graph)


def _executed(error: BaseException, graph: fx.Graph) -> fx.Node | None:
    named = _EXECUTED.search(str(error))
    return None if named is None else next((n for n in graph.nodes if n.name == named[1]), None)


def _depending_on_data(graph: fx.Graph) -> fx.Node | None:
    """The first operator that makes a size or a number from data."""
    return next((node for node in graph.nodes if node.meta.get("unbacked_bindings")), None)
