"""Runs programs without the backend's hardware, with a function in place of the delegate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from quanthost.values import PieceRecord

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from quanthost.toolchain.simulator.interpreter import Interpreter
    from quanthost.values import ArithmeticProfile

__all__ = ["Runner", "compile_portable", "execute_portable", "simulated_runner"]

Runner = Callable[[list[Any]], list[Any]]


def simulated_runner(
    program: bytes,
    pieces: Sequence[PieceRecord],
    delegates: Mapping[str, Callable[[bytes, list[Tensor]], Sequence[Tensor]]],
) -> Runner | None:
    """Create a runner for ``quanthost_create_runner`` if no local runtime has the delegate.

    It executes the program's instructions one by one: operators outside of delegates in torch, a delegated
    piece by the function for its delegate.

    Args:
        program: The ``.pte``, as the hook gets it.
        pieces: The program's delegated calls, as the hook gets them.
        delegates: A function for each delegate's id. It takes the result of ``preprocess`` and the piece's
            input tensors in order, and returns its results in order: tensors of the dtypes and
            shapes that the partition has. It must not write into the inputs.

    Returns:
        The runner; ``None`` if the program calls none of the delegates, so that the ExecuTorch runtime
        runs it. The first call reads the program, and raises ``ProgramError`` if it has several methods,
        control flow, or another delegate.
    """
    if not any(piece.delegate in delegates for piece in pieces):
        return None
    return _SimulatedRunner(program, pieces, delegates)


class _SimulatedRunner:
    """The runner; it reads its program at the first call, since many programs never run."""

    def __init__(
        self, program: bytes, pieces: Sequence[PieceRecord], delegates: Mapping[str, Callable[..., Any]]
    ) -> None:
        self._arguments = (program, pieces, delegates)
        self._interpreter: Interpreter | None = None
        self._lock = Lock()

    def __call__(self, inputs: list[Any]) -> list[Any]:
        from quanthost.toolchain.simulator.interpreter import Interpreter

        with self._lock:
            if self._interpreter is None:
                self._interpreter = Interpreter(*self._arguments)
        return self._interpreter(inputs)


def compile_portable(partition: ExportedProgram, arithmetic: ArithmeticProfile | None = None) -> bytes:
    """Compile a partition to a separate ``.pte`` of ExecuTorch's portable and quantized kernels.

    A ``preprocess`` that returns it, and ``execute_portable``, make a delegate to begin with. Without
    ``arithmetic`` the program computes what the partition says: floats between ``dequantize`` and
    ``quantize``. The order in which a machine adds floats then decides some of the integers. With
    ``arithmetic`` the integers are those of the golden form on every machine.

    Args:
        partition: The edge program that ``preprocess`` is given; it stays as it is.
        arithmetic: The profile that the backend declares. Operators without an integer form stay float.

    Raises:
        LoweringError: a size that the partition takes as an input is not the size of an input tensor.
        ConversionError: a number does not fit the profile.
    """
    from quanthost.toolchain import portable

    return portable.compile_portable(partition, arithmetic)


def execute_portable(blob: bytes, inputs: Sequence[Any]) -> list[Tensor]:
    """Run a program of ``compile_portable`` in the ExecuTorch runtime of this machine.

    Args:
        blob: The ``.pte``; it stays loaded for the next call.
        inputs: The partition's inputs in order; sizes among them are left out.

    Raises:
        ProgramError: the runtime refused or failed.
    """
    from quanthost.toolchain import portable

    return portable.execute_portable(blob, inputs)
