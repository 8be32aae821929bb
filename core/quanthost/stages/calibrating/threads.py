"""Batches abreast: a thread runs whole batches; threads that share each operator wait for each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

__all__ = ["Team"]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")
# more would wait for each other at Python's lock
_MOST = 8


class Team(Generic[_Item, _Made]):
    """Does a work for one item after the other, as many at a time as there are threads.

    There are as many threads as torch has, at most eight, and torch's own are dealt out among them. So up to
    eight give the bits that one gives, which threads that share operators do not. An item that is to be
    ``alone`` is worked on in the thread that asks for it, with all of torch's threads.

    Args:
        work: Called with an item, by several threads at once.
        threads: Whether there may be several; else the items are worked on one after the other.
        alone: Whether an item is to have the machine for itself.
    """

    def __init__(
        self, work: Callable[[_Item], _Made], *, threads: bool, alone: Callable[[_Item], bool]
    ) -> None:
        self._work, self._alone = work, alone
        self._all = torch.get_num_threads()
        self.size = min(self._all, _MOST) if threads else 1
        self._share = self._all // self.size
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Team[_Item, _Made]:
        if self.size > 1:
            self._pool = ThreadPoolExecutor(self.size, "quanthost", torch.set_num_threads, (self._share,))
            # helpers of this thread would wait for its next operator on a processor that the others need
            torch.set_num_threads(self._share)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._all)

    def each(self, items: Iterable[_Item]) -> Iterator[_Made]:
        """What the work gives for each item, in their order; they are drawn as threads become free.

        An error of the work, or of drawing the next item, is raised in the place of its item.
        """
        begun: deque[Future[_Made]] = deque()
        drawn = iter(items)
        while True:
            try:
                item = next(drawn)
            except StopIteration:
                break
            except Exception:
                # an item before this one may have failed too
                yield from _rest(begun)
                raise
            if self._pool is None:
                yield self._work(item)
                continue
            if self._alone(item):
                yield from _rest(begun)
                yield self._by_all(item)
                continue
            begun.append(self._pool.submit(self._work, item))
            # one more than there are threads, for the first that is ready
            if len(begun) > self.size:
                yield begun.popleft().result()
        yield from _rest(begun)

    def _by_all(self, item: _Item) -> _Made:
        torch.set_num_threads(self._all)
        try:
            return self._work(item)
        finally:
            torch.set_num_threads(self._share)


def _rest(begun: deque[Future[Any]]) -> Iterator[Any]:
    while begun:
        yield begun.popleft().result()
