"""A loaded program: what it is given, what it gives, and how its failures are told."""

from __future__ import annotations

import gc
import re
import threading
from typing import Any

import pytest
import torch
from flow_nets import BACKEND, rand, seeded
from torch import nn

import quanthost
from quanthost.errors import ProgramError
from quanthost.toolchain.runtime import Executor, register_kernels


class Layer(nn.Module):
    """A linear layer over the last of four dimensions, and a copy of the input's sum."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        seeded(self)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(x), x.sum(-1)


X = rand(2, 3, 5, 4)


@pytest.fixture(scope="module")
def program() -> bytes:
    return quanthost.quantize(Layer(), X, BACKEND, recipe="fp32").buffer


def test_outputs(program: bytes) -> None:
    """A list of tensors, near the model's."""
    got = Executor(program)([X])
    wanted = Layer()(X)
    assert len(got) == 2
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got, wanted))


@pytest.mark.parametrize(
    "given",
    [
        X.to(memory_format=torch.channels_last),
        X.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        torch.cat([X, X], 1)[:, ::2],
        rand(1, 1, 1, 4).expand(2, 3, 5, 4),
    ],
    ids=["channels last", "transposed", "strided", "expanded"],
)
def test_inputs_of_any_layout(program: bytes, given: torch.Tensor) -> None:
    """A program reads memory in order; what lies otherwise is put in order first."""
    assert not given.is_contiguous()
    got = Executor(program)([given])
    assert torch.allclose(got[0], Layer()(given)[0], atol=1e-5)
    assert torch.allclose(got[1], given.sum(-1), atol=1e-5)


def test_outputs_are_memory_of_their_own(program: bytes) -> None:
    """A method has one set of buffers; the next call does not change the earlier result."""
    executor = Executor(program)
    first = executor([X])
    kept = [each.clone() for each in first]
    executor([X * 3])
    assert all(torch.equal(a, b) for a, b in zip(first, kept))


def test_the_program_is_kept_alive(program: bytes) -> None:
    """The runtime reads from the bytes for as long as it runs."""
    executor = Executor(bytes(bytearray(program)))
    wanted = [each.clone() for each in executor([X])]
    for _ in range(5):
        gc.collect()
        filler = [bytearray(len(program)) for _ in range(1000)]
        assert all(torch.equal(a, b) for a, b in zip(executor([X]), wanted))
        del filler


def test_one_call_at_a_time(program: bytes) -> None:
    """The native method is never entered twice at once."""
    executor = Executor(program)
    executor([X])
    inside, most = [0], [0]
    forward = executor._module.forward

    class Watched:
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            try:
                return forward(*args, **kwargs)
            finally:
                inside[0] -= 1

    executor._module = Watched()
    threads = [threading.Thread(target=lambda: [executor([X]) for _ in range(30)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert most == [1]


@pytest.mark.parametrize("data", [b"", b"not a program", bytes(4096)], ids=["empty", "text", "zeros"])
def test_bytes_that_are_no_program(data: bytes) -> None:
    """The runtime's own words are part of the message."""
    with pytest.raises(ProgramError, match=r"^the ExecuTorch runtime could not load the program: ") as caught:
        Executor(data)
    assert re.search(r"\n    \[\w+\.(cpp|h):\d+\]", str(caught.value))
    assert caught.value.where == "runtime modules loaded: none"
    assert caught.value.stage == "run"


def test_a_program_that_was_cut_off(program: bytes) -> None:
    """Refused when it is loaded or at the first call, never a crash."""
    with pytest.raises(ProgramError, match=r"could not (load|execute) the program"):
        Executor(program[: len(program) // 2])([X])


def test_inputs_that_the_runtime_refuses(program: bytes) -> None:
    """What the native library wrote about it is told; the program can be used again."""
    executor = Executor(program, ["executorch.kernels.quantized"])
    with pytest.raises(ProgramError, match="could not execute the program") as caught:
        executor([rand(2, 3)])
    text = str(caught.value)
    assert "\n    [tensor_impl.cpp:" in text
    assert "where:  runtime modules loaded: executorch.kernels.quantized" in text
    assert torch.allclose(executor([X])[0], Layer()(X)[0], atol=1e-5)


def test_a_refusal_is_told_once(program: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """What is known when it fails is shown by the runtime; the second try, to listen, is not heard."""
    executor = Executor(program)
    executor([X])
    capfd.readouterr()
    with pytest.raises(ProgramError) as caught:
        executor([rand(2, 3)])
    shown = capfd.readouterr().err.splitlines()
    assert [line for line in shown if line not in str(caught.value)] == []
    assert len(shown) == len(set(shown))


def test_the_first_call_is_quiet(program: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """A delegate's library does not introduce itself."""
    Executor(program)([X])
    assert capfd.readouterr().err == ""


def test_kernels_are_registered_by_import() -> None:
    """A module that does not exist is an error of import."""
    register_kernels(["executorch.kernels.quantized"])
    with pytest.raises(ModuleNotFoundError, match="no_such_kernels"):
        register_kernels(["no_such_kernels"])
