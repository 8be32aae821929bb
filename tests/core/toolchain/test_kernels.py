"""Kernels of the runtime here, and operators that torch decomposes into some that it has."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quanthost.graph.rewrite import ORIGIN
from quanthost.toolchain.kernels import (
    base_of,
    decomposed,
    has_kernel,
    registered_delegates,
    registered_kernels,
)


class Logit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.logit(x)


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 36).reshape(4, 3, 3))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.bilinear(x, y, self.weight)


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
    """The program computes the same without it; a program without it stays as it is."""
    x = torch.rand(3, 2) * 0.8 + 0.1
    exported = torch.export.export(Logit(), (x,))

    program = decomposed(exported, {"logit"}, [])

    assert program is not None
    assert not any("logit" in str(node.target) for node in program.graph.nodes)
    assert torch.allclose(program.module()(x), Logit()(x), atol=1e-6)
    assert decomposed(exported, {"conv2d"}, ["conv2d"]) is None


def test_a_composite_operator_is_decomposed() -> None:
    """It is the captured node that the refused operator comes from, or any where that is not known."""
    x = torch.rand(2, 3)
    exported = torch.export.export(Product(), (x, x))
    for node in exported.graph.nodes:
        node.meta["custom"] = {ORIGIN: node.name}

    for origins in (["bilinear"], []):
        program = decomposed(exported, {"_trilinear"}, origins)
        assert program is not None
        assert not any("linear" in str(node.target) for node in program.graph.nodes)
        assert torch.allclose(program.module()(x, x), Product()(x, x), atol=1e-6)


def test_without_torchs_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only torch knows is not decomposed."""
    load = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch._decomp":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    exported = torch.export.export(Logit(), (torch.rand(3, 2),))
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert decomposed(exported, {"logit"}, []) is None


@pytest.mark.parametrize(
    ("operator", "there"),
    [("aten.sort.default", False), ("aten.add.Tensor", True), ("aten.view.default", True), ("getitem", True)],
)
def test_has_kernel(operator: str, there: bool) -> None:
    """In any overload, and for a view by its copy."""
    assert has_kernel(operator) is there
