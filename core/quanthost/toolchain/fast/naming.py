"""Faster names in graph modules: torchao tries new names from zero, torch compares each with all siblings."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from quanthost.toolchain.fast.accepted_code import FINGERPRINTS
from quanthost.toolchain.replacement import Replacement, replace_all

__all__ = ["compared_names", "counted_names"]

_NAME = "get_new_attr_name_with_prefix"


class _State(threading.local):
    def __init__(self) -> None:
        # the next number by module and prefix; entries refer to modules, so that their ids stay unique
        self.numbers: dict[tuple[int, str], tuple[nn.Module, int]] = {}


_STATE = _State()


def _name_counter(_: Callable[..., Any], prefix: str) -> Callable[[nn.Module], str]:
    prefix = prefix.replace(".", "_")

    def new_name(module: nn.Module) -> str:
        _, number = _STATE.numbers.get((id(module), prefix), (module, 0))
        while hasattr(module, f"{prefix}{number}"):
            number += 1
        # the name is not in use yet: a second call returns it again
        _STATE.numbers[id(module), prefix] = (module, number)
        return f"{prefix}{number}"

    return new_name


def _is_call_name(original: Any, call_name: str, base: str) -> bool:
    """Whether a submodule's name is ``base`` or ``base@1``, ``base@2``, …, as in torch."""
    return call_name == base or (
        call_name.startswith(base) and call_name[len(base)] == "@" and call_name[len(base) + 1 :].isdecimal()
    )


_COUNTED = tuple(
    Replacement(f"{module}:{_NAME}", _name_counter, FINGERPRINTS)
    for module in ("torch.ao.quantization.fx.prepare", "torchao.quantization.pt2e.utils")
)
_COMPARED = Replacement("torch.export.unflatten:_is_call_name", _is_call_name, FINGERPRINTS)
REPLACEMENTS = (*_COUNTED, _COMPARED)


def compared_names() -> AbstractContextManager[None]:
    """While entered, in this thread, names of submodules are compared without a regular expression for each.

    To put a weight into its module, torch compares the names of all its siblings.
    """
    return replace_all(_COMPARED)


@contextlib.contextmanager
def counted_names() -> Iterator[None]:
    """While entered, in this thread, the search for a new name starts at the last one."""
    with contextlib.ExitStack() as stack:
        for each in _COUNTED:
            stack.enter_context(each.entered())
        _STATE.numbers.clear()
        try:
            yield
        finally:
            _STATE.numbers.clear()
