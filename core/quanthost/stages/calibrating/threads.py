"""Runs whole batches in parallel threads, for models whose results do not depend on the order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch import fx

from quanthost.graph.operators import draws

__all__ = ["ThreadTeam", "may_run_in_threads"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# more threads would wait for Python's lock
_MAX_THREADS = 8


def may_run_in_threads(module: fx.GraphModule) -> bool:
    """Whether the module draws no random numbers: threads would draw them from one generator in any order."""
    graphs = [part.graph for part in module.modules() if isinstance(part, fx.GraphModule)]
    return not any(draws(node) for graph in graphs for node in graph.nodes)


class ThreadTeam(Generic[_Item, _Result]):
    """Applies a function to items in parallel threads.

    It uses as many threads as torch has, at most eight, and divides torch's own threads among them: threads
    that split single operators would wait for each other, and change the bits of sums. Up to eight threads
    give the same bits as one.

    Args:
        work: Called with an item, by several threads at once.
        threads: Whether several threads are allowed; else one item runs after the other.
        alone: Whether an item needs the whole machine; it then runs in the calling thread, with all of
            torch's threads.
    """

    def __init__(
        self, work: Callable[[_Item], _Result], *, threads: bool, alone: Callable[[_Item], bool]
    ) -> None:
        self._work, self._alone = work, alone
        self._all = torch.get_num_threads()
        self.size = min(self._all, _MAX_THREADS) if threads else 1
        self._share = self._all // self.size
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> ThreadTeam[_Item, _Result]:
        if self.size > 1:
            self._pool = ThreadPoolExecutor(self.size, "quanthost", torch.set_num_threads, (self._share,))
            # idle torch threads of the calling thread would spin on a core that the workers need
            torch.set_num_threads(self._share)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._all)

    def map(self, items: Iterable[_Item]) -> Iterator[_Result]:
        """The results in the order of the items, which are drawn as threads become free.

        An error of ``work``, or of drawing the next item, is raised at the place of its item.
        """
        running: deque[Future[_Result]] = deque()
        iterator = iter(items)
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                break
            except Exception:
                # an item before this one may have failed too
                yield from _drain(running)
                raise
            if self._pool is None:
                yield self._work(item)
                continue
            if self._alone(item):
                yield from _drain(running)
                yield self._with_all_threads(item)
                continue
            running.append(self._pool.submit(self._work, item))
            # one item waits, so that the first free thread has work
            if len(running) > self.size:
                yield running.popleft().result()
        yield from _drain(running)

    def _with_all_threads(self, item: _Item) -> _Result:
        torch.set_num_threads(self._all)
        try:
            return self._work(item)
        finally:
            torch.set_num_threads(self._share)


def _drain(running: deque[Future[Any]]) -> Iterator[Any]:
    while running:
        yield running.popleft().result()
