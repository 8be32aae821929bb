"""A folder of earlier work: statistics by model and data, programs by all that they are made of.

Entries are named by digests and written whole, so that processes can share the folder, and what is killed
leaves nothing but what was there. An entry that cannot be read counts as none. The folder can be deleted at
any time. Where it cannot be written to, a run goes on without it.
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
from quanthost.stages.calibrating.observing import of_data, origin_of
from quanthost.stages.calibrating.statistics import Statistics
from quanthost.stages.lowering.files import read_program
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.progress import Progress
from quanthost.stages.records import CalibratedModel, PreparedModel
from quanthost.toolchain.ways import current
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
    def of(cls, asked: Path | str | bool | None) -> Cache | None:
        """``True`` is the default folder, ``False`` no cache, ``None`` that of ``QUANTHOST_CACHE`` if set.

        Raises:
            RequestError: ``QUANTHOST_CACHE_SIZE`` is no size.
        """
        if asked is None:
            asked = bool(os.environ.get(VARIABLE))
        if asked is False:
            return None
        made = cls(default_folder() if asked is True else Path(asked))
        with made._writing():
            for each in (made._statistics, made._programs):
                each.mkdir(parents=True, exist_ok=True)
        return made

    @property
    def _statistics(self) -> Path:
        return self.folder / "statistics"

    @property
    def _programs(self) -> Path:
        return self.folder / "programs"

    def statistics(self, prepared: PreparedModel, batches: Iterable[Any], progress: Progress) -> Statistics:
        """The statistics of the data: those that are held, or collected now and kept.

        Data is read twice: for its digest, and, unless that is known, to observe it. A calibration that was
        stopped goes on. A generator, which can be read once only, is calibrated anew each time, and so is
        what several ranks do together.
        """
        if ranks.several() or iter(batches) is batches:
            return collect_statistics(prepared, batches, progress)
        key = digest((to_data(origin_of(prepared)), digest_of_data(prepared, batches)))
        path = self._statistics / f"{_name(key)}.safetensors"
        wanted = of_data(prepared.module).keys()
        held = _read_statistics(path)
        if held is not None and wanted <= held.tensors.keys():
            progress.note(f"{held.batches} batches from the cache")
            _used(path)
            return held
        begun = self._statistics / f"{_name(digest((key, sorted(wanted))))}.begun.safetensors"
        if self.writes and _read_statistics(begun) is None:
            with self._writing():
                begun.unlink(missing_ok=True)
        found = collect_statistics(
            prepared, batches, progress, checkpoint=begun if self.writes else None, unsaved=self._give_up
        )
        if held is not None:
            found = attrs.evolve(found, tensors={**held.tensors, **found.tensors})
        if self.writes:
            with self._writing():
                found.save(path)
                begun.unlink(missing_ok=True)
        return found

    def program(self, key: str, prepared: PreparedModel) -> LoweredProgram | None:
        """The program that was kept under a key, with the backend's own runner where it has one."""
        path = self._programs / f"{_name(key)}.pte"
        try:
            buffer, record = read_program(path)
        except (OSError, QuanthostError):
            return None
        _used(path)
        runner = prepared.plugins.runner(buffer, prepared.request, record.pieces)
        return LoweredProgram(buffer=buffer, record=record, runner=runner)

    def keep(self, key: str, program: LoweredProgram) -> None:
        """Keep a program under a key."""
        if self.writes:
            with self._writing():
                program.save(self._programs / f"{_name(key)}.pte")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Entered to write, and to make room for what was written; a failure is a warning, once."""
        try:
            yield
            evict((self._statistics, self._programs), self.limit)
        except (OSError, ProgramError, StatisticsError) as error:
            self._give_up(error)

    def _give_up(self, error: OSError | QuanthostError) -> None:
        seen = error.seen if isinstance(error, QuanthostError) else error
        if self.writes:
            warnings.warn(
                f"nothing more is kept in the cache {self.folder}: {seen}", RuntimeWarning, stacklevel=2
            )
        self.writes = False


def program_key(calibrated: CalibratedModel, choices: Mapping[str, Any]) -> str:
    """A digest of all that a program is made of: model, data, request, choices, and the code."""
    prepared = calibrated.prepared
    parts = {
        "model": prepared.captured.digest,
        "data": calibrated.data_digest,
        "estimators": [to_data(o.spec.estimator) for _, o in of_data(calibrated.module).values()],
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


def _used(path: Path) -> None:
    """What was used last is removed last."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _read_statistics(path: Path) -> Statistics | None:
    try:
        return Statistics.load(path)
    except (OSError, StatisticsError):
        return None
