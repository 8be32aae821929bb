"""Graph modules compiled when they are called, in one thread, for a while."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from quanthost.toolchain.fast.lazy_code import compiled_when_called


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
