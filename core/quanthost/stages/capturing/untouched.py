"""Puts a model back as it was after its forward ran: modes, attributes, and what its containers hold."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeAlias

from torch import nn

__all__ = ["left_as_it_was"]

_Container: TypeAlias = "dict[Any, Any] | list[Any] | set[Any] | deque[Any]"


@contextlib.contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Restore every module's attributes, and all dictionaries, lists and sets among them.

    Tensors are put back by identity; their values are not copied, for tracing does not change them.
    """
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    seen: set[int] = set()
    held = [(c, _content(c)) for _, own in attributes for v in own.values() for c in _containers(v, seen)]
    try:
        yield
    finally:
        for module, own in attributes:
            vars(module).clear()
            vars(module).update(own)
        for container, content in held:
            _restore(container, content)


def _containers(value: Any, seen: set[int]) -> Iterator[_Container]:
    """What can be changed in place, in a value and in what it holds."""
    if id(value) in seen or not isinstance(value, (dict, list, set, tuple, deque)):
        return
    seen.add(id(value))
    if not isinstance(value, tuple):
        yield value
    for item in value.values() if isinstance(value, dict) else value:
        yield from _containers(item, seen)


def _content(container: _Container) -> list[Any]:
    return list(container.items()) if isinstance(container, dict) else list(container)


def _restore(container: _Container, content: list[Any]) -> None:
    now = _content(container)
    if len(now) == len(content) and all(map(_is_same, now, content)):
        return
    container.clear()
    if isinstance(container, (dict, set)):
        container.update(content)
    else:
        container.extend(content)


def _is_same(first: Any, second: Any) -> bool:
    """By identity, items of a dictionary by that of key and value: comparing tensors gives no truth value."""
    if first is second:
        return True
    pairs = type(first) is type(second) is tuple and len(first) == len(second)
    return pairs and all(a is b for a, b in zip(first, second))
