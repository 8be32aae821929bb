"""A folder of earlier work: statistics by model and data, programs by all that they are made of.

Entries are named by digests and written whole, so that processes can share the folder, and what is killed
leaves nothing but what was there. An entry that cannot be read counts as none. The folder can be deleted at
any time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from quanthost.errors import ProgramError, QuanthostError, RequestError, StatisticsError
from quanthost.host.registry import Group, registered
from quanthost.stages import ranks
from quanthost.stages.calibrate import collect_statistics, digest_of_data
from quanthost.stages.files import read_program
from quanthost.stages.observing import of_data, origin_of
from quanthost.stages.program import LoweredProgram
from quanthost.stages.progress import Progress
from quanthost.stages.records import CalibratedModel, PreparedModel
from quanthost.stages.statistics import Statistics
from quanthost.values import digest, to_data

__all__ = ["VARIABLE", "Cache", "default_folder", "program_key"]

VARIABLE = "QUANTHOST_CACHE"
_TOOLCHAIN = ("torch", "torchao", "executorch")


def default_folder() -> Path:
    """The folder that ``QUANTHOST_CACHE`` names, or the user's own for caches."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("quanthost"))


@attrs.frozen
class Cache:
    """The entries below a folder."""

    folder: Path = attrs.field(converter=Path)

    @classmethod
    def of(cls, asked: Path | str | bool | None) -> Cache | None:
        """``True`` is the default folder, ``False`` no cache, ``None`` that of ``QUANTHOST_CACHE`` if set.

        Raises:
            RequestError: the folder cannot be made or written to.
        """
        if asked is None:
            asked = bool(os.environ.get(VARIABLE))
        if asked is False:
            return None
        made = cls(default_folder() if asked is True else Path(asked))
        try:
            for each in (made._statistics, made._programs):
                each.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(
                f"the cache {made.folder}: {error.strerror or error}", needed="a folder that can be made",
                stage="capture", value=made.folder,
                remedy="name another folder in cache or QUANTHOST_CACHE, or go without",
            ) from error  # fmt: skip
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
            return held
        begun = self._statistics / f"{_name(digest((key, sorted(wanted))))}.begun.safetensors"
        if _read_statistics(begun) is None:
            begun.unlink(missing_ok=True)
        found = collect_statistics(prepared, batches, progress, checkpoint=begun)
        if held is not None:
            found = attrs.evolve(found, tensors={**held.tensors, **found.tensors})
        found.save(path)
        begun.unlink(missing_ok=True)
        return found

    def program(self, key: str, prepared: PreparedModel) -> LoweredProgram | None:
        """The program that was kept under a key, with the backend's own runner where it has one."""
        try:
            buffer, record = read_program(self._programs / f"{_name(key)}.pte")
        except QuanthostError:
            return None
        runner = prepared.plugins.runner(buffer, prepared.request, record.pieces)
        return LoweredProgram(buffer=buffer, record=record, runner=runner)

    def keep(self, key: str, program: LoweredProgram, progress: Progress) -> None:
        """Keep a program under a key; without room for it, say so."""
        try:
            program.save(self._programs / f"{_name(key)}.pte")
        except ProgramError as error:
            progress.note(f"not kept in the cache: {error.seen}")


def program_key(calibrated: CalibratedModel, choices: Mapping[str, Any]) -> str:
    """A digest of all that a program is made of: model, data, request, choices, and the code."""
    prepared = calibrated.prepared
    parts = {
        "model": prepared.captured.digest,
        "data": calibrated.data_digest,
        "estimators": [to_data(o.spec.estimator) for _, o in of_data(calibrated.module).values()],
        "request": to_data(prepared.request),
        "choices": to_data(dict(choices)),
        "versions": [(name, importlib.metadata.version(name)) for name in _TOOLCHAIN],
        "code": [_code_digest(name) for name in ("quanthost", *_packages(prepared.request.backends))],
    }
    return digest(parts)


def _packages(backends: Sequence[str]) -> list[str]:
    """The packages of the backends and of all extensions, which take part in every run."""
    plugins = [plugin for plugin in registered(Group.BACKENDS) if plugin.name in backends]
    return sorted(
        {p.entry_point.partition(":")[0].partition(".")[0] for p in [*plugins, *registered(Group.EXTENSIONS)]}
    )


def _name(key: str) -> str:
    return key.partition(":")[2]


def _read_statistics(path: Path) -> Statistics | None:
    try:
        return Statistics.load(path)
    except StatisticsError:
        return None


def _code_digest(package: str) -> str:
    """SHA-256 over the Python files of a package: while one is written its version stays as it is."""
    total = hashlib.sha256(package.encode())
    module = sys.modules.get(package)
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    single = getattr(module, "__file__", None)
    if not folders and single:
        files = [Path(single)]
    for file in sorted(files):
        total.update(file.name.encode())
        total.update(file.read_bytes())
    return total.hexdigest()
