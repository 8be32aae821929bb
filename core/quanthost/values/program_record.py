"""The record of a program: everything that a run decided, as written to the ``.json`` beside the ``.pte``."""

from __future__ import annotations

import enum

import attrs

from quanthost.values.cost_table import Latency
from quanthost.values.decision import Decision
from quanthost.values.finding import Finding
from quanthost.values.override import Override
from quanthost.values.request import Toolchain

__all__ = [
    "FORMAT",
    "EstimatorTrial",
    "LeafSource",
    "OutputLeaf",
    "PieceRecord",
    "PluginRecord",
    "ProgramRecord",
    "Refinement",
    "TensorQParams",
    "ToolchainRecord",
]

FORMAT = 1


class LeafSource(enum.Enum):
    """Where a leaf of the model's result comes from when the program runs."""

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
class EstimatorTrial:
    """A candidate that ``convert`` tried, and the SQNR of the model's outputs with it, in dB.

    Half of the batch sample measures it; the other half corrects the biases.
    """

    name: str
    sqnr_db: float


@attrs.frozen(kw_only=True)
class Refinement:
    """The candidates that ``convert`` tried, and which one it chose."""

    trials: tuple[EstimatorTrial, ...]
    choice: str
    bias_corrected: bool


@attrs.frozen(kw_only=True)
class PluginRecord:
    """A plugin that took part: the name in the request, and its distribution."""

    name: str
    distribution: str
    version: str


@attrs.frozen(kw_only=True)
class PieceRecord:
    """One delegated piece: its ExecuTorch backend, and its numbers of operators and of returned tensors.

    ``results`` is 0 if it was not recorded.
    """

    delegate: str
    operators: int
    results: int = 0


@attrs.frozen(kw_only=True)
class TensorQParams:
    """The quantization of a float input or output of the program."""

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
    """Everything that a run decided."""

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
    # operators whose integers the program returns after the model's outputs
    intermediates: tuple[str, ...] = ()
    latency: Latency | None = None
    # the backend's own runner executes the program, not the ExecuTorch runtime
    own_runner: bool = False
    # ``None`` in records of versions that did not say it
    toolchain: ToolchainRecord | None = None
    # kernels that the program calls and the runtime that made it does not have, as ``"aten::sort.values"``
    missing_kernels: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    format: int = FORMAT

    @property
    def delegated_share(self) -> float:
        """The share of the program's operators that are inside delegates, 0 to 1."""
        inside = sum(piece.operators for piece in self.pieces)
        total = inside + len(self.outside)
        return inside / total if total else 0.0
