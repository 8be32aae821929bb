"""Kernels of the runtime here, and operators that torch decomposes into some that it has."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quanthost.toolchain.kernels import base_of, decomposed, registered_delegates, registered_kernels


class Norm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cdist(x, x)


def test_what_the_runtime_has() -> None:
    """Kernels by operator and overload, delegates by name."""
    assert {"aten::add.out", "aten::convolution.out"} <= registered_kernels()
    assert "aten::median.out" not in registered_kernels()
    assert "XnnpackBackend" in registered_delegates()


@pytest.mark.parametrize(
    ("name", "base"),
    [("aten::sort.values", "sort"), ("aten.sort.default", "sort"), ("aten::view_copy.out", "view")],
)
def test_base(name: str, base: str) -> None:
    """One name for an operator, its overloads and its kernels; a view's copy has the view's."""
    assert base_of(name) == base


def test_an_operator_is_decomposed() -> None:
    """The program computes the same without it; what torch does not know stays."""
    x = torch.rand(3, 2)
    exported = torch.export.export(Norm(), (x,))

    program = decomposed(exported, {"cdist", "_cdist_forward"})

    assert program is None or torch.allclose(program.module()(x), Norm()(x), atol=1e-6)
    assert decomposed(exported, {"conv2d"}) is None


def test_without_torchs_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decomposed."""
    load = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch._decomp":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    exported = torch.export.export(Norm(), (torch.rand(3, 2),))
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert decomposed(exported, {"cdist"}) is None
