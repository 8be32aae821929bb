"""Replaces a function of the toolchain temporarily, for the current thread only."""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from quanthost.toolchain.active import note
from quanthost.toolchain.fingerprints import Fingerprints

__all__ = ["Replacement", "replace_all"]


class Replacement:
    """Calls ``instead(original, *arguments)`` in place of a function of the toolchain, while entered.

    Only the thread that enters it is affected. When the last thread leaves, also after an exception, the
    toolchain has its own function again. If the function does not exist, or ``fingerprints`` do not accept
    its source, nothing is replaced, and the record of the program says so. ::

        SKIPS = Replacement("executorch.some_module:Manager.__init__", instead, FINGERPRINTS)

        with SKIPS.entered():
            ...

    Args:
        target: ``"package.module:function"`` or ``"package.module:Class.function"``: a function, a method, a
            class method, or a property, whose getter is replaced.
        instead: Receives the original function, then the arguments; for a class method, the class first.
        fingerprints: The accepted sources of the function; any source if ``None``.
    """

    def __init__(
        self, target: str, instead: Callable[..., Any], fingerprints: Fingerprints | None = None
    ) -> None:
        self.target = target
        self._instead, self._fingerprints = instead, fingerprints
        module, _, path = target.partition(":")
        self._module, (*self._path, self._name) = module, path.split(".")
        self._entered = threading.local()
        self._lock = threading.Lock()
        self._depth = 0
        self._original: Any = None

    def original(self) -> Any:
        """The toolchain's function as stored in its class or module, possibly as a descriptor.

        Raises:
            ImportError: its module does not exist.
            AttributeError: its class or the function does not exist.
        """
        owner = self._owner()
        try:
            return vars(owner)[self._name]
        except KeyError:
            raise AttributeError(f"{self.target} is not there") from None

    def _owner(self) -> Any:
        module = importlib.import_module(self._module)
        return functools.reduce(getattr, self._path, module)

    def fits(self) -> bool:
        """Whether the function exists and is accepted; if not, a note says why."""
        try:
            original = self.original()
        except (ImportError, AttributeError) as error:
            note(f"{self.target} is not replaced: {error}")
            return False
        return self._fingerprints is None or self._fingerprints.accept(original, self.target)

    @contextlib.contextmanager
    def entered(self) -> Iterator[bool]:
        """Replace the function for this thread, and yield whether it is replaced."""
        if not self.fits():
            yield False
            return
        before = getattr(self._entered, "here", False)
        owner = self._owner()
        with self._lock:
            if self._depth == 0:
                self._original = vars(owner)[self._name]
                setattr(owner, self._name, self._wrap(self._original))
            self._depth += 1
        self._entered.here = True
        try:
            yield True
        finally:
            self._entered.here = before
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    setattr(owner, self._name, self._original)

    def _wrap(self, original: Any) -> Any:
        if isinstance(original, property):
            return property(self._dispatch(original.fget), original.fset, original.fdel, original.__doc__)
        if isinstance(original, classmethod):
            return classmethod(self._dispatch(original.__func__))
        return self._dispatch(original)

    def _dispatch(self, original: Any) -> Callable[..., Any]:
        @functools.wraps(original)
        def dispatch(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._entered, "here", False):
                return self._instead(original, *args, **kwargs)
            return original(*args, **kwargs)

        return dispatch


@contextlib.contextmanager
def replace_all(*replacements: Replacement) -> Iterator[None]:
    """Replace several functions that depend on one another for this thread: all of them, or none."""
    with contextlib.ExitStack() as stack:
        # a list, so that each function that does not fit adds its note
        fits = [each.fits() for each in replacements]
        if all(fits):
            for each in replacements:
                stack.enter_context(each.entered())
        yield
