"""Runs a graph over several batches at once, node by node, so that a visitor sees all batches of a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from quanthost.graph.rewrite import origin
from quanthost.graph.view import attribute

__all__ = ["node_that_failed", "walk"]

_NOTE = "while computing the node "

Visit = Callable[[fx.Node, list[Any]], list[Any]]
# the result of a node that calls a module, for its arguments
Called = Callable[[fx.Node, tuple[Any, ...]], Any]


def _first_argument(node: fx.Node, args: tuple[Any, ...]) -> Any:
    return args[0]


def walk(
    graph_module: fx.GraphModule,
    batches: Sequence[Sequence[Any]],
    visit: Visit,
    *,
    called: Called = _first_argument,
) -> list[list[Any]]:
    """The flat outputs for each batch of flat inputs.

    ``visit`` sees each call of a function or module with its results for all batches, and returns the
    results that its users read. ``called`` replaces the calls of modules (observers); by default they pass
    their first argument on. A result is freed after its last user, so that memory holds only the live
    tensors of all batches.
    """
    numbers = range(len(batches))
    values: dict[fx.Node, list[Any]] = {}
    last_user = {source: node for node in graph_module.graph.nodes for source in node.all_input_nodes}
    inputs = iter(range(len(batches[0])) if batches else ())
    # computed from constants alone, such as dequantized weights: the same for all batches
    fixed: set[fx.Node] = set()
    for node in graph_module.graph.nodes:
        if node.op == "output":
            break
        if node.op == "placeholder":
            position = next(inputs)
            values[node] = [batch[position] for batch in batches]
        elif node.op == "get_attr":
            values[node] = [attribute(graph_module, node)] * len(batches)
            fixed.add(node)
        else:
            if node.all_input_nodes and fixed.issuperset(node.all_input_nodes):
                fixed.add(node)
                results = [_call(node, values, number, called) for number in numbers[:1]] * len(batches)
            else:
                results = [_call(node, values, number, called) for number in numbers]
            values[node] = visit(node, results)
        for source in node.all_input_nodes:
            if last_user[source] is node:
                values.pop(source, None)
    leaves = pytree.tree_leaves(graph_module.graph.output_node().args[0])
    return [[values[x][i] if isinstance(x, fx.Node) else x for x in leaves] for i in numbers]


def _call(node: fx.Node, values: dict[fx.Node, list[Any]], number: int, called: Called) -> Any:
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: values[source][number])
    if node.op == "call_module":
        return called(node, args)
    assert callable(node.target)
    try:
        return node.target(*args, **kwargs)
    except Exception as error:
        error.add_note(f"{_NOTE}{origin(node) or node.name}")
        raise


def node_that_failed(error: BaseException) -> str | None:
    """The captured node whose call raised the error in ``walk``."""
    notes = getattr(error, "__notes__", ())
    return next((note.removeprefix(_NOTE) for note in notes if note.startswith(_NOTE)), None)
