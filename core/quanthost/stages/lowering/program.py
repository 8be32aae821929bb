"""``LoweredProgram``: the bytes of a program with its record; saves and runs it."""

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
        verdicts = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
        return (
            f"<LoweredProgram {record.model} for {' and '.join(record.backends)} ({record.recipe}): "
            f"{verdicts or 'no nodes'}; delegated pieces: {len(record.pieces)}, "
            f"operators outside: {len(record.outside)}; {len(self.buffer) / 1000:.1f} kB>"
        )

    @property
    def signature(self) -> Signature:
        """The inputs and outputs of the program."""
        return self._signature

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self.record.decisions

    def run(self, *inputs: Any, **kwargs: Any) -> Any:
        """Execute in the ExecuTorch runtime of this machine; the result has the model's structure.

        Calls from several threads run one after the other.

        Raises:
            InputError: an input differs from the captured signature.
            ProgramError: the runtime refused the program or failed.
        """
        flat = self._signature.flatten(inputs, kwargs)
        return self._signature.unflatten(assemble(self.record.outputs, self._execute(flat), flat))

    def repeatable(self, *inputs: Any, **kwargs: Any) -> Callable[[], Any]:
        """A function that runs the program on these inputs, for timing: it checks and copies nothing.

        Raises:
            InputError: an input differs from the captured signature.
            ProgramError: the runtime refused the program or failed.
        """
        leaves = self._variable_leaves(self._signature.flatten(inputs, kwargs))
        runner = self._load()
        from quanthost.toolchain.runtime import Executor

        return runner.repeatable(leaves) if isinstance(runner, Executor) else lambda: runner(leaves)

    def intermediates(self, *inputs: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The integers of each quantized operator, by the captured node's name, in the order of execution.

        Raises:
            InputError: an input differs from the captured signature.
            ProgramError: the program was lowered without them, or the runtime refused it or failed.
        """
        names = self.record.intermediates
        if not names:
            raise ProgramError(
                "a program that returns no intermediate integers", stage="run", value=self,
                needed="a program that was lowered with intermediates=True",
                remedy="lower the converted model again with intermediates=True",
            )  # fmt: skip
        outputs = self._execute(self._signature.flatten(inputs, kwargs))
        return dict(zip(names, outputs[len(outputs) - len(names) :]))

    def _execute(self, flat: list[Any]) -> list[Any]:
        runner = self._load()
        with torch.no_grad():
            return runner(self._variable_leaves(flat))

    def _load(self) -> Callable[[list[Any]], list[Any]]:
        with self._lock:
            if self._runner is None:
                from quanthost.toolchain.runtime import Executor

                self._runner = Executor(self.buffer, self.record.runtime_modules)
            return self._runner

    def _variable_leaves(self, flat: list[Any]) -> list[Any]:
        """The leaves that the program reads: tracing fixed the others."""
        return [x for x, leaf in zip(flat, self._signature.inputs) if not isinstance(leaf, ConstantSpec)]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the ``.pte`` and ``<name>.json`` beside it; if that fails, earlier files stay unchanged.

        Raises:
            ProgramError: the folder does not exist or is not writable, the disk is full, or the name
                ends in ``.json``.
        """
        target = Path(path)
        write_program(target, self.buffer, self.record)
        return target
