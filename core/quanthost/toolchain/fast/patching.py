"""A function of the toolchain replaced for a while, in the threads that ask for it and in no other."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["Patch", "entered"]


class Patch:
    """``instead(original, *arguments)`` in place of the function ``name`` of ``owner``, while entered.

    ``owner`` is a class or a module; of a property the getter is replaced. ``original`` is the function as it
    was; that of a class method takes the class first. The owner has its own back when the last thread leaves,
    also after an exception.
    """

    def __init__(self, owner: Any, name: str, instead: Callable[..., Any]) -> None:
        self._owner, self._name, self._instead = owner, name, instead
        self._entered = threading.local()
        self._lock = threading.Lock()
        self._depth = 0
        self._original: Any = None

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Replace the function for this thread."""
        before = getattr(self._entered, "here", False)
        with self._lock:
            if self._depth == 0:
                self._original = vars(self._owner)[self._name]
                setattr(self._owner, self._name, self._replaced(self._original))
            self._depth += 1
        self._entered.here = True
        try:
            yield
        finally:
            self._entered.here = before
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    setattr(self._owner, self._name, self._original)

    def _replaced(self, original: Any) -> Any:
        if isinstance(original, property):
            return property(self._patched(original.fget), original.fset, original.fdel, original.__doc__)
        if isinstance(original, classmethod):
            return classmethod(self._patched(original.__func__))
        return self._patched(original)

    def _patched(self, original: Any) -> Callable[..., Any]:
        @functools.wraps(original)
        def replaced(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._entered, "here", False):
                return self._instead(original, *args, **kwargs)
            return original(*args, **kwargs)

        return replaced


@contextlib.contextmanager
def entered(patches: Iterable[Patch]) -> Iterator[None]:
    """Several patches at once."""
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch.entered())
        yield
