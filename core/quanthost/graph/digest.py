"""The stable text of a captured program, and the digest over it, its weights and its signature."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from quanthost.graph.operators import overload
from quanthost.graph.signature import Signature

__all__ = ["float_digest", "graph_text", "model_digest", "node_line", "stable_text"]


def model_digest(exported: ExportedProgram, signature: Signature) -> str:
    """``sha256:`` and 64 hexadecimal digits: a digest of the program's operators, weights and inputs.

    Equal for the same model captured in another process or on another machine; file names, module names
    and object identities are not part of it.
    """
    total = hashlib.sha256()
    for part in (stable_text(exported), json.dumps(signature.leaves_to_data(), sort_keys=True)):
        total.update(hashlib.sha256(part.encode()).digest())
    for name, value in sorted({**exported.state_dict, **exported.constants}.items()):
        total.update(f"{name}\n".encode())
        _add_value(total, value)
    return "sha256:" + total.hexdigest()


def _add_value(total: Any, value: Any) -> None:
    if not isinstance(value, torch.Tensor):
        # an object of a custom class has no portable bytes
        total.update(f"{type(value).__qualname__}\n".encode())
        return
    dense = value.detach().cpu().contiguous()
    total.update(f"{dense.dtype} {tuple(dense.shape)}\n".encode())
    total.update(memoryview(dense.reshape(-1).view(torch.uint8).numpy()))


def stable_text(exported: ExportedProgram) -> str:
    """The graph line by line: ``name = operator(arguments)``; inputs and outputs with what they stand for."""
    signature = exported.graph_signature
    inputs = (f"{s.arg.name}: {s.kind.name} {s.target or ''}".rstrip() for s in signature.input_specs)
    outputs = (f"{s.kind.name} {s.target or ''}".rstrip() for s in signature.output_specs)
    return "\n".join((*inputs, *_graph_lines(exported.graph_module), *outputs))


def graph_text(graph_module: fx.GraphModule) -> str:
    """A graph of any stage line by line, as ``stable_text`` has it."""
    return "\n".join(_graph_lines(graph_module))


def _graph_lines(graph_module: fx.GraphModule, indent: str = "") -> Iterator[str]:
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            inner = getattr(graph_module, str(node.target), None)
            if isinstance(inner, fx.GraphModule):
                yield f"{indent}{node.name}:"
                yield from _graph_lines(inner, f"{indent}  ")
                continue
        yield indent + node_line(node)


def float_digest(observed: fx.GraphModule) -> str:
    """``sha256:`` and 64 hexadecimal digits over an observed graph as if it had no observers.

    Equal if the same operators compute the same tensors, quantized or not.
    """
    past: dict[fx.Node, fx.Node] = {}
    lines = []
    for node in observed.graph.nodes:
        if node.op == "call_module":
            source = node.args[0]
            past[node] = past.get(source, source)
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: past.get(source, source))
        lines.append(_line(node, args, kwargs))
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def node_line(node: fx.Node) -> str:
    """``"name = operator(arguments)"``, the same in every process."""
    return _line(node, node.args, node.kwargs)


def _line(node: fx.Node, args: Any, kwargs: Any) -> str:
    operands = [_text(value) for value in args]
    operands += [f"{key}={_text(value)}" for key, value in sorted(kwargs.items())]
    return f"{node.name} = {_callee(node)}({', '.join(operands)})"


def _callee(node: fx.Node) -> str:
    if node.op != "call_function":
        return f"{node.op} {node.target}"
    op = overload(node)
    if op is not None:
        return str(op)
    return f"{getattr(node.target, '__module__', '')}.{getattr(node.target, '__name__', '')}"


def _text(value: Any) -> str:
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, slice):
        return f"slice({_text(value.start)}, {_text(value.stop)}, {_text(value.step)})"
    plain = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout)
    if isinstance(value, (*plain, torch.memory_format)):
        return repr(value)
    # the repr of any other object may contain its address
    return f"<{type(value).__qualname__}>"
