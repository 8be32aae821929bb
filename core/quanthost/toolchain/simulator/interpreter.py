"""Runs a program in torch, and what it delegates in functions: for delegates that no runtime here has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any

import torch
from executorch.exir import schema
from torch import Tensor

from quanthost.errors import ProgramError
from quanthost.toolchain.simulator.plan_operators import PlanOperator
from quanthost.toolchain.simulator.plan_values import PlanValues, dtype_of, refused
from quanthost.values import PieceRecord

__all__ = ["Execute", "Interpreter"]

Execute = Callable[[bytes, list[Tensor]], Sequence[Tensor]]


class Interpreter:
    """A program of one method, as a callable on a flat list of inputs.

    Operators outside of delegates run in torch. What a delegate does is computed by the function for its id,
    from its processed bytes and input tensors. Buffers that the program writes keep their values from call
    to call; calls from several threads are taken one after the other.

    Args:
        program: The ``.pte``.
        pieces: Its delegated calls, in order: the program does not say where inputs end and results begin.
        delegates: The functions by delegate id.

    Raises:
        ProgramError: the program has several methods, control flow, constants in another file, a delegate
            without a function, or an operator that is not registered in this process.
    """

    def __init__(
        self, program: bytes, pieces: Sequence[PieceRecord], delegates: Mapping[str, Execute]
    ) -> None:
        read = _read(program)
        self._plan = _only_plan(read)
        self._calls = [_supported(each.instr_args) for each in self._plan.chains[0].instructions]
        self._counts = _result_counts(self._plan.delegates, pieces)
        self._executors = [_executor(each.id, delegates) for each in self._plan.delegates]
        # one object for each piece, so that a function can keep what it made of it
        self._blobs = [
            bytes(read.backend_delegate_data[each.processed.index].data) for each in self._plan.delegates
        ]
        self._operators = [PlanOperator(each) for each in self._plan.operators]
        self._values = PlanValues(self._plan, read.constant_buffer)
        self._lock = Lock()

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Run on flat inputs, tensors and numbers; each output is a tensor of its own.

        Raises:
            ProgramError: a delegate's function gave something else than the program expects of it.
        """
        with self._lock, torch.no_grad():
            for number, given in zip(self._plan.inputs, inputs, strict=True):
                self._values[number] = given
            for call in self._calls:
                _RUN[type(call)](self, call)
            outputs = [_own(self._values[number]) for number in self._plan.outputs]
            self._values.clear()
        return outputs

    def _kernel(self, call: schema.KernelCall) -> None:
        self._operators[call.op_index].run(call.args, self._values)

    def _delegate(self, call: schema.DelegateCall) -> None:
        number = call.delegate_index
        end = len(call.args) - self._counts[number]
        given, results = call.args[:end], call.args[end:]
        made = self._executors[number](self._blobs[number], [self._values[each] for each in given])
        _check_results(self._plan.delegates[number].id, made, self._values.specs(results))
        for result, tensor in zip(results, made):
            self._values[result] = tensor

    def _move(self, call: schema.MoveCall) -> None:
        self._values[call.move_to] = self._values[call.move_from]

    def _free(self, call: schema.FreeCall) -> None:
        self._values.free(call.value_index)


_RUN: dict[type, Callable[[Interpreter, Any], None]] = {
    schema.KernelCall: Interpreter._kernel,
    schema.DelegateCall: Interpreter._delegate,
    schema.MoveCall: Interpreter._move,
    schema.FreeCall: Interpreter._free,
}


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _read(program: bytes) -> schema.Program:
    try:
        # ExecuTorch has no public reader of programs
        from executorch.exir._serialize._program import deserialize_pte_binary

        return deserialize_pte_binary(program).program
    except Exception as error:
        raise refused(
            f"bytes that ExecuTorch cannot read: {error}", "a whole .pte", "write the program anew"
        ) from error


def _only_plan(program: schema.Program) -> schema.ExecutionPlan:
    plans = program.execution_plan
    if len(plans) == 1 and len(plans[0].chains) == 1:
        return plans[0]
    names = ", ".join(plan.name for plan in plans)
    raise refused(
        f"{len(plans)} methods: {names}", "a program of one method", "lower each on its own"
    )  # fmt: skip


def _supported(call: Any) -> Any:
    if type(call) in _RUN:
        return call
    raise refused(
        f"the instruction {type(call).__name__}, which is control flow", "a program that runs straight on",
        "write the model without branches and loops that depend on its inputs",
    )  # fmt: skip


def _result_counts(delegates: Sequence[schema.BackendDelegate], pieces: Sequence[PieceRecord]) -> list[int]:
    called, known = [each.id for each in delegates], [piece.delegate for piece in pieces]
    if called == known:
        return [piece.results for piece in pieces]
    raise refused(
        f"calls of {_listed(called)} with pieces of {_listed(known)}", "the pieces of this program, in order",
        "pass on the pieces that quanthost_create_runner is given",
    )  # fmt: skip


def _executor(delegate: str, delegates: Mapping[str, Execute]) -> Execute:
    if delegate in delegates:
        return delegates[delegate]
    raise refused(
        f"a call of the delegate {delegate}, which nothing here executes", f"calls of {_listed(delegates)}",
        "lower for that backend alone, or add a function for its delegate",
    )  # fmt: skip


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _check_results(delegate: str, made: Any, wanted: Sequence[schema.Tensor]) -> None:
    """Refuse results of the wrong number, kind, dtype or shape; a dynamic shape is only bounded."""
    if not isinstance(made, (list, tuple)) or not all(isinstance(each, Tensor) for each in made):
        raise _wrong(delegate, f"{made!r:.80} of type {type(made).__name__}", wanted)
    if len(made) == len(wanted) and all(map(_fits, made, wanted)):
        return
    raise _wrong(delegate, _described((each.dtype, each.shape) for each in made), wanted)


def _fits(made: Tensor, wanted: schema.Tensor) -> bool:
    if made.dtype != dtype_of(wanted) or made.dim() != len(wanted.sizes):
        return False
    if wanted.shape_dynamism == schema.TensorShapeDynamism.STATIC:
        return list(made.shape) == list(wanted.sizes)
    return all(size <= limit for size, limit in zip(made.shape, wanted.sizes))


def _wrong(delegate: str, seen: str, wanted: Sequence[schema.Tensor]) -> ProgramError:
    return ProgramError(
        f"the function for {delegate} returned {seen}",
        needed=_described((dtype_of(each), each.sizes) for each in wanted), where=f"delegate {delegate}",
        stage="run", remedy="return the results of the partition, in its order", value=delegate,
    )  # fmt: skip


def _described(tensors: Iterable[tuple[torch.dtype, Sequence[int]]]) -> str:
    parts = [f"{str(dtype).removeprefix('torch.')} {list(shape)}" for dtype, shape in tensors]
    if not parts:
        return "an empty list"
    return f"a list of {len(parts)} tensor{'s' * (len(parts) > 1)}: {', '.join(parts)}"
