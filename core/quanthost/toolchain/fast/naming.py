"""Names in a graph module: torchao tries new ones from zero, torch compares each with all its siblings."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from quanthost.toolchain.fast.proved import FINGERPRINTS
from quanthost.toolchain.replacement import Replacement, replaced

__all__ = ["compared_names", "counted_names"]

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


def _is_call_name(original: Any, call_name: str, base: str) -> bool:
    """Whether a submodule's name is ``base`` or ``base@1``, ``base@2``, …, as torch asks it."""
    return call_name == base or (
        call_name.startswith(base) and call_name[len(base)] == "@" and call_name[len(base) + 1 :].isdecimal()
    )


_COUNTED = tuple(
    Replacement(f"{module}:{_NAME}", _counting, FINGERPRINTS)
    for module in ("torch.ao.quantization.fx.prepare", "torchao.quantization.pt2e.utils")
)
_COMPARED = Replacement("torch.export.unflatten:_is_call_name", _is_call_name, FINGERPRINTS)
REPLACEMENTS = (*_COUNTED, _COMPARED)


def compared_names() -> AbstractContextManager[None]:
    """While entered, in this thread, names of submodules are compared without a pattern for each of them.

    torch puts each weight into its module by asking the names of all its siblings.
    """
    return replaced(_COMPARED)


@contextlib.contextmanager
def counted_names() -> Iterator[None]:
    """While entered, in this thread, a new name is looked for from the last one on."""
    with contextlib.ExitStack() as stack:
        for each in _COUNTED:
            stack.enter_context(each.entered())
        _STATE.given.clear()
        try:
            yield
        finally:
            _STATE.given.clear()
