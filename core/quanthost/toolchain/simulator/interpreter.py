"""Runs a program in torch, with Python functions for delegates that the local runtime does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any

import torch
from executorch.exir import schema
from torch import Tensor

from quanthost.errors import ProgramError
from quanthost.toolchain.simulator.plan_operators import PlanOperator
from quanthost.toolchain.simulator.plan_values import PlanValues, dtype_of, program_error
from quanthost.values import PieceRecord

__all__ = ["Execute", "Interpreter"]

Execute = Callable[[bytes, list[Tensor]], Sequence[Tensor]]


class Interpreter:
    """A program of one method, as a callable on a flat list of inputs.

    Operators outside of delegates run in torch. For a delegate, the function for its id computes the results
    from the processed bytes and the input tensors. Buffers that the program writes keep their values from
    call to call; calls from several threads run one after the other.

    Args:
        program: The ``.pte``.
        pieces: Its delegated calls, in order: the program does not record where inputs end and results begin.
        delegates: The functions by delegate id.

    Raises:
        ProgramError: the program has several methods, control flow, constants in another file, a delegate
            without a function, or an operator that is not registered in this process.
    """

    def __init__(
        self, program: bytes, pieces: Sequence[PieceRecord], delegates: Mapping[str, Execute]
    ) -> None:
        parsed = _parse(program)
        self._plan = _only_plan(parsed)
        self._calls = [_check_supported(each.instr_args) for each in self._plan.chains[0].instructions]
        self._counts = _result_counts(self._plan.delegates, pieces)
        self._executors = [_executor(each.id, delegates) for each in self._plan.delegates]
        # one object for each piece, so that a function can cache by it
        self._blobs = [
            bytes(parsed.backend_delegate_data[each.processed.index].data) for each in self._plan.delegates
        ]
        self._operators = [PlanOperator(each) for each in self._plan.operators]
        self._values = PlanValues(self._plan, parsed.constant_buffer)
        self._lock = Lock()

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Run on flat inputs, tensors and numbers; each output is a new tensor.

        Raises:
            ProgramError: a delegate's function returned other results than the program expects.
        """
        with self._lock, torch.no_grad():
            for number, value in zip(self._plan.inputs, inputs, strict=True):
                self._values[number] = value
            for call in self._calls:
                _RUN[type(call)](self, call)
            outputs = [_clone(self._values[number]) for number in self._plan.outputs]
            self._values.clear()
        return outputs

    def _kernel(self, call: schema.KernelCall) -> None:
        self._operators[call.op_index].run(call.args, self._values)

    def _delegate(self, call: schema.DelegateCall) -> None:
        number = call.delegate_index
        end = len(call.args) - self._counts[number]
        operands, results = call.args[:end], call.args[end:]
        tensors = self._executors[number](self._blobs[number], [self._values[each] for each in operands])
        _check_results(self._plan.delegates[number].id, tensors, self._values.specs(results))
        for result, tensor in zip(results, tensors):
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


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _parse(program: bytes) -> schema.Program:
    try:
        # ExecuTorch has no public reader of programs
        from executorch.exir._serialize._program import deserialize_pte_binary

        return deserialize_pte_binary(program).program
    except Exception as error:
        raise program_error(
            f"bytes that ExecuTorch cannot read: {error}", "a whole .pte", "write the program anew"
        ) from error


def _only_plan(program: schema.Program) -> schema.ExecutionPlan:
    plans = program.execution_plan
    if len(plans) == 1 and len(plans[0].chains) == 1:
        return plans[0]
    names = ", ".join(plan.name for plan in plans)
    raise program_error(
        f"{len(plans)} methods: {names}", "a program of one method", "lower each on its own"
    )  # fmt: skip


def _check_supported(call: Any) -> Any:
    if type(call) in _RUN:
        return call
    raise program_error(
        f"the instruction {type(call).__name__}, which is control flow", "a program that runs straight on",
        "write the model without branches and loops that depend on its inputs",
    )  # fmt: skip


def _result_counts(delegates: Sequence[schema.BackendDelegate], pieces: Sequence[PieceRecord]) -> list[int]:
    calls, recorded = [each.id for each in delegates], [piece.delegate for piece in pieces]
    if calls == recorded:
        return [piece.results for piece in pieces]
    raise program_error(
        f"calls of {_join(calls)} with pieces of {_join(recorded)}", "the pieces of this program, in order",
        "pass on the pieces that quanthost_create_runner is given",
    )  # fmt: skip


def _executor(delegate: str, delegates: Mapping[str, Execute]) -> Execute:
    if delegate in delegates:
        return delegates[delegate]
    raise program_error(
        f"a call of the delegate {delegate}, which nothing here executes", f"calls of {_join(delegates)}",
        "lower for that backend alone, or add a function for its delegate",
    )  # fmt: skip


def _join(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _check_results(delegate: str, results: Any, expected: Sequence[schema.Tensor]) -> None:
    """Refuse results of the wrong number, kind, dtype or shape; a dynamic shape is only bounded."""
    if not isinstance(results, (list, tuple)) or not all(isinstance(each, Tensor) for each in results):
        raise _result_error(delegate, f"{results!r:.80} of type {type(results).__name__}", expected)
    if len(results) == len(expected) and all(map(_fits, results, expected)):
        return
    raise _result_error(delegate, _describe((each.dtype, each.shape) for each in results), expected)


def _fits(result: Tensor, expected: schema.Tensor) -> bool:
    if result.dtype != dtype_of(expected) or result.dim() != len(expected.sizes):
        return False
    if expected.shape_dynamism == schema.TensorShapeDynamism.STATIC:
        return list(result.shape) == list(expected.sizes)
    return all(size <= limit for size, limit in zip(result.shape, expected.sizes))


def _result_error(delegate: str, result: str, expected: Sequence[schema.Tensor]) -> ProgramError:
    return ProgramError(
        f"the function for {delegate} returned {result}",
        needed=_describe((dtype_of(each), each.sizes) for each in expected), where=f"delegate {delegate}",
        stage="run", remedy="return the results of the partition, in its order", value=delegate,
    )  # fmt: skip


def _describe(tensors: Iterable[tuple[torch.dtype, Sequence[int]]]) -> str:
    parts = [f"{str(dtype).removeprefix('torch.')} {list(shape)}" for dtype, shape in tensors]
    if not parts:
        return "an empty list"
    return f"a list of {len(parts)} tensor{'s' * (len(parts) > 1)}: {', '.join(parts)}"
