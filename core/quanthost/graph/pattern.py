"""Patterns over aten operators with named captures, and the attempt to match one at a node."""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs
from torch import fx

from quanthost.graph.operators import arguments, name_matches, operator_name
from quanthost.graph.view import is_dequantize

__all__ = ["Binding", "Mismatch", "Op", "any_of", "bind", "op"]


@attrs.frozen
class Op:
    """One operator of a pattern: its aten names and what stands at its arguments.

    ``operands`` maps schema argument names (alternatives separated by ``|``) to a capture name, a
    nested ``Op`` or a number. A capture name may end in ``?`` (may be absent) or ``*`` (a list of
    tensors). With ``commutative`` the first two operands may stand in either order.
    """

    names: tuple[str, ...]
    operands: tuple[tuple[str, str | Op | float], ...] = ()
    commutative: bool = False

    @property
    def size(self) -> int:
        """Number of operators of the pattern."""
        return 1 + sum(part.size for _, part in self.operands if isinstance(part, Op))

    def captures(self) -> tuple[str, ...]:
        """Names of the captures, without marks, in order of first appearance."""
        found: dict[str, None] = {}
        for _, part in self.operands:
            names = part.captures() if isinstance(part, Op) else (part,) if isinstance(part, str) else ()
            found.update(dict.fromkeys(name.rstrip("?*") for name in names))
        return tuple(found)

    def __str__(self) -> str:
        inner = ", ".join(str(part) for _, part in self.operands)
        return f"{'|'.join(self.names)}({inner})"


_Operand: TypeAlias = str | Op | float


def op(*names: str, commutative: bool = False, **operands: _Operand) -> Op:
    """An operator pattern: ``op("conv2d", input="input", weight="weight", bias="bias?")``."""
    return Op(names=names, operands=tuple(operands.items()), commutative=commutative)


def any_of(*names: str) -> tuple[str, ...]:
    """Names that stand for one another, to be unpacked into ``op``."""
    return names


@attrs.frozen(kw_only=True)
class Binding:
    """A pattern that holds: its operators' nodes, the output's last, and what each capture is."""

    nodes: tuple[fx.Node, ...]
    captures: dict[str, Any]


@attrs.frozen(kw_only=True)
class Mismatch:
    """Where a pattern stopped: the node that was found and what was expected there."""

    depth: int
    found: str
    expected: str


def bind(pattern: Op, node: fx.Node) -> Binding | Mismatch:
    """Match the pattern with ``node`` as its output. Pure: nothing of the graph changes.

    Inner operators must have no other user, since a fused kernel keeps no intermediate result; a
    capture that appears twice must be the same node both times.
    """
    orders = [pattern.operands]
    if pattern.commutative:
        first, second, *rest = pattern.operands
        orders.append(((first[0], second[1]), (second[0], first[1]), *rest))
    result: Binding | Mismatch | None = None
    for operands in orders:
        attempt = _bind_ordered(pattern, operands, node)
        if isinstance(attempt, Binding):
            return attempt
        if result is None or attempt.depth > result.depth:  # type: ignore[union-attr]  # a Mismatch here
            result = attempt
    assert result is not None
    return result


def _bind_ordered(
    pattern: Op, operands: tuple[tuple[str, _Operand], ...], node: fx.Node
) -> Binding | Mismatch:
    if node.op != "call_function":
        return Mismatch(depth=0, found=node.op, expected=str(pattern))
    name = operator_name(node)
    if not any(name_matches(wanted, name) for wanted in pattern.names):
        return Mismatch(depth=0, found=name, expected="|".join(pattern.names))
    values = arguments(node)
    nodes: list[fx.Node] = []
    captures: dict[str, Any] = {}
    for key, part in operands:
        value = next((values[k] for k in key.split("__or__") if k in values), None)
        problem = _bind_operand(part, value, nodes, captures)
        if problem is not None:
            return attrs.evolve(problem, depth=problem.depth + 1)
    return Binding(nodes=(*nodes, node), captures=captures)


def _bind_operand(
    part: _Operand, value: Any, nodes: list[fx.Node], captures: dict[str, Any]
) -> Mismatch | None:
    if isinstance(part, Op):
        return _bind_inner(part, value, nodes, captures)
    if isinstance(part, str):
        return _bind_capture(part, value, captures)
    if isinstance(value, (int, float)) and float(value) == float(part):
        return None
    return Mismatch(depth=0, found=repr(value), expected=f"the number {part}")


def _bind_inner(part: Op, value: Any, nodes: list[fx.Node], captures: dict[str, Any]) -> Mismatch | None:
    if not isinstance(value, fx.Node) or is_dequantize(value):
        return Mismatch(depth=0, found=str(value), expected=str(part))
    inner = bind(part, value)
    if isinstance(inner, Mismatch):
        return inner
    if len(value.users) != 1:
        found = f"{value.name} with {len(value.users)} users"
        return Mismatch(depth=1, found=found, expected=f"{operator_name(value)} with one user")
    for name, bound in inner.captures.items():
        if captures.setdefault(name, bound) is not bound:
            return Mismatch(depth=1, found=str(bound), expected=f"{name} to be one tensor")
    nodes.extend(inner.nodes)
    return None


def _bind_capture(part: str, value: Any, captures: dict[str, Any]) -> Mismatch | None:
    name = part.rstrip("?*")
    if part.endswith("*"):
        fits = isinstance(value, (list, tuple)) and all(isinstance(v, fx.Node) for v in value)
    else:
        fits = isinstance(value, fx.Node) or (value is None and part.endswith("?"))
    if not fits:
        return Mismatch(depth=0, found=repr(value), expected=f"a tensor for {name}")
    if captures.setdefault(name, value) is not value:
        return Mismatch(depth=0, found=str(value), expected=f"{name} to be {captures[name]}")
    return None
