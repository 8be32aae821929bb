"""The operators of an execution plan: calls each one in torch and stores its results."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

# these register operators that occur only in programs
import executorch.exir.passes.dim_order_ops_registry
import executorch.exir.passes.executorch_prim_ops_registry  # noqa: F401
import torch
from executorch.exir import schema
from executorch.exir.tensor import get_scalar_type
from torch import Tensor
from torch.library import OpOverload

from quanthost.toolchain.simulator.plan_values import PlanValues, program_error

__all__ = ["PlanOperator"]

_MEMORY_FORMATS = {0: torch.contiguous_format, 1: torch.preserve_format, 2: torch.channels_last}
# arguments that a program stores as numbers, by their type in the operator's schema
_DECODERS: dict[str, Callable[[int], Any]] = {
    "ScalarType": lambda code: get_scalar_type(schema.ScalarType(code)),
    "MemoryFormat": lambda code: _MEMORY_FORMATS[code],
}


class PlanOperator:
    """One operator, run as the functional torch operator that its kernel is named after.

    Raises:
        ProgramError: no operator of that name is registered in this process.
    """

    def __init__(self, named: schema.Operator) -> None:
        if named.name == "executorch_prim::et_view":
            self._function, self._arguments, self._results, self._end = _view, [(0, None), (1, None)], [2], 3
            return
        packet, overload = _find(named)
        arguments = overload._schema.arguments
        self._function = _functional(packet, overload)
        self._arguments = [(place, each) for place, each in enumerate(arguments) if not each.is_out]
        self._results = [place for place, each in enumerate(arguments) if each.is_out]
        self._end = len(arguments)

    def run(self, numbers: Sequence[int], values: PlanValues) -> None:
        """Compute a call's results from values, which ``numbers`` refer to, and store them."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for place, argument in self._arguments:
            value = values[numbers[place]]
            if argument is None or not argument.kwarg_only:
                positional.append(_decode(argument, value))
            else:
                named[argument.name] = _decode(argument, value)
        output = self._function(*positional, **named)
        # without out arguments, the results follow the arguments
        targets = [numbers[place] for place in self._results] or numbers[self._end :]
        for target, result in zip(targets, output if len(targets) > 1 else (output,), strict=True):
            values[target] = result


def _view(tensor: Tensor, size: list[int]) -> Tensor:
    return tensor.reshape(size)


def _find(named: schema.Operator) -> tuple[Any, OpOverload]:
    namespace, _, base = named.name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), base, None)
    overload = getattr(packet, named.overload or "default", None)
    if overload is None:
        raise program_error(
            f"the operator {named.name}.{named.overload}, which is not registered in this process",
            "operators of torch, or of modules that register them",
            "name the module in LoweringOptions.runtime_modules",
        )
    return packet, overload


def _functional(packet: Any, overload: OpOverload) -> Callable[..., Any]:
    """The operator that returns new tensors, instead of the one that writes into out arguments."""
    arguments = _names(overload)
    makes_results = len(arguments) == len(overload._schema.arguments)
    others = (getattr(packet, name) for name in packet.overloads())
    twins = [each for each in others if not each._schema.is_mutable and _names(each) == arguments]
    fallback: Callable[..., Any] = functools.partial(_call_with_empty_outputs, overload)
    return next(iter([overload] if makes_results else twins), fallback)


def _names(overload: OpOverload) -> list[tuple[str, str]]:
    return [(each.name, str(each.type)) for each in overload._schema.arguments if not each.is_out]


def _call_with_empty_outputs(overload: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Call an operator that has only an out variant, with empty tensors, which it resizes."""
    dtype = next(each.dtype for each in args if isinstance(each, Tensor))
    names = [each.name for each in overload._schema.arguments if each.is_out]
    return overload(*args, **kwargs, **{name: torch.empty(0, dtype=dtype) for name in names})


def _decode(argument: Any, value: Any) -> Any:
    if argument is None or not isinstance(value, int):
        return value
    kind = str(argument.real_type).removeprefix("Optional[").removesuffix("]")
    return _DECODERS[kind](value) if kind in _DECODERS else value
