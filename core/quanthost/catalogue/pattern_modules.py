"""``PatternModule``: runs a pattern of operators, with its captures as parameters and inputs."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs
import torch
from torch import nn

from quanthost.catalogue.entries import Arguments, Variation
from quanthost.catalogue.lookup import entries_of
from quanthost.catalogue.operands import Operand
from quanthost.graph.pattern import Op
from quanthost.values import Role

__all__ = ["PatternModule", "fits", "innermost", "module_of", "overload_of"]

_WEIGHTS = ("weight", "bias")
_CONSTANT = (Role.WEIGHT, Role.BIAS)
Roles: TypeAlias = Mapping[str, Role]


@attrs.frozen
class _Step:
    """One call: the operator, and a reference or a plain value for each argument."""

    target: Any
    arguments: dict[str, Any]


@attrs.frozen
class _Ref:
    """Where an argument comes from: ``kind`` is ``"step"``, ``"input"`` or ``"parameter"``."""

    kind: str
    key: Any


def innermost(pattern: Op) -> Op:
    """The operator that computes first: the first one without operators among its operands."""
    inner = next((part for _, part in pattern.operands if isinstance(part, Op)), None)
    return pattern if inner is None else innermost(inner)


def fits(pattern: Op) -> bool:
    """Whether the catalogue has all operators of a pattern."""
    has_operator = pattern.names == ("getitem",) or any(entries_of(name) for name in pattern.names)
    return has_operator and all(fits(part) for _, part in pattern.operands if isinstance(part, Op))


def module_of(pattern: Op, variation: Variation, roles: Roles) -> PatternModule:
    """Build a pattern with the variation's operator and arguments as its innermost operator.

    Raises:
        KeyError: the catalogue lacks an operator of the pattern.
        RuntimeError: torch refuses the arguments.
    """
    module = PatternModule(pattern, variation, roles)
    module.eval()
    return module


class PatternModule(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Runs a pattern; captured weights and biases are parameters, other captures are inputs.

    Inputs and parameters are drawn from a generator with a fixed seed.
    """

    def __init__(self, pattern: Op, variation: Variation, roles: Roles) -> None:
        super().__init__()
        self.inputs: list[torch.Tensor] = []
        self.dynamic: list[tuple[int, ...]] = []
        self._readers = variation.readers
        self._steps: list[_Step] = []
        self._roles, self.variation = roles, variation
        self._generator = torch.Generator().manual_seed(0)
        self._captured: dict[str, _Ref] = {}
        self._values: list[Any] = []
        self._first = innermost(pattern)
        with torch.no_grad():
            self._build(pattern)
            leaves = self._leaves(self._values[-1])
        self._values = []
        if self._readers and not (len(leaves) == 1 and leaves[0].is_floating_point()):
            raise RuntimeError("only a result that is one float tensor can have other readers")

    def forward(self, *inputs: torch.Tensor) -> Any:
        values: list[Any] = []
        for step in self._steps:
            arguments = {key: self._resolve(v, values, inputs) for key, v in step.arguments.items()}
            values.append(step.target(**arguments))
        result = values[-1]
        if self._readers == "input":
            return result, torch.relu(inputs[0])
        if self._readers == "output":
            return torch.relu(result), torch.neg(result)
        return result if isinstance(result, torch.Tensor) else tuple(self._leaves(result))

    def _build(self, part: Op) -> _Ref:
        """Add the steps of an operator and its inner operators, and return a reference to its result."""
        inner = {key: self._build(op) for key, op in part.operands if isinstance(op, Op)}
        if part.names == ("getitem",):
            index = int(str(dict(part.operands)["1"]))
            return self._call(lambda value: operator.getitem(value, index), {"value": inner["0"]})
        first = part is self._first
        name = self.variation.operator if first else _first_entry(part).name
        target = overload_of(name)
        parameters = {argument.name for argument in target._schema.arguments}
        plain: Arguments = self.variation.arguments if first else _first_entry(part).plain
        arguments: dict[str, Any] = {}
        for keys, operand in part.operands:
            key = next((key for key in keys.split("|") if key in parameters), None)
            if key is None:
                continue
            if keys in inner:
                arguments[key] = inner[keys]
            elif isinstance(operand, str):
                arguments[key] = self._capture(operand.rstrip("?*"), key, plain, inner)
            else:
                arguments[key] = operand
        for key, value in plain.items():
            if key not in arguments and key in parameters and (first or not _is_tensor(value)):
                arguments[key] = self._operand(key, value, Role.PASSTHROUGH)
        needed = {argument.name for argument in target._schema.arguments if not argument.has_default_value()}
        return self._call(target, {k: v for k, v in arguments.items() if v is not None or k in needed})

    def _capture(self, name: str, key: str, plain: Arguments, inner: Mapping[str, _Ref]) -> Any:
        """The operand of a capture: one tensor for all places where the pattern names it."""
        if name in self._captured:
            return self._captured[name]
        value = plain.get(key)
        if inner and isinstance(value, Operand):
            value = value.resized(*self._values[next(iter(inner.values())).key].shape)
        operand = self._operand(key, value, self._roles.get(name, Role.ACTIVATION))
        if isinstance(operand, _Ref):
            self._captured[name] = operand
        return operand

    def _operand(self, key: str, value: Any, role: Role) -> Any:
        if isinstance(value, list) and any(isinstance(item, Operand) for item in value):
            return [self._operand(f"{key}.{place}", item, role) for place, item in enumerate(value)]
        if not isinstance(value, Operand):
            return value
        tensor = value.make(self._generator)
        uncaptured = role is Role.PASSTHROUGH and key in _WEIGHTS
        if (role in _CONSTANT or uncaptured) and not value.computed:
            name = f"{key}_{len(self._steps)}"
            spread = max(1, tensor[0].numel()) ** 0.5 if role is Role.WEIGHT and tensor.dim() > 1 else 1.0
            self.register_parameter(name, nn.Parameter(tensor / spread, requires_grad=False))
            return _Ref("parameter", name)
        self.inputs.append(tensor)
        self.dynamic.append(tuple(self.variation.dynamic.get(key.partition(".")[0], ())))
        return _Ref("input", len(self.inputs) - 1)

    def _call(self, target: Any, arguments: dict[str, Any]) -> _Ref:
        resolved = {key: self._resolve(v, self._values, self.inputs) for key, v in arguments.items()}
        self._values.append(target(**resolved))
        self._steps.append(_Step(target, arguments))
        return _Ref("step", len(self._steps) - 1)

    def _resolve(self, value: Any, values: list[Any], inputs: Any) -> Any:
        if isinstance(value, list):
            return [self._resolve(item, values, inputs) for item in value]
        if not isinstance(value, _Ref):
            return value
        if value.kind == "step":
            return values[value.key]
        return inputs[value.key] if value.kind == "input" else getattr(self, value.key)

    def _leaves(self, result: Any) -> list[torch.Tensor]:
        return [result] if isinstance(result, torch.Tensor) else list(result)


def _first_entry(part: Op) -> Any:
    """The first entry that a pattern's names match."""
    return next(entry for name in part.names for entry in entries_of(name))


def _is_tensor(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, Operand) for item in items)


def overload_of(name: str) -> Any:
    """The aten overload of a name such as ``"conv2d.default"``."""
    base, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, base), overload or "default")
