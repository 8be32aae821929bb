"""Programs whose delegate no runtime here has: carried out one instruction after the other, by functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from executorch.exir import to_edge
from executorch.exir.backend.backend_details import BackendDetails, PreprocessResult
from torch import Tensor, nn

import quanthost
from quanthost.api import (
    BackendInfo,
    DType,
    Gain,
    Kernel,
    LoweringOptions,
    PieceRecord,
    QSpec,
    Recipe,
    Role,
    Row,
    SupportTable,
    TableBackend,
    compile_portable,
    execute_portable,
    op,
    simulated_runner,
)
from quanthost.errors import ProgramError
from quanthost.hooks.manager import Plugins
from quanthost.stages.lowering import lower
from quanthost.stages.preparing import prepare
from quanthost.toolchain.export import export
from quanthost.toolchain.simulator.interpreter import Interpreter
from quanthost.values import Request

DELEGATE = "SimulatedNpu"


class SimulatedNpu(BackendDetails):  # type: ignore[misc]  # executorch is untyped
    """What an author begins with."""

    @staticmethod
    def preprocess(edge_program: Any, compile_specs: list[Any]) -> PreprocessResult:
        return PreprocessResult(processed_bytes=compile_portable(edge_program))


_CONV = op("conv2d", "convolution", input="input", weight="weight", bias="bias?")
_ROLES = {"weight": Role.WEIGHT, "bias": Role.BIAS}
_WEIGHTED = {"kernels": {Kernel.STATIC}, "roles": _ROLES, "gain": Gain.DRIVES}
_MOVES = {"kernels": {Kernel.STATIC}, "shares": ("input", "output")}
TABLE = SupportTable(
    [
        Row(name="conv", pattern=_CONV, **_WEIGHTED),
        Row(name="conv_relu", pattern=op("relu", self=_CONV), **_WEIGHTED),
        Row(
            name="linear", pattern=op("linear", input="input", weight="weight", bias="bias?"),
            keeps=("linear",), **_WEIGHTED,
        ),
        Row(name="pool", pattern=op("max_pool2d", self="input"), keeps=("max_pool2d",), **_MOVES),
        Row(name="view", pattern=op("view", "flatten", self="input"), **_MOVES),
        Row(name="slice", pattern=op("slice", self="input"), **_MOVES),
    ]
)  # fmt: skip
INT8 = Recipe(
    name="int8_static", kernel=Kernel.STATIC, activation=QSpec(dtype=DType.INT8),
    weight=QSpec(dtype=DType.INT8, quant_min=-127),
)  # fmt: skip
PORTABLE = TableBackend(
    info=BackendInfo(name="portable", recipes=[INT8]),
    table=TABLE,
    lowering=LoweringOptions(runtime_modules=("executorch.kernels.quantized",)),
)
DELEGATING = attrs.evolve(
    PORTABLE, info=BackendInfo(name="delegating", recipes=[INT8], runtime=DELEGATE), delegate=DELEGATE
)


class Several(nn.Module):
    """Two partitions, one of several results, constants in both, and operators between and behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.pool(self.first(x).relu())
        middle = torch.log_softmax(x, 1)
        y = self.second(middle)
        return self.head(y.flatten(1)), torch.topk(y.flatten(1), 2)[0], x[:, :2]


class Shapes(nn.Module):
    """Views that the memory plan hides, sizes known at run time, and operators on lists."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        halves = torch.cat([half * 2 for half in x.sin().split(2, 1)], 1)
        made = self.head(halves.cos().reshape(x.shape[0], 24))
        return made.reshape(-1, 2, 2).transpose(1, 2).clamp(-math.inf, 0.5)


def _lowered(backend: TableBackend, model: nn.Module, inputs: Any, shapes: Any = None) -> Any:
    name = backend.info.name
    captured = quanthost.capture(model, inputs, dynamic_shapes=shapes)
    prepared = prepare.prepare(
        captured, Plugins([(name, backend)]), Request(backends=name, recipe="int8_static")
    )
    converted = quanthost.convert(quanthost.calibrate(prepared, [inputs]))
    return lower.lower(converted), converted.module


def _runner(program: Any, execute: Any = execute_portable) -> Any:
    runner = simulated_runner(program.buffer, program.record.pieces, {DELEGATE: execute})
    assert runner is not None
    return runner


@pytest.fixture(scope="module")
def several() -> tuple[Any, Any, tuple[Tensor, ...]]:
    """A program with a delegate, the same on portable kernels, and inputs."""
    torch.manual_seed(0)
    model, inputs = Several().eval(), (torch.randn(2, 3, 8, 8),)
    return _lowered(DELEGATING, model, inputs)[0], _lowered(PORTABLE, model, inputs)[0], inputs


def test_it_computes_what_portable_kernels_do(several: Any) -> None:
    """Outputs of all pieces, and of what lies between them, are those of the program without a delegate."""
    program, portable, inputs = several
    made = _runner(program)(list(inputs))

    assert [piece.results for piece in program.record.pieces] == [1, 3]
    assert [piece.delegate for piece in program.record.pieces] == [DELEGATE] * 2
    for mine, wanted in zip(made, portable.run(*inputs), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-6)


def test_calls_do_not_touch_one_another(several: Any) -> None:
    """Outputs are tensors of their own: a later call leaves them, and a first one repeats."""
    program, _, (image,) = several
    runner = _runner(program)
    first = runner([image])
    kept = [each.clone() for each in first]
    runner([image * 2])

    assert all(map(torch.equal, first, kept))
    assert all(map(torch.equal, runner([image]), kept))


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_sizes_known_at_run_time(batch: int) -> None:
    """A dynamic batch runs at each size, also where a delegated view reads the size."""
    torch.manual_seed(0)
    model, inputs = Shapes().eval(), (torch.randn(2, 4, 6),)
    shapes = {"x": {0: torch.export.Dim("batch", min=1, max=8)}}
    program, module = _lowered(DELEGATING, model, inputs, shapes)
    given = torch.randn(batch, 4, 6)

    torch.testing.assert_close(_runner(program)([given])[0], module(given), rtol=0, atol=1e-6)


def test_hidden_views_are_found() -> None:
    """Where shapes are known, ExecuTorch writes no instruction for a view; its value is its source's."""
    torch.manual_seed(0)
    model, inputs = Shapes().eval(), (torch.randn(2, 4, 6),)
    program, module = _lowered(PORTABLE, model, inputs)
    made = Interpreter(program.buffer, (), {})(list(inputs))

    torch.testing.assert_close(made[0], module(*inputs), rtol=0, atol=1e-6)


