"""A cache folder: statistics by model and data, programs by all that goes into them.

Entries are named by digests and written whole, so that processes can share the folder, and a killed process
leaves no partial entry. An unreadable entry counts as missing. The folder can be deleted at any time. If it
cannot be written to, a run goes on without it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from quanthost.errors import ProgramError, QuanthostError, StatisticsError
from quanthost.host.eviction import evict, size_limit
from quanthost.host.folders import VARIABLE, code_digest, default_folder
from quanthost.host.registry import Group, registered
from quanthost.stages.calibrating import ranks
from quanthost.stages.calibrating.calibrate import collect_statistics, digest_of_data
from quanthost.stages.calibrating.observing import data_observers, source_of_statistics
from quanthost.stages.calibrating.statistics import Statistics
from quanthost.stages.lowering.files import read_program
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.progress import Progress
from quanthost.stages.records import CalibratedModel, PreparedModel
from quanthost.toolchain.active import current
from quanthost.values import digest, to_data

__all__ = ["Cache", "program_key"]

_TOOLCHAIN = ("torch", "torchao", "executorch")


@attrs.define
class Cache:
    """The entries below a folder, of ``limit`` bytes at most; ``writes`` until that fails once."""

    folder: Path = attrs.field(converter=Path)
    limit: int = attrs.field(factory=size_limit)
    writes: bool = attrs.field(default=True, init=False)

    @classmethod
    def of(cls, folder: Path | str | bool | None) -> Cache | None:
        """``True`` is the default folder, ``False`` no cache, ``None`` that of ``QUANTHOST_CACHE`` if set.

        Raises:
            RequestError: ``QUANTHOST_CACHE_SIZE`` is no size.
        """
        if folder is None:
            folder = bool(os.environ.get(VARIABLE))
        if folder is False:
            return None
        cache = cls(default_folder() if folder is True else Path(folder))
        with cache._writing():
            for each in (cache._statistics, cache._programs):
                each.mkdir(parents=True, exist_ok=True)
        return cache

    @property
    def _statistics(self) -> Path:
        return self.folder / "statistics"

    @property
    def _programs(self) -> Path:
        return self.folder / "programs"

    def statistics(self, prepared: PreparedModel, batches: Iterable[Any], progress: Progress) -> Statistics:
        """The statistics of the data: read from the cache, or collected now and stored.

        Data is read twice: for its digest, and, on a cache miss, to observe it. A stopped calibration resumes
        from its checkpoint. A generator, which can be read only once, is calibrated again each time. So is a
        run of several ranks.
        """
        if ranks.is_distributed() or iter(batches) is batches:
            return collect_statistics(prepared, batches, progress)
        key = digest((to_data(source_of_statistics(prepared)), digest_of_data(prepared, batches)))
        path = self._statistics / f"{_name(key)}.safetensors"
        observed = data_observers(prepared.module).keys()
        stored = _read_statistics(path)
        if stored is not None and observed <= stored.tensors.keys():
            progress.note(f"{stored.batches} batches from the cache")
            _touch(path)
            return stored
        checkpoint = self._statistics / f"{_name(digest((key, sorted(observed))))}.begun.safetensors"
        if self.writes and _read_statistics(checkpoint) is None:
            with self._writing():
                checkpoint.unlink(missing_ok=True)
        statistics = collect_statistics(
            prepared, batches, progress, checkpoint=checkpoint if self.writes else None, unsaved=self._give_up
        )
        if stored is not None:
            statistics = attrs.evolve(statistics, tensors={**stored.tensors, **statistics.tensors})
        if self.writes:
            with self._writing():
                statistics.save(path)
                checkpoint.unlink(missing_ok=True)
        return statistics

    def program(self, key: str, prepared: PreparedModel) -> LoweredProgram | None:
        """The program that is stored under a key, with the backend's own runner if it has one."""
        path = self._programs / f"{_name(key)}.pte"
        try:
            buffer, record = read_program(path)
        except (OSError, QuanthostError):
            return None
        _touch(path)
        runner = prepared.plugins.runner(buffer, prepared.request, record.pieces)
        return LoweredProgram(buffer=buffer, record=record, runner=runner)

    def keep(self, key: str, program: LoweredProgram) -> None:
        """Store a program under a key."""
        if self.writes:
            with self._writing():
                program.save(self._programs / f"{_name(key)}.pte")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """While entered, entries may be written; then old ones are evicted. A failure warns, once."""
        try:
            yield
            evict((self._statistics, self._programs), self.limit)
        except (OSError, ProgramError, StatisticsError) as error:
            self._give_up(error)

    def _give_up(self, error: OSError | QuanthostError) -> None:
        problem = error.seen if isinstance(error, QuanthostError) else error
        if self.writes:
            warnings.warn(
                f"the cache {self.folder} is not written to any more: {problem}", RuntimeWarning, stacklevel=2
            )
        self.writes = False


def program_key(calibrated: CalibratedModel, choices: Mapping[str, Any]) -> str:
    """A digest of all that goes into a program: model, data, request, choices, and the code."""
    prepared = calibrated.prepared
    parts = {
        "model": prepared.captured.digest,
        "data": calibrated.data_digest,
        "estimators": [to_data(o.spec.estimator) for _, o in data_observers(calibrated.module).values()],
        "request": to_data(prepared.request),
        "choices": to_data(dict(choices)),
        "toolchain": current().value,
        "versions": [(name, importlib.metadata.version(name)) for name in _TOOLCHAIN],
        "code": [code_digest(name) for name in ("quanthost", *_packages(prepared.request.backends))],
    }
    return digest(parts)


def _packages(backends: Sequence[str]) -> list[str]:
    """The packages of the backends and of all extensions, which take part in every run."""
    plugins = [plugin for plugin in registered(Group.BACKENDS) if plugin.name in backends]
    return sorted({plugin.package for plugin in [*plugins, *registered(Group.EXTENSIONS)]})


def _name(key: str) -> str:
    return key.partition(":")[2]


def _touch(path: Path) -> None:
    """Mark an entry as used: the one that was used last is evicted last."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _read_statistics(path: Path) -> Statistics | None:
    try:
        return Statistics.load(path)
    except (OSError, StatisticsError):
        return None
