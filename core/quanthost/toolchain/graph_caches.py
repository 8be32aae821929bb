"""Clears the toolchain's caches, which would keep graphs and their weights until the process ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["clear_graph_caches"]

# unlimited caches whose keys are modules or nodes, in torchao 0.18, torch 2.13 and executorch 1.5.1
_CACHES = (
    ("torchao.utils", "_assert_and_get_unique_device"),
    ("torch.ao.quantization.fx.utils", "assert_and_get_unique_device"),
    ("executorch.exir.backend.utils", "is_same_node"),
)


@contextlib.contextmanager
def clear_graph_caches() -> Iterator[None]:
    """Clear the caches on exit, so that graphs free their weights' memory."""
    try:
        yield
    finally:
        for module, name in _CACHES:
            clear = getattr(getattr(sys.modules.get(module), name, None), "cache_clear", None)
            if clear is not None:
                clear()
