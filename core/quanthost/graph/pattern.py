"""Patterns over aten operators with named captures, and the attempt to match one at a node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import attrs
import torch
from torch import fx

from quanthost.errors import TableError
from quanthost.graph.operators import arguments, name_matches, operator_name
from quanthost.graph.view import is_dequantize

__all__ = ["Binding", "Mismatch", "Op", "bind", "op"]


@attrs.frozen
class Op:
    """One operator of a pattern: its aten names and its operands.

    ``operands`` maps schema argument names (alternatives separated by ``|``) to a capture name, a
    nested ``Op`` or a number. A capture name may end in ``?`` (may be absent) or ``*`` (a list of
    tensors). With ``commutative`` the first two operands may be in either order.
    """

    names: tuple[str, ...]
    operands: tuple[tuple[str, str | Op | float], ...] = ()
    commutative: bool = False

    def __attrs_post_init__(self) -> None:
        if self.commutative and len(self.operands) < 2:
            raise TableError(
                f"{self} is commutative", needed="two operands or more", where=f"pattern {self}",
                remedy="name both operands, or leave commutative out", value=self,
            )  # fmt: skip

    @property
    def size(self) -> int:
        """Number of operators of the pattern."""
        return 1 + sum(part.size for _, part in self.operands if isinstance(part, Op))

    def captures(self) -> tuple[str, ...]:
        """Names of the captures, without marks, in order of first appearance."""
        captures: dict[str, None] = {}
        for _, part in self.operands:
            names = part.captures() if isinstance(part, Op) else (part,) if isinstance(part, str) else ()
            captures.update(dict.fromkeys(name.rstrip("?*") for name in names))
        return tuple(captures)

    def __str__(self) -> str:
        inner = ", ".join(str(part) for _, part in self.operands)
        return f"{'|'.join(self.names)}({inner})"


_Operand: TypeAlias = str | Op | float


def op(*names: str, commutative: bool = False, **operands: _Operand) -> Op:
    """An operator pattern: ``op("conv2d", input="input", weight="weight", bias="bias?")``.

    ``__or__`` stands for the ``|`` between alternatives: ``op("relu", "clamp", self__or__input="input")``.
    """
    parts = tuple((key.replace("__or__", "|"), part) for key, part in operands.items())
    return Op(names=names, operands=parts, commutative=commutative)


@attrs.frozen(kw_only=True)
class Binding:
    """A pattern that holds: its operators' nodes, the output's last, and what each capture is."""

    nodes: tuple[fx.Node, ...]
    captures: dict[str, Any]


@attrs.frozen(kw_only=True)
class Mismatch:
    """The operator at which a pattern stopped, and what was found there or as its operand."""

    depth: int
    node: str
    found: str
    expected: str


def bind(pattern: Op, node: fx.Node) -> Binding | Mismatch:
    """Match the pattern with ``node`` as its output. Pure: the graph does not change.

    Inner operators must have no other use, since a fused kernel keeps no intermediate result. A capture
    that appears twice must be the same node both times. If the pattern does not match, the result is the
    deepest mismatch over all orders of commutative operands.
    """
    stopped: list[Mismatch] = []
    binding = next(_bind_operator(pattern, node, {}, 0, stopped), None)
    return binding if binding is not None else max(stopped, key=lambda mismatch: mismatch.depth)


def _bind_operator(
    pattern: Op, node: fx.Node, captures: dict[str, Any], depth: int, stopped: list[Mismatch]
) -> Iterator[Binding]:
    """Each way in which the pattern matches at a node; ``stopped`` collects where attempts ended."""
    name = operator_name(node) if node.op == "call_function" else node.op
    if node.op != "call_function" or not any(name_matches(allowed, name) for allowed in pattern.names):
        stopped.append(Mismatch(depth=depth, node=node.name, found=name, expected="|".join(pattern.names)))
        return
    values = arguments(node)
    for operands in _orders(pattern):
        pairs = [
            (part, next((values[name] for name in key.split("|") if name in values), None))
            for key, part in operands
        ]
        for inner in _bind_operands(pairs, node, captures, depth + 1, stopped):
            yield attrs.evolve(inner, nodes=(*inner.nodes, node))


def _orders(pattern: Op) -> Iterator[tuple[tuple[str, _Operand], ...]]:
    yield pattern.operands
    if pattern.commutative:
        first, second, *rest = pattern.operands
        yield ((first[0], second[1]), (second[0], first[1]), *rest)


def _bind_operands(
    pairs: list[tuple[_Operand, Any]],
    reader: fx.Node,
    captures: dict[str, Any],
    depth: int,
    stopped: list[Mismatch],
) -> Iterator[Binding]:
    """Each way in which all operands of ``reader`` match; ``pairs`` are patterns with the actual values."""
    if not pairs:
        yield Binding(nodes=(), captures=captures)
        return
    (part, value), *rest = pairs
    for head in _bind_operand(part, value, reader, captures, depth, stopped):
        for tail in _bind_operands(rest, reader, head.captures, depth, stopped):
            yield attrs.evolve(tail, nodes=(*head.nodes, *tail.nodes))


def _bind_operand(
    part: _Operand,
    value: Any,
    reader: fx.Node,
    captures: dict[str, Any],
    depth: int,
    stopped: list[Mismatch],
) -> Iterator[Binding]:
    if isinstance(part, Op):
        yield from _bind_inner(part, value, reader, captures, depth, stopped)
        return
    if isinstance(part, str):
        expected = _capture_misfit(part, value, captures)
        captures = {**captures, part.rstrip("?*"): value}
    else:
        holds = isinstance(value, (int, float)) and float(value) == float(part)
        expected = None if holds else f"the number {part}"
    if expected is None:
        yield Binding(nodes=(), captures=captures)
    else:
        stopped.append(Mismatch(depth=depth, node=reader.name, found=str(value), expected=expected))


def _bind_inner(
    part: Op,
    value: Any,
    reader: fx.Node,
    captures: dict[str, Any],
    depth: int,
    stopped: list[Mismatch],
) -> Iterator[Binding]:
    if not isinstance(value, fx.Node) or is_dequantize(value):
        stopped.append(Mismatch(depth=depth, node=reader.name, found=str(value), expected=str(part)))
        return
    for inner in _bind_operator(part, value, captures, depth, stopped):
        uses = _uses(value)
        if uses == 1:
            yield inner
        else:
            actual, expected = f"{value.name} with {uses} uses", f"{operator_name(value)} with one use"
            stopped.append(Mismatch(depth=depth + 1, node=value.name, found=actual, expected=expected))


def _uses(node: fx.Node) -> int:
    """How often a node is read: by how many users, or how many arguments of one (``add(x, x)``)."""
    if len(node.users) != 1:
        return len(node.users)
    read: list[fx.Node] = []
    for user in node.users:
        fx.map_arg((user.args, user.kwargs), read.append)
    return read.count(node)


def _capture_misfit(part: str, value: Any, captures: dict[str, Any]) -> str | None:
    """What the capture needs instead of the value, ``None`` if the value fits."""
    name = part.rstrip("?*")
    if value is None:
        fits = part.endswith("?")
    elif part.endswith("*"):
        fits = isinstance(value, (list, tuple)) and all(map(_is_tensor, value))
    else:
        fits = _is_tensor(value)
    if not fits:
        return f"a tensor for {name}"
    same = captures.get(name, value) == value
    return None if same else f"{name} to be {captures[name]}"


def _is_tensor(value: Any) -> bool:
    """A node that makes a tensor, not a size or another number."""
    numbers = (int, float, torch.SymInt, torch.SymFloat, torch.SymBool)
    return isinstance(value, fx.Node) and not isinstance(value.meta.get("val"), numbers)
