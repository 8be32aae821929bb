"""The reader of ``.pte`` files against ExecuTorch's own, and against damaged files."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quanthost.errors import ProgramError
from quanthost.report.pte_file import read_pte


class _Net(torch.nn.Module):
    """Two pieces for a delegate with an operator between them, and outputs of two dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.cumsum(torch.relu(self.conv(x)), 1)
        return self.head(torch.cumsum(y, 1).amax((2, 3))), y.argmax(1)


@pytest.fixture(scope="module")
def program() -> bytes:
    """A program with a dynamic batch, made with ExecuTorch alone."""
    from quanthost.toolchain.quiet import quiet, quiet_imports

    with quiet_imports():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
    torch.manual_seed(0)
    with quiet():
        exported = torch.export.export(
            _Net().eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("b", max=4)},)
        )
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    return bytes(program.buffer)


def test_agrees_with_executorch(program: bytes) -> None:
    """Names, shapes, dtypes, calls and memory are those that ExecuTorch's own reader finds."""
    from executorch.exir._serialize._program import deserialize_pte_binary
    from executorch.exir.schema import DelegateCall, KernelCall

    plan = deserialize_pte_binary(program).program.execution_plan[0]
    calls = [instruction.instr_args for chain in plan.chains for instruction in chain.instructions]
    operators = [f"{op.name.replace('::', '.')}.{op.overload}" for op in plan.operators]
    (method,) = read_pte(program, "net.pte")
    assert method.name == plan.name
    shapes = [tuple(plan.values[i].val.sizes) for i in (*plan.inputs, *plan.outputs)]
    assert [t.shape for t in (*method.inputs, *method.outputs) if t is not None] == shapes
    assert method.delegates == tuple(
        plan.delegates[call.delegate_index].id for call in calls if isinstance(call, DelegateCall)
    )
    kernels = Counter(operators[call.op_index] for call in calls if isinstance(call, KernelCall))
    assert dict(method.kernels) == kernels
    assert method.memory == sum(plan.non_const_buffer_sizes)


def test_tells_what_the_network_is(program: bytes) -> None:
    """The facts of this network, stated without a reader."""
    (method,) = read_pte(program, "net.pte")
    assert [t and (t.shape, t.dtype, t.bounded) for t in method.inputs] == [((4, 3, 8, 8), "float32", True)]
    assert [t and (t.shape, t.dtype) for t in method.outputs] == [((4, 2), "float32"), ((4, 6, 6), "int64")]
    assert set(method.delegates) == {"XnnpackBackend"}
    assert dict(method.kernels)["aten.cumsum.out"] == 2


def test_other_files_are_refused() -> None:
    """The identifier is checked first."""
    with pytest.raises(
        ProgramError, match=r"not an ExecuTorch program\n  needed: the identifier ET12.*\n.*a\.p"
    ):
        read_pte(b"\x89PNG\r\n\x1a\n" + bytes(100), "a.png")


@settings(deadline=None)
@given(data=st.data())
def test_damage_never_escapes_as_another_error(program: bytes, data: st.DataObject) -> None:
    """A truncated or overwritten file is read or refused, without another error."""
    damaged = bytearray(program[: data.draw(st.integers(9, 16 << 10))])
    places = st.integers(8, len(damaged) - 1)
    for place, value in data.draw(st.dictionaries(places, st.integers(0, 255), max_size=8)).items():
        damaged[place] = value
    try:
        read_pte(bytes(damaged), "net.pte")
    except ProgramError as error:
        assert error.where == "net.pte"  # noqa: PT017  # either outcome is right, another exception is not


def test_a_cut_off_file_is_refused(program: bytes) -> None:
    """A truncated file is refused with a remedy."""
    with pytest.raises(ProgramError, match=r"a damaged program.*\n.*a complete \.pte file"):
        read_pte(program[:200], "net.pte")


def test_needs_neither_torch_nor_executorch() -> None:
    """Reading a file imports neither torch nor ExecuTorch."""
    code = "import sys, quanthost.report.pte_file; print({'torch', 'executorch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
