"""``LoweredProgram``: a program's bytes with the record of how it came to be; saved and run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import attrs
import torch

from quanthost.errors import ProgramError
from quanthost.graph.leaves import ConstantSpec
from quanthost.graph.outputs import assemble
from quanthost.graph.signature import Signature
from quanthost.stages.lowering.files import write_program
from quanthost.values import Decision, ProgramRecord, Verdict

__all__ = ["LoweredProgram"]


@attrs.define(kw_only=True, eq=False, repr=False)
class LoweredProgram:
    """A program that the ExecuTorch runtime executes."""

    buffer: bytes = attrs.field(on_setattr=attrs.setters.frozen)
    record: ProgramRecord = attrs.field(on_setattr=attrs.setters.frozen)
    _runner: Callable[[list[Any]], list[Any]] | None = None
    _lock: Lock = attrs.field(factory=Lock, init=False)
    _signature: Signature = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._signature = Signature.from_json(self.record.signature)

    def __repr__(self) -> str:
        record = self.record
        counts = Counter(decision.verdict for decision in record.decisions)
        became = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
        return (
            f"<LoweredProgram {record.model} for {' and '.join(record.backends)} ({record.recipe}): "
            f"{became or 'no nodes'}; delegated pieces: {len(record.pieces)}, "
            f"operators outside: {len(record.outside)}; {len(self.buffer) / 1000:.1f} kB>"
        )

    @property
    def signature(self) -> Signature:
        """What the program takes and gives."""
        return self._signature

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self.record.decisions

    def run(self, *inputs: Any, **kwargs: Any) -> Any:
        """Execute in the ExecuTorch runtime of this machine; the result has the model's structure.

        Calls from several threads are taken one after the other.

        Raises:
            InputError: an input is not what the model was captured with.
            ProgramError: the runtime refused or failed.
        """
        flat = self._signature.flatten(inputs, kwargs)
        return self._signature.unflatten(assemble(self.record.outputs, self._execute(flat), flat))

    def repeatable(self, *inputs: Any, **kwargs: Any) -> Callable[[], Any]:
        """The call on these inputs without what surrounds it, for timing: nothing is checked or copied.

        Raises:
            InputError: an input is not what the model was captured with.
            ProgramError: the runtime refused or failed.
        """
        taken = self._taken(self._signature.flatten(inputs, kwargs))
        runner = self._loaded()
        from quanthost.toolchain.runtime import Executor

        return runner.repeatable(taken) if isinstance(runner, Executor) else lambda: runner(taken)

    def intermediates(self, *inputs: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The integers of each quantized operator, by the captured node's name, in the order of execution.

        Raises:
            InputError: an input is not what the model was captured with.
            ProgramError: the program was lowered without them, or the runtime refused or failed.
        """
        names = self.record.intermediates
        if not names:
            raise ProgramError(
                "a program that returns no intermediate integers", stage="run", value=self,
                needed="one that was lowered with intermediates=True",
                remedy="lower the converted model again with intermediates=True",
            )  # fmt: skip
        outputs = self._execute(self._signature.flatten(inputs, kwargs))
        return dict(zip(names, outputs[len(outputs) - len(names) :]))

    def _execute(self, flat: list[Any]) -> list[Any]:
        runner = self._loaded()
        with torch.no_grad():
            return runner(self._taken(flat))

    def _loaded(self) -> Callable[[list[Any]], list[Any]]:
        with self._lock:
            if self._runner is None:
                from quanthost.toolchain.runtime import Executor

                self._runner = Executor(self.buffer, self.record.runtime_modules)
            return self._runner

    def _taken(self, flat: list[Any]) -> list[Any]:
        """The leaves that the program reads."""
        return [x for x, leaf in zip(flat, self._signature.inputs) if not isinstance(leaf, ConstantSpec)]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the ``.pte`` and ``<name>.json`` beside it; where that fails, both stay as they were.

        Raises:
            ProgramError: the folder does not exist or is not writable, the disk is full, or the name
                ends in ``.json``.
        """
        target = Path(path)
        write_program(target, self.buffer, self.record)
        return target
