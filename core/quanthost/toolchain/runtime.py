"""The ExecuTorch runtime of this machine: loads a program once, keeps it alive, runs one call at a time."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import Any

import torch

from quanthost.errors import ProgramError
from quanthost.toolchain.quiet import quiet

__all__ = ["Executor"]


class Executor:
    """A loaded program.

    The runtime's method keeps neither its program nor the buffer alive; this object does. Calls from
    several threads are taken one after the other, since a method has one set of buffers.
    """

    def __init__(self, program: bytes, runtime_modules: Sequence[str] = ()) -> None:
        with quiet():
            for module in runtime_modules:
                importlib.import_module(module)
            from executorch.extension.pybindings import portable_lib

            self._program = program
            try:
                self._module = portable_lib._load_for_executorch_from_buffer(program)
            except Exception as error:
                raise _failure("load", error, runtime_modules) from error
        self._runtime_modules = tuple(runtime_modules)
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[Any]:
        """Execute on flat inputs; each output is a tensor of its own."""
        contiguous = [tensor.contiguous() for tensor in inputs]
        with self._lock:
            try:
                outputs = self._module.forward(contiguous, clone_outputs=True)
            except Exception as error:
                raise _failure("execute", error, self._runtime_modules) from error
        return list(outputs)


def _failure(action: str, error: Exception, modules: Sequence[str]) -> ProgramError:
    loaded = ", ".join(modules) if modules else "none"
    return ProgramError(
        f"the ExecuTorch runtime could not {action} the program: {error}",
        needed="a program whose delegates and kernels are registered in this runtime",
        where=f"runtime modules loaded: {loaded}", stage="run",
        remedy="make the program with the executorch installed here, or install the backend's runtime",
    )  # fmt: skip
