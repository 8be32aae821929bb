"""The values of a running execution plan: constants, results, and views that the memory plan elides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from executorch.exir import schema
from executorch.exir.tensor import get_scalar_type
from torch import Tensor

from quanthost.errors import ProgramError

__all__ = ["PlanValues", "dtype_of", "program_error"]

_SCALARS: dict[type, Callable[[Any], Any]] = {
    schema.Int: lambda value: int(value.int_val),
    schema.Bool: lambda value: bool(value.bool_val),
    # infinities are stored as text
    schema.Double: lambda value: float(value.double_val),
    schema.String: lambda value: value.string_val,
    schema.Null: lambda value: None,
    schema.DoubleList: lambda value: list(value.items),
    schema.BoolList: lambda value: list(value.items),
}


class PlanValues:
    """Values by their number in the plan.

    ExecuTorch emits no instruction for a view that shares its source's memory. Such a value is never
    written; reading it returns what was last written to the same place in memory.

    Raises:
        ProgramError: a constant is in another file.
    """

    def __init__(self, plan: schema.ExecutionPlan, buffers: list[schema.Buffer]) -> None:
        self._specs = [value.val for value in plan.values]
        self._constants = {
            number: _constant(spec, buffers[spec.data_buffer_idx])
            for number, spec in enumerate(self._specs)
            if isinstance(spec, schema.Tensor) and _is_constant(spec)
        }
        self.clear()

    def clear(self) -> None:
        """Drop the results of the last run; constants stay, with what the program wrote into them."""
        self._results: dict[int, Any] = dict(self._constants)
        self._memory: dict[tuple[int, int], Tensor] = {}

    def __getitem__(self, number: int) -> Any:
        """A value as a Python object: a tensor, a number, a list of either, or ``None``."""
        if number in self._results:
            return self._results[number]
        spec = self._specs[number]
        if isinstance(spec, schema.Tensor):
            return self._view(number, spec)
        if isinstance(spec, (schema.IntList, schema.TensorList)):
            return [self[item] for item in spec.items]
        if isinstance(spec, schema.OptionalTensorList):
            return [None if item < 0 else self[item] for item in spec.items]
        return _SCALARS[type(spec)](spec)

    def __setitem__(self, number: int, result: Any) -> None:
        """Store a result; a list of tensors is stored tensor by tensor."""
        spec = self._specs[number]
        if isinstance(spec, schema.TensorList):
            for item, tensor in zip(spec.items, result, strict=True):
                self[item] = tensor
            return
        self._results[number] = result
        if isinstance(spec, schema.Tensor) and spec.allocation_info is not None:
            self._memory[_place(spec.allocation_info)] = result

    def free(self, number: int) -> None:
        self._results.pop(number, None)

    def specs(self, numbers: Iterable[int]) -> list[schema.Tensor]:
        """The specs of tensors in the plan: dtype, largest shape, and whether the shape is static."""
        return [self._specs[number] for number in numbers]

    def _view(self, number: int, spec: schema.Tensor) -> Tensor:
        source = None if spec.allocation_info is None else self._memory.get(_place(spec.allocation_info))
        count = torch.Size(spec.sizes).numel()
        if source is None or source.numel() != count or source.dtype != dtype_of(spec):
            raise program_error(
                f"a read of tensor {number} before anything is written to it",
                "a program whose tensors are inputs, constants or results", "initialize the model's buffers",
            )  # fmt: skip
        return source.reshape(spec.sizes)


def dtype_of(spec: schema.Tensor) -> torch.dtype:
    dtype: torch.dtype = get_scalar_type(spec.scalar_type)
    return dtype


def program_error(seen: str, needed: str, remedy: str) -> ProgramError:
    """The error for a program that cannot be simulated."""
    return ProgramError(seen, needed=needed, remedy=remedy, stage="run", where="a simulated program")


def _is_constant(spec: schema.Tensor) -> bool:
    info = spec.extra_tensor_info
    if info is not None and info.location == schema.TensorDataLocation.EXTERNAL:
        raise program_error(
            f"the constant {info.fully_qualified_name}, which lies in another file",
            "constants inside the program", "lower it without external constants",
        )  # fmt: skip
    return spec.data_buffer_idx > 0 and spec.allocation_info is None


def _place(allocation: schema.AllocationDetails) -> tuple[int, int]:
    return allocation.memory_id, allocation.memory_offset


def _constant(spec: schema.Tensor, buffer: schema.Buffer) -> Tensor:
    """Read a constant, whose numbers are stored in the spec's order of dimensions."""
    order = list(spec.dim_order)
    stored = torch.Size(spec.sizes[dim] for dim in order)
    if stored.numel() == 0:
        return torch.empty(spec.sizes, dtype=dtype_of(spec))
    # the storage may end in padding
    flat = torch.frombuffer(bytearray(buffer.storage), dtype=dtype_of(spec), count=stored.numel())
    return flat.reshape(stored).permute([order.index(dim) for dim in range(len(order))])