def test_without_a_piece_the_runtime_runs_it(several: Any) -> None:
    """A program that calls none of the delegates needs no simulation."""
    _, portable, _ = several

    assert simulated_runner(portable.buffer, portable.record.pieces, {DELEGATE: execute_portable}) is None


def _twice(blob: bytes, inputs: list[Tensor]) -> Sequence[Tensor]:
    return [*execute_portable(blob, inputs)] * 2


def _as_double(blob: bytes, inputs: list[Tensor]) -> Sequence[Tensor]:
    return [each.double() for each in execute_portable(blob, inputs)]


def _cut(blob: bytes, inputs: list[Tensor]) -> Sequence[Tensor]:
    return [each[:1] for each in execute_portable(blob, inputs)]


@pytest.mark.parametrize(
    ("execute", "said"),
    [
        (lambda blob, inputs: None, "returned None of type NoneType"),
        (lambda blob, inputs: [1], r"returned \[1\] of type list"),
        (lambda blob, inputs: [], "returned an empty list"),
        (_twice, "returned a list of 2 tensors: int8"),
        (_as_double, "returned a list of 1 tensor: float64"),
        (_cut, r"returned a list of 1 tensor: int8 \[1, "),
    ],
    ids=["nothing", "numbers", "empty", "too many", "dtype", "shape"],
)
def test_wrong_results_are_refused(several: Any, execute: Any, said: str) -> None:
    """What does not fit the program is named beside what does, before anything is computed from it."""
    program, _, inputs = several
    with pytest.raises(ProgramError, match=f"the function for {DELEGATE} {said}") as caught:
        _runner(program, execute)(list(inputs))

    assert caught.value.needed.startswith("a list of 1 tensor: int8 [2, 4, 4, 4]")


def test_another_delegate_is_refused(several: Any) -> None:
    """A call that no function takes is not skipped."""
    program, _, inputs = several
    with pytest.raises(ProgramError, match=f"a call of the delegate {DELEGATE}, which nothing here executes"):
        Interpreter(program.buffer, program.record.pieces, {"Other": execute_portable})(list(inputs))


def test_pieces_of_another_program_are_refused(several: Any) -> None:
    """The pieces say how many results each call has: those of another program would mix them up."""
    program, _, _ = several
    with pytest.raises(ProgramError, match="the pieces of this program"):
        Interpreter(program.buffer, program.record.pieces[:1], {DELEGATE: execute_portable})
    other = [PieceRecord(delegate="Other", operators=1, results=1)] * 2
    with pytest.raises(ProgramError, match="calls of SimulatedNpu, SimulatedNpu with pieces of Other, Other"):
        Interpreter(program.buffer, other, {DELEGATE: execute_portable})


def test_bytes_that_are_no_program_are_refused() -> None:
    """Damage is an error of the program, not of a library below."""
    with pytest.raises(ProgramError, match="bytes that ExecuTorch cannot read"):
        Interpreter(b"no program at all, but long enough to be read", (), {})


class _Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))


class _Plus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def test_control_flow_is_refused() -> None:
    """A branch is named before the program runs."""
    buffer = to_edge(export(_Branch(), (torch.ones(2),), None, None)).to_executorch().buffer
    with pytest.raises(ProgramError, match="the instruction JumpFalseCall, which is control flow"):
        Interpreter(bytes(buffer), (), {})


def test_several_methods_are_refused() -> None:
    """A program of two methods has no single list of inputs."""
    methods = {name: export(_Plus(), (torch.ones(2),), None, None) for name in ("encode", "decode")}
    with pytest.raises(ProgramError, match="2 methods: "):
        Interpreter(bytes(to_edge(methods).to_executorch().buffer), (), {})
