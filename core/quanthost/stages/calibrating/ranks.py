"""Calibration in several processes under ``torchrun``: gathers the statistics, or the error, of each rank."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist

from quanthost.errors import CalibrationError, QuanthostError
from quanthost.stages.calibrating.statistics import Statistics, merge_statistics

__all__ = ["Ranks", "is_distributed", "process_group"]

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FAILED = b"failed\n"
_GROUPS = itertools.count()


def is_distributed() -> bool:
    """Whether this process is one of several that calibrate together."""
    if dist.is_available() and dist.is_initialized():
        return bool(dist.get_world_size() > 1)
    return all(name in os.environ for name in _ENVIRONMENT) and os.environ["WORLD_SIZE"] != "1"


@contextlib.contextmanager
def process_group() -> Iterator[Ranks | None]:
    """The process group of this run, ``None`` for a single process.

    A group that is initialized keeps its backend and its timeout; under ``torchrun`` a gloo group is created
    and destroyed again.

    Raises:
        CalibrationError: the other ranks cannot be reached.
    """
    if not dist.is_available():
        yield None
        return
    owned = not dist.is_initialized() and all(name in os.environ for name in _ENVIRONMENT)
    if owned:
        _initialize()
    try:
        single = not dist.is_initialized() or dist.get_world_size() == 1
        yield None if single else Ranks()
    finally:
        if owned and dist.is_initialized():
            dist.destroy_process_group()


def _initialize() -> None:
    try:
        store, rank, size = _rendezvous()
        own = dist.PrefixStore(f"quanthost/{next(_GROUPS)}", store)
        dist.init_process_group("gloo", store=own, rank=rank, world_size=size)
    except RuntimeError as error:
        raise _no_answer(f"rank {os.environ['RANK']}", error) from error


@functools.cache
def _rendezvous() -> tuple[dist.Store, int, int]:
    """The store of ``torchrun``, this rank, and the number of ranks.

    The store outlives a group and keeps its addresses, so each group uses its own keys.
    """
    store, rank, size = next(iter(dist.rendezvous("env://")))
    return store, rank, size


def _no_answer(who: str, error: RuntimeError) -> CalibrationError:
    return CalibrationError(
        f"a rank does not answer {who}: {str(error).strip().splitlines()[0]}",
        needed="the statistics of each rank", stage="calibrate",
        remedy="read the errors of the other ranks, and run again; with a checkpoint, calibration resumes",
    )  # fmt: skip


class Ranks:
    """Exchanges the results of a group's processes, once, at the end."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def report_failure(self, error: QuanthostError) -> None:
        """Tell the other ranks that this one failed; whether they receive it is not checked."""
        with contextlib.suppress(CalibrationError):
            self._exchange(_FAILED + json.dumps(str(error)).encode())

    def merge(self, statistics: Statistics) -> Statistics:
        """The statistics of all ranks; each rank gets the same bits.

        Raises:
            CalibrationError: another rank failed, or did not answer within the timeout of the group.
        """
        parts = self._exchange(statistics.to_bytes())
        for rank, part in enumerate(parts):
            if part.startswith(_FAILED):
                raise CalibrationError(
                    f"rank {rank} failed: {json.loads(part.removeprefix(_FAILED))}", stage="calibrate",
                    needed="the statistics of each rank",
                    remedy=f"fix the error on rank {rank}, and run again",
                )  # fmt: skip
        return merge_statistics(
            Statistics.from_bytes(part, where=f"rank {rank}") for rank, part in enumerate(parts)
        )

    def _exchange(self, content: bytes) -> list[bytes]:
        try:
            size = torch.tensor([len(content)])
            sizes = [torch.zeros_like(size) for _ in range(self.size)]
            dist.all_gather(sizes, size)
            padded = torch.zeros(int(max(sizes)), dtype=torch.uint8)
            padded[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            gathered = [torch.zeros_like(padded) for _ in range(self.size)]
            dist.all_gather(gathered, padded)
        except RuntimeError as error:
            raise _no_answer(f"rank {self.rank}", error) from error
        return [bytes(part[: int(size)].numpy()) for part, size in zip(gathered, sizes)]
