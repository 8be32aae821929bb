"""Restores a model after its forward ran: modes, attributes, and the contents of its containers."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeAlias

from torch import nn

__all__ = ["unchanged"]

_Container: TypeAlias = "dict[Any, Any] | list[Any] | set[Any] | deque[Any]"


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore every module's attributes on exit, and the dictionaries, lists and sets among them.

    Tensors are restored by identity; their values are not copied, since tracing does not change them.
    """
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    visited: set[int] = set()
    contents = [
        (container, _content(container))
        for _, own in attributes
        for value in own.values()
        for container in _containers(value, visited)
    ]
    try:
        yield
    finally:
        for module, own in attributes:
            vars(module).clear()
            vars(module).update(own)
        for container, content in contents:
            _restore(container, content)


def _containers(value: Any, visited: set[int]) -> Iterator[_Container]:
    """The value and its items, at any depth, that are mutable containers."""
    if id(value) in visited or not isinstance(value, (dict, list, set, tuple, deque)):
        return
    visited.add(id(value))
    if not isinstance(value, tuple):
        yield value
    for item in value.values() if isinstance(value, dict) else value:
        yield from _containers(item, visited)


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
    """Compares by identity, dictionary items by key and value: ``==`` on tensors gives no truth value."""
    if first is second:
        return True
    pairs = type(first) is type(second) is tuple and len(first) == len(second)
    return pairs and all(a is b for a, b in zip(first, second))
