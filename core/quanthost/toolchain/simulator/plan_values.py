"""The values of an execution plan while it runs: constants, results, and views that the memory plan hides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from executorch.exir import schema
from executorch.exir.tensor import get_scalar_type
from torch import Tensor

from quanthost.errors import ProgramError

__all__ = ["PlanValues", "dtype_of", "refused"]

_SCALARS: dict[type, Callable[[Any], Any]] = {
    schema.Int: lambda held: int(held.int_val),
    schema.Bool: lambda held: bool(held.bool_val),
    # infinities are stored as text
    schema.Double: lambda held: float(held.double_val),
    schema.String: lambda held: held.string_val,
    schema.Null: lambda held: None,
    schema.DoubleList: lambda held: list(held.items),
    schema.BoolList: lambda held: list(held.items),
}


class PlanValues:
    """Values by their number in the plan.

    ExecuTorch emits nothing for a view whose memory is its source's: such a value is never written, and
    reading it reads what was last written to its place in memory.

    Raises:
        ProgramError: a constant lies in another file.
    """

    def __init__(self, plan: schema.ExecutionPlan, buffers: list[schema.Buffer]) -> None:
        self._held = [value.val for value in plan.values]
        self._constants = {
            number: _constant(held, buffers[held.data_buffer_idx])
            for number, held in enumerate(self._held)
            if isinstance(held, schema.Tensor) and _is_constant(held)
        }
        self.clear()

    def clear(self) -> None:
        """Forget what the last run made; constants stay, with what the program wrote into them."""
        self._made: dict[int, Any] = dict(self._constants)
        self._memory: dict[tuple[int, int], Tensor] = {}

    def __getitem__(self, number: int) -> Any:
        """A value as Python has it: a tensor, a number, a list of either, or ``None``."""
        if number in self._made:
            return self._made[number]
        held = self._held[number]
        if isinstance(held, schema.Tensor):
            return self._view(number, held)
        if isinstance(held, (schema.IntList, schema.TensorList)):
            return [self[item] for item in held.items]
        if isinstance(held, schema.OptionalTensorList):
            return [None if item < 0 else self[item] for item in held.items]
        return _SCALARS[type(held)](held)

    def __setitem__(self, number: int, made: Any) -> None:
        """Keep a result; a list of tensors is kept tensor by tensor."""
        held = self._held[number]
        if isinstance(held, schema.TensorList):
            for item, tensor in zip(held.items, made, strict=True):
                self[item] = tensor
            return
        self._made[number] = made
        if isinstance(held, schema.Tensor) and held.allocation_info is not None:
            self._memory[_place(held.allocation_info)] = made

    def free(self, number: int) -> None:
        self._made.pop(number, None)

    def specs(self, numbers: Iterable[int]) -> list[schema.Tensor]:
        """What the plan says of tensors: dtype, largest shape, and whether that is the only one."""
        return [self._held[number] for number in numbers]

    def _view(self, number: int, held: schema.Tensor) -> Tensor:
        source = None if held.allocation_info is None else self._memory.get(_place(held.allocation_info))
        count = torch.Size(held.sizes).numel()
        if source is None or source.numel() != count or source.dtype != dtype_of(held):
            raise refused(
                f"a read of tensor {number} before anything is written to it",
                "a program whose tensors are inputs, constants or results", "initialize the model's buffers",
            )  # fmt: skip
        return source.reshape(held.sizes)


def dtype_of(held: schema.Tensor) -> torch.dtype:
    dtype: torch.dtype = get_scalar_type(held.scalar_type)
    return dtype


def refused(seen: str, needed: str, remedy: str) -> ProgramError:
    """The error for a program that cannot be simulated."""
    return ProgramError(seen, needed=needed, remedy=remedy, stage="run", where="a simulated program")


def _is_constant(held: schema.Tensor) -> bool:
    info = held.extra_tensor_info
    if info is not None and info.location == schema.TensorDataLocation.EXTERNAL:
        raise refused(
            f"the constant {info.fully_qualified_name}, which lies in another file",
            "constants inside the program", "lower it without external constants",
        )  # fmt: skip
    return held.data_buffer_idx > 0 and held.allocation_info is None


def _place(allocation: schema.AllocationDetails) -> tuple[int, int]:
    return allocation.memory_id, allocation.memory_offset


def _constant(held: schema.Tensor, buffer: schema.Buffer) -> Tensor:
    """A constant, whose numbers lie in the order of dimensions that the program gives."""
    order = list(held.dim_order)
    stored = torch.Size(held.sizes[dim] for dim in order)
    if stored.numel() == 0:
        return torch.empty(held.sizes, dtype=dtype_of(held))
    # the storage may end in padding
    flat = torch.frombuffer(bytearray(buffer.storage), dtype=dtype_of(held), count=stored.numel())
    return flat.reshape(stored).permute([order.index(dim) for dim in range(len(order))])
