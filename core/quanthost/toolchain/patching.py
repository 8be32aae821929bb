"""A method of the toolchain replaced for a while, in the threads that ask for it and in no other."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Patch"]


class Patch:
    """``instead(original, *arguments)`` in place of the method ``name`` of ``owner``, while entered.

    ``original`` is the method as it was. The owner has its own method back when the last thread leaves,
    also after an exception.
    """

    def __init__(self, owner: Any, name: str, instead: Callable[..., Any]) -> None:
        self._owner, self._name, self._instead = owner, name, instead
        self._entered = threading.local()
        self._lock = threading.Lock()
        self._depth = 0

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Replace the method for this thread."""
        before = getattr(self._entered, "here", False)
        with self._lock:
            if self._depth == 0:
                setattr(self._owner, self._name, self._patched(getattr(self._owner, self._name)))
            self._depth += 1
        self._entered.here = True
        try:
            yield
        finally:
            self._entered.here = before
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    setattr(self._owner, self._name, getattr(self._owner, self._name).__wrapped__)

    def _patched(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def method(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._entered, "here", False):
                return self._instead(original, *args, **kwargs)
            return original(*args, **kwargs)

        return method
