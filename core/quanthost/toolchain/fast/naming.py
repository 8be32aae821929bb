"""New names of attributes in a graph module: torchao tries them all from zero for each observer and scale."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from quanthost.toolchain.fast.patching import Patch, entered

__all__ = ["counted_names"]

_NAME = "get_new_attr_name_with_prefix"


class _State(threading.local):
    def __init__(self) -> None:
        # the number after the last one given, by module and prefix; modules are held for their identity
        self.given: dict[tuple[int, str], tuple[nn.Module, int]] = {}


_STATE = _State()


def _counting(_: Callable[..., Any], prefix: str) -> Callable[[nn.Module], str]:
    prefix = prefix.replace(".", "_")

    def new_name(module: nn.Module) -> str:
        _, number = _STATE.given.get((id(module), prefix), (module, 0))
        while hasattr(module, f"{prefix}{number}"):
            number += 1
        # not yet taken: asked again, it is the answer again
        _STATE.given[id(module), prefix] = (module, number)
        return f"{prefix}{number}"

    return new_name


# by name, since the packages have functions of the same names as their modules
_USERS = ("torch.ao.quantization.fx.prepare", "torchao.quantization.pt2e.utils")
_PATCHES = tuple(Patch(importlib.import_module(user), _NAME, _counting) for user in _USERS)


@contextlib.contextmanager
def counted_names() -> Iterator[None]:
    """While entered, in this thread, a new name is looked for from the last one on."""
    with entered(_PATCHES):
        _STATE.given.clear()
        try:
            yield
        finally:
            _STATE.given.clear()
