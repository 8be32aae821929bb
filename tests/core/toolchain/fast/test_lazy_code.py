"""Graph modules compiled when they are called, in one thread, for a while."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, fx, nn

from quanthost.toolchain.fast.lazy_code import compiled_when_called
from quanthost.toolchain.fast.patching import Patch


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


X = torch.tensor([-1.0, 2.0])


def _negate(module: fx.GraphModule) -> None:
    (relu,) = module.graph.find_nodes(op="call_function", target=torch.relu)
    relu.target = torch.neg
    module.recompile()


def test_a_change_is_seen_by_the_next_call() -> None:
    """Inside and after the block, also of modules that are made or copied in it."""
    given = fx.symbolic_trace(Net())
    with compiled_when_called():
        _negate(given)
        made = fx.GraphModule(given, given.graph)
        inside = made(X)
    assert torch.equal(given(X), -X)
    assert torch.equal(inside, -X)
    assert torch.equal(made(X), -X)


def test_code_is_written_only_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, however often a pass recompiled it."""
    written: list[fx.Graph] = []
    python_code = fx.Graph.python_code
    monkeypatch.setattr(
        fx.Graph,
        "python_code",
        lambda graph, *a, **k: (written.append(graph), python_code(graph, *a, **k))[1],
    )
    module = fx.symbolic_trace(Net())
    written.clear()

    with compiled_when_called():
        for _ in range(5):
            module.recompile()
        assert written == []
        module(X)
        module(X)
    assert len(written) == 1


def test_exported_modules_keep_their_arguments() -> None:
    """Their code knows the structure of inputs and outputs."""

    class Named(nn.Module):
        def forward(self, pair: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sum": pair["a"] + pair["b"]}

    pair = {"a": X, "b": X}
    module = torch.export.export(Named(), (pair,)).module(check_guards=False)
    with compiled_when_called():
        module.recompile()
    assert torch.equal(module(pair)["sum"], 2 * X)


class Owner:
    def said(self) -> str:
        return "its own"


def test_a_patch_is_of_one_thread() -> None:
    """Others see the method as it was, and at the end it is."""
    patch = Patch(Owner, "said", lambda original, self: f"not {original(self)}")
    before = Owner.said
    heard: list[str] = []
    with patch.entered(), patch.entered():
        thread = threading.Thread(target=lambda: heard.append(Owner().said()))
        thread.start()
        thread.join()
        assert Owner().said() == "not its own"
    assert heard == ["its own"]
    assert Owner.said is before


def test_a_patch_outlives_the_first_thread_that_leaves() -> None:
    """As long as another is inside."""
    patch = Patch(Owner, "said", lambda original, self: "another")
    inside, leave = threading.Event(), threading.Event()
    heard: list[str] = []

    def stay() -> None:
        with patch.entered():
            inside.set()
            leave.wait(10)
            heard.append(Owner().said())

    thread = threading.Thread(target=stay)
    with patch.entered():
        thread.start()
        assert inside.wait(10)
    assert Owner().said() == "its own"
    leave.set()
    thread.join()
    assert heard == ["another"]
    assert Owner().said() == "its own"
