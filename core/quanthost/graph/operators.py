"""Operators by their aten name and arguments by their schema name, the same for captured and edge graphs."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import fx
from torch.library import OpOverload

__all__ = [
    "argument",
    "arguments",
    "base_name",
    "control_flow",
    "draws",
    "functional_name",
    "name_matches",
    "omit_absent",
    "operator_name",
]

# Functional forms of views that edge programs use; their meaning is the view's.
_VIEWS = frozenset(
    (
        *("alias", "as_strided", "detach", "diagonal", "expand", "narrow", "permute", "select", "slice"),
        *("split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"),
    )
)


def overload(node: fx.Node) -> OpOverload | None:
    """The aten overload that a node calls; for an edge operator, the corresponding aten one."""
    if isinstance(node.target, OpOverload):
        return node.target
    target = getattr(node.target, "_op", None)
    return target if isinstance(target, OpOverload) else None


def operator_name(node: fx.Node) -> str:
    """``"aten.conv2d.default"``; a ``_copy`` form of a view has the view's name.

    What is no aten operator has the name of its Python function (``"getitem"``).
    """
    op = overload(node)
    return str(getattr(node.target, "__name__", node.target)) if op is None else _overload_name(op)


@functools.cache
def _overload_name(op: OpOverload) -> str:
    namespace, base = op._schema.name.split("::")
    if base.endswith("_copy") and base.removesuffix("_copy") in _VIEWS:
        base = base.removesuffix("_copy")
    return f"{namespace}.{base}.{op._schema.overload_name or 'default'}"


def base_name(node: fx.Node) -> str:
    """``"conv2d"``: the operator without namespace and overload, ``""`` if it is no aten operator."""
    if node.op != "call_function":
        return ""
    parts = operator_name(node).split(".")
    return parts[1] if len(parts) == 3 and parts[0] == "aten" else ""


def control_flow(node: fx.Node) -> str | None:
    """``"cond"``, ``"scan"``, …: the operator that runs graphs of its own; ``None`` for any other node."""
    target = node.target
    return str(target.__name__) if getattr(target, "namespace", None) == "higher_order" else None


def functional_name(name: str) -> str:
    """The name of an in-place operator's functional twin: ``aten.relu_.default`` → ``aten.relu.default``."""
    parts = name.split(".")
    if len(parts) > 1 and parts[1].endswith("_") and not parts[1].endswith("__"):
        parts[1] = parts[1].removesuffix("_")
    return ".".join(parts)


@functools.cache
def name_matches(pattern: str, name: str) -> bool:
    """Whether a name is meant by a pattern that may leave out namespace (aten) and overload (any)."""
    if name == pattern or ("." in pattern and name.startswith(f"{pattern}.")):
        return True
    return name == f"aten.{pattern}" or name.startswith(f"aten.{pattern}.")


def draws(node: fx.Node) -> bool:
    """Whether an operator draws random numbers as it is called: not a dropout that is switched off."""
    op = overload(node)
    if op is None or torch.Tag.nondeterministic_seeded not in op.tags:
        return False
    values = arguments(node)
    is_off = values.get("train", values.get("training")) is False or values.get("dropout_p") == 0.0
    return not is_off


def arguments(node: fx.Node) -> dict[str, Any]:
    """All arguments by schema name, including the defaults of omitted ones."""
    op = overload(node)
    if op is None:
        return {str(i): value for i, value in enumerate(node.args)}
    values, count = node.args, len(node.args)
    named: dict[str, Any] = {}
    for name, place, default in _parameters(op):
        named[name] = values[place] if place < count else node.kwargs.get(name, default)
    return named


@functools.cache
def _parameters(op: OpOverload) -> tuple[tuple[str, int, Any], ...]:
    """Name, position (beyond all others for keyword-only ones) and default of each parameter."""
    beyond = len(op._schema.arguments)
    return tuple(
        (each.name, beyond if each.kwarg_only else place,
         each.default_value if each.has_default_value() else None)
        for place, each in enumerate(op._schema.arguments)
    )  # fmt: skip


def argument(node: fx.Node, name: str, default: Any = None) -> Any:
    """One argument by schema name; ``default`` where the operator has no such argument."""
    return arguments(node).get(name, default)


def omit_absent(graph: fx.Graph) -> None:
    """Remove trailing arguments that are ``None``, as a bias that a layer does not have.

    Delegates of ExecuTorch count arguments: a ``None`` that is written out is read as a node.
    """
    for node in graph.nodes:
        op = overload(node)
        if op is None or not node.args or node.args[-1] is not None:
            continue
        args = list(node.args)
        while args and args[-1] is None and op._schema.arguments[len(args) - 1].has_default_value():
            args.pop()
        node.args = tuple(args)
