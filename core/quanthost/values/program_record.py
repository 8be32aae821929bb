"""The record of a program: all that a run decided, as it is written beside the ``.pte``."""

from __future__ import annotations

import enum

import attrs

from quanthost.values.cost_table import Latency
from quanthost.values.decision import Decision
from quanthost.values.override import Override
from quanthost.values.request import Toolchain

__all__ = [
    "FORMAT",
    "LeafSource",
    "OutputLeaf",
    "PieceRecord",
    "PluginRecord",
    "ProgramRecord",
    "Refinement",
    "TensorQParams",
    "ToolchainRecord",
    "Trial",
]

FORMAT = 1


class LeafSource(enum.Enum):
    """Where a leaf of the model's result comes from when the program is run."""

    PROGRAM = "program"
    INPUT = "input"
    CONSTANT = "constant"


@attrs.frozen(kw_only=True)
class OutputLeaf:
    """One leaf: number ``index`` of the program's outputs or of the inputs, or a constant ``value``."""

    source: LeafSource
    index: int = -1
    value: str | int | float | bool | None = None


@attrs.frozen(kw_only=True)
class Trial:
    """A candidate and the SQNR of the model's outputs with it, in dB.

    On every other batch of the kept calibration data; biases are corrected by the rest of it.
    """

    name: str
    sqnr_db: float


@attrs.frozen(kw_only=True)
class Refinement:
    """What was tried at convert, and what was taken."""

    trials: tuple[Trial, ...]
    choice: str
    bias_corrected: bool


@attrs.frozen(kw_only=True)
class PluginRecord:
    """A plugin that took part: the name it was asked by, and the distribution it came from."""

    name: str
    distribution: str
    version: str


@attrs.frozen(kw_only=True)
class PieceRecord:
    """One delegated piece: the ExecuTorch backend that runs it, how many operators lie in it, how many
    tensors it returns (0 where that was not recorded)."""

    delegate: str
    operators: int
    results: int = 0


@attrs.frozen(kw_only=True)
class TensorQParams:
    """Quantization at the edge of the program: the tensor is float, and quantized next to the edge."""

    name: str
    scale: float
    zero_point: int
    quant_min: int
    quant_max: int


@attrs.frozen(kw_only=True)
class ToolchainRecord:
    """The toolchain that lowered the program; ``notes`` name the shortcuts that were left out, and why."""

    way: Toolchain = Toolchain.FAST
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ProgramRecord:
    """All that a run decided; what is written beside the ``.pte``."""

    program_digest: str
    backends: tuple[str, ...]
    recipe: str
    representation: str
    plugins: tuple[PluginRecord, ...]
    versions: tuple[tuple[str, str], ...]
    overrides: tuple[Override, ...]
    options: tuple[tuple[str, str | int | float | bool], ...]
    qat: bool
    model: str
    model_digest: str
    data_digest: str
    signature: str
    outputs: tuple[OutputLeaf, ...]
    quantized_inputs: tuple[TensorQParams, ...]
    quantized_outputs: tuple[TensorQParams, ...]
    pieces: tuple[PieceRecord, ...]
    outside: tuple[str, ...]
    runtime_modules: tuple[str, ...]
    decisions: tuple[Decision, ...]
    refinement: Refinement | None = None
    # names of the operators whose integers the program returns after the model's outputs
    intermediates: tuple[str, ...] = ()
    latency: Latency | None = None
    # a backend's own runner ran it where it was made, not the ExecuTorch runtime
    own_runner: bool = False
    # ``None`` in records of versions that did not say it
    toolchain: ToolchainRecord | None = None
    format: int = FORMAT

    @property
    def delegated_share(self) -> float:
        """Operators inside delegates over all operators of the program, 0 to 1."""
        inside = sum(piece.operators for piece in self.pieces)
        total = inside + len(self.outside)
        return inside / total if total else 0.0
