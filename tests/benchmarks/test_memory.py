"""The peak of memory, as the benchmark measures it, on a model that is large for a test."""

from __future__ import annotations

import functools
import sys

import incumbent
import memory
import pytest
import torch
from torch import nn


def wide() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """24 layers of 1536 x 1536: 216 MiB of weights."""
    return nn.Sequential(*[nn.Linear(1536, 1536) for _ in range(24)]), (torch.randn(1, 1536),)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's account of memory is Linux's")
@pytest.mark.parametrize("recipe", ["fp32", "int8_static", "int8_weight_only"])
def test_no_stage_holds_more_than_it_may(monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    """2.5 times the weights, of which the model is 1; capture and prepare copy nothing."""
    monkeypatch.setitem(memory.SUBJECTS, "wide", wide)
    found = incumbent.apart(functools.partial(memory.measured, "wide", recipe), 300.0)
    assert not found.failure
    assert found.seconds["weights_mib"] == pytest.approx(216, abs=0.2)
    assert found.seconds["model"] >= 0.98
    assert max(found.seconds[stage] for stage in ("capture", "prepare")) < 1.15
    assert max(found.seconds[stage] for stage in memory.STAGES) <= memory.LIMIT
