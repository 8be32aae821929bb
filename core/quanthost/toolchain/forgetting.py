"""Graphs that the toolchain would remember for as long as the process lives, with their weights."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["forgotten_graphs"]

# caches without a limit whose keys are modules or nodes; in torchao 0.18, torch 2.13 and executorch 1.5.1
_CACHES = (
    ("torchao.utils", "_assert_and_get_unique_device"),
    ("torch.ao.quantization.fx.utils", "assert_and_get_unique_device"),
    ("executorch.exir.backend.utils", "is_same_node"),
)


@contextlib.contextmanager
def forgotten_graphs() -> Iterator[None]:
    """When left, the toolchain has forgotten the graphs that it saw: each would take its weights' memory."""
    try:
        yield
    finally:
        for module, name in _CACHES:
            clear = getattr(getattr(sys.modules.get(module), name, None), "cache_clear", None)
            if clear is not None:
                clear()
