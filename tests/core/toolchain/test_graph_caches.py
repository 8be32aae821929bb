"""What the toolchain remembers of a model that nobody has any more: nothing."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import torch
from torch import nn

import quanthost
from quanthost.toolchain.graph_caches import _CACHES, clear_graph_caches

pytestmark = pytest.mark.slow


def weights_after(toolchain: str) -> list[torch.Tensor | None]:
    """The weights of a model that went all the way, once the model and what was made of it are dropped."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    inputs = (torch.randn(1, 3, 8, 8),)
    prepared = quanthost.prepare(quanthost.capture(model, inputs), backend="xnnpack_like")
    program = quanthost.lower(quanthost.convert(quanthost.calibrate(prepared, [inputs])), toolchain=toolchain)
    program.run(*inputs)
    held = [weakref.ref(weight) for weight in (model[0].weight, model[3].weight)]
    del model, prepared, program
    gc.collect()
    return [each() for each in held]


@pytest.mark.parametrize("toolchain", ["fast", "upstream"])
def test_weights_of_a_model_that_is_gone(toolchain: str) -> None:
    """They are freed: tens of runs in one process take the memory of one."""
    assert weights_after(toolchain) == [None, None]


def filled_then_stopped() -> None:
    with clear_graph_caches():
        for module, name in _CACHES[:2]:
            cache = getattr(sys.modules[module], name)
            cache(nn.Linear(1, 1))
            assert cache.cache_info().currsize == 1
        raise RuntimeError("stopped")


def test_what_is_forgotten() -> None:
    """Each cache is there, and is empty when the work is done, and also when it failed."""
    weights_after("fast")
    with pytest.raises(RuntimeError, match="stopped"):
        filled_then_stopped()

    assert [getattr(sys.modules[module], name).cache_info().currsize for module, name in _CACHES] == [0, 0, 0]
