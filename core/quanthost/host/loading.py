"""Reads programs back, with the runner of their backend if the ExecuTorch runtime can't run them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from quanthost.errors import ProgramError
from quanthost.host.discovery import Policy
from quanthost.stages.lowering.files import read_program
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.values import ProgramRecord

__all__ = ["load"]


def load(path: str | os.PathLike[str], policy: Policy | None = None) -> LoweredProgram:
    """Read a program and its record back.

    If the backend has a runner of its own, the program runs in it: the backend is imported at the first run,
    under the rules of ``policy``.

    Raises:
        ProgramError: a file is missing or cannot be read, or the two do not belong together.
    """
    buffer, record = read_program(Path(path))
    runner = _BackendsRunner(buffer, record, policy) if record.own_runner else None
    return LoweredProgram(buffer=buffer, record=record, runner=runner)


@attrs.define
class _BackendsRunner:
    """Asks the program's backends for their runner when it is first run."""

    _buffer: bytes
    _record: ProgramRecord
    _policy: Policy | None
    _runner: Callable[[list[Any]], list[Any]] | None = attrs.field(default=None, init=False)

    def __call__(self, inputs: list[Any]) -> list[Any]:
        if self._runner is None:
            self._runner = self._ask()
        return self._runner(inputs)

    def _ask(self) -> Callable[[list[Any]], list[Any]]:
        # late: most programs run without the host, which takes seconds to import
        from quanthost.host.requests import resolve
        from quanthost.host.target import Target

        record = self._record
        plugins, request = resolve(
            Target(
                backend=record.backends, recipe=record.recipe, overrides=record.overrides, qat=record.qat,
                options=dict(record.options), policy=self._policy,
            )
        )  # fmt: skip
        runner = plugins.runner(self._buffer, request, record.pieces)
        if runner is None:
            names = ", ".join(record.backends)
            raise ProgramError(
                f"no runner from {names}, which had one when the program was made", stage="run",
                needed="the version that the program's record names", plugin=names,
                remedy="install that version, or lower the model again",
            )  # fmt: skip
        return runner
