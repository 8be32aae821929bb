"""Reads the contents of a ``.pte`` file from its flatbuffer, without torch or ExecuTorch.

Field numbers are the positions in ExecuTorch's ``schema/program.fbs`` (identifier ``ET12``).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

import attrs

from quanthost.errors import ProgramError

__all__ = ["MethodFacts", "TensorFacts", "read_pte"]

_IDENTIFIER = b"ET12"
_TENSOR, _KERNEL_CALL, _DELEGATE_CALL = 5, 1, 2
_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
    11: "bool", 15: "bfloat16", 27: "uint16", 28: "uint32", 29: "uint64",
}  # fmt: skip


@attrs.frozen(kw_only=True)
class TensorFacts:
    """Shape and dtype of an input or output; if ``bounded``, the shape is the largest one allowed."""

    shape: tuple[int, ...]
    dtype: str
    bounded: bool


@attrs.frozen(kw_only=True)
class MethodFacts:
    """One method of a program.

    ``delegates`` has an id for each delegated call, in execution order. ``kernels`` pairs each operator that
    runs outside of delegates with the number of its calls. ``memory`` is the bytes planned for activations.
    Inputs and outputs that are not tensors are ``None``.
    """

    name: str
    inputs: tuple[TensorFacts | None, ...]
    outputs: tuple[TensorFacts | None, ...]
    delegates: tuple[str, ...]
    kernels: tuple[tuple[str, int], ...]
    memory: int


def read_pte(program: bytes, where: str) -> tuple[MethodFacts, ...]:
    """Read the methods of a program, nearly always the single method ``forward``.

    Raises:
        ProgramError: the bytes are not an ExecuTorch program, or not a complete one.
    """
    if program[4:8] != _IDENTIFIER:
        raise ProgramError(
            "a file that is not an ExecuTorch program", where=where, value=program[:8],
            needed=f"the identifier {_IDENTIFIER.decode()} in bytes 4 to 8",
            remedy="check the path, or write the program again",
        )  # fmt: skip
    try:
        root = _Table(program, struct.unpack_from("<I", program)[0])
        return tuple(_method(plan) for plan in root.tables(1))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ProgramError(
            f"a damaged program: {error}", needed="a complete .pte file", where=where,
            remedy="copy it again, or write the program again",
        ) from error  # fmt: skip


class _Table:
    """A flatbuffer table: fields by number; an absent field has its default."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position

    def number(self, field: int, code: str = "i") -> int:
        place = self._field(field)
        return 0 if place is None else int(self._unpack(code, place))

    def text(self, field: int) -> str:
        place = self._target(field)
        if place is None:
            return ""
        start = place + 4
        return self._data[start : start + self._unpack("I", place)].decode()

    def numbers(self, field: int, code: str = "i") -> tuple[int, ...]:
        place = self._target(field)
        if place is None:
            return ()
        return struct.unpack_from(f"<{self._unpack('I', place)}{code}", self._data, place + 4)

    def table(self, field: int) -> _Table | None:
        place = self._target(field)
        return None if place is None else _Table(self._data, place)

    def tables(self, field: int) -> Iterator[_Table]:
        place = self._target(field)
        if place is None:
            return
        for slot in range(place + 4, place + 4 + 4 * self._unpack("I", place), 4):
            yield _Table(self._data, slot + self._unpack("I", slot))

    def _unpack(self, code: str, place: int) -> int:
        if place < 0:
            raise IndexError(f"an offset of {place}")
        value: int = struct.unpack_from(f"<{code}", self._data, place)[0]
        return value

    def _field(self, field: int) -> int | None:
        """The position of the field's value, ``None`` if the field is absent."""
        vtable = self._position - self._unpack("i", self._position)
        entry = 4 + 2 * field
        if entry + 2 > self._unpack("H", vtable):
            return None
        offset = self._unpack("H", vtable + entry)
        return self._position + offset if offset else None

    def _target(self, field: int) -> int | None:
        """The position of the string, vector or table that the field points to."""
        place = self._field(field)
        return None if place is None else place + self._unpack("I", place)


def _method(plan: _Table) -> MethodFacts:
    values = list(plan.tables(2))
    operators = [_operator_name(operator) for operator in plan.tables(6)]
    delegates = [delegate.text(0) for delegate in plan.tables(7)]
    calls = list(_calls(plan))
    return MethodFacts(
        name=plan.text(0),
        inputs=tuple(_tensor(values[index]) for index in plan.numbers(3)),
        outputs=tuple(_tensor(values[index]) for index in plan.numbers(4)),
        delegates=tuple(delegates[index] for kind, index in calls if kind == _DELEGATE_CALL),
        kernels=tuple(Counter(operators[index] for kind, index in calls if kind == _KERNEL_CALL).items()),
        memory=sum(plan.numbers(8, "q")),
    )


def _calls(plan: _Table) -> Iterator[tuple[int, int]]:
    """The kind of each instruction and the number of its operator or delegate, in order."""
    for chain in plan.tables(5):
        for instruction in chain.tables(2):
            call = instruction.table(1)
            if call is not None:
                yield instruction.number(0, "B"), call.number(0)


def _operator_name(operator: _Table) -> str:
    """``"aten.add.out"`` for the name ``aten::add`` and the overload ``out``."""
    overload = operator.text(1)
    return operator.text(0).replace("::", ".") + (f".{overload}" if overload else "")


def _tensor(value: _Table) -> TensorFacts | None:
    tensor = value.table(1)
    if value.number(0, "B") != _TENSOR or tensor is None:
        return None
    code = tensor.number(0, "b")
    return TensorFacts(
        shape=tensor.numbers(2),
        dtype=_DTYPES.get(code, f"scalar type {code}"),
        bounded=tensor.number(8, "b") != 0,
    )
