"""The ExecuTorch runtime of this machine: loads a program once and runs one call at a time."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from quanthost.errors import ProgramError
from quanthost.graph.layouts import in_standard_layout
from quanthost.toolchain.quiet import native_messages, quiet_imports

__all__ = ["Executor", "register_kernels"]


def register_kernels(modules: Sequence[str]) -> None:
    """Import the modules that register kernels, before a program is lowered to them or calls them."""
    with quiet_imports():
        for module in modules:
            importlib.import_module(module)


class Executor:
    """A loaded program.

    The runtime's method keeps neither its program nor the buffer alive; this object does. Calls from
    several threads run one after the other, since a method has one set of buffers.
    """

    def __init__(self, program: bytes, runtime_modules: Sequence[str] = ()) -> None:
        with quiet_imports(), native_messages() as messages:
            register_kernels(runtime_modules)
            from executorch.extension.pybindings import portable_lib

            self._program = program
            try:
                self._module = portable_lib._load_for_executorch_from_buffer(program)
                # loading alone does not read the bytes
                self._module.method_names()
            except Exception as error:
                raise _failure("load", error, messages(), runtime_modules) from error
        self._runtime_modules = tuple(runtime_modules)
        self._lock = threading.Lock()
        self._started = False

    def __call__(self, inputs: Sequence[torch.Tensor | int]) -> list[Any]:
        """Run on flat inputs, tensors and sizes; each output is a new tensor."""
        leaves = _in_standard_layout(inputs)
        with self._lock:
            if not self._started:
                return self._first_call(leaves)
            try:
                return list(self._module.forward(leaves, clone_outputs=True))
            except Exception as error:
                messages = self._failure_messages(leaves)
                raise _failure("execute", error, messages, self._runtime_modules) from error

    def repeatable(self, inputs: Sequence[torch.Tensor | int]) -> Callable[[], None]:
        """A call on these inputs for timing, which leaves the outputs in the runtime's memory.

        Raises:
            ProgramError: the runtime refused or failed.
        """
        leaves = _in_standard_layout(inputs)
        self(leaves)

        def call() -> None:
            with self._lock:
                self._module.forward(leaves, clone_outputs=False)

        return call

    def _first_call(self, inputs: list[torch.Tensor | int]) -> list[Any]:
        """The first call compiles delegates, and their libraries write startup messages."""
        with native_messages() as messages:
            try:
                outputs = list(self._module.forward(inputs, clone_outputs=True))
            except Exception as error:
                raise _failure("execute", error, messages(), self._runtime_modules) from error
        self._started = True
        return outputs

    def _failure_messages(self, inputs: list[torch.Tensor | int]) -> str:
        """Repeat a call that failed, and return what the runtime writes."""
        with native_messages() as messages:
            with contextlib.suppress(Exception):
                self._module.forward(inputs, clone_outputs=True)
            return messages()


def _in_standard_layout(inputs: Sequence[torch.Tensor | int]) -> list[torch.Tensor | int]:
    return [in_standard_layout(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in inputs]


def _failure(action: str, error: Exception, messages: str, modules: Sequence[str]) -> ProgramError:
    loaded = ", ".join(modules) if modules else "none"
    details = "".join(f"\n    {line}" for line in messages.splitlines())
    return ProgramError(
        f"the ExecuTorch runtime could not {action} the program: {error}{details}",
        needed="a program whose delegates and kernels are registered in this runtime",
        where=f"runtime modules loaded: {loaded}", stage="run",
        remedy="make the program with the executorch installed here, or install the backend's runtime",
    )  # fmt: skip
