"""Snapshots of decisions: made with installed backends, saved to files, and read back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from quanthost.errors import ProgramError, RequestError, ValueCheckError
from quanthost.host.discovery import plugin_records
from quanthost.host.target import Backend, Target, TargetSettings, as_target
from quanthost.stages.lowering.versions import versions
from quanthost.stages.whole_files import write_whole
from quanthost.values import Override, ProgramRecord, from_data, to_json
from quanthost.values.decision_snapshot import FORMAT, ModelDecisions, Snapshot

if TYPE_CHECKING:
    from quanthost.stages.capturing.capture import CapturedModel

__all__ = ["load_snapshot", "save_snapshot", "snapshot_decisions"]


def snapshot_decisions(
    models: Mapping[str, CapturedModel],
    backend: Backend | Target,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    **settings: Unpack[TargetSettings],
) -> Snapshot:
    """Decide on several models, with qspecs: a value to compare and to save.

    Args:
        models: What ``capture`` returned, by a name.
        backend: A ``Target``, or its backend, with the other fields as ``recipe``, ``overrides`` and
            ``settings``.

    Raises:
        QuanthostError: ``prepare`` would raise it.
    """
    # late: a snapshot is read and compared without torch
    from quanthost.debugging.snapshot import model_decisions
    from quanthost.host.requests import resolve

    plugins, request = resolve(as_target(snapshot_decisions, backend, recipe, overrides, settings))
    return Snapshot(
        backends=request.backends, recipe=request.recipe, plugins=plugin_records(plugins.registered),
        versions=versions(), overrides=request.overrides, options=request.options,
        placement=request.placement, costs=request.costs,
        models=tuple(
            model_decisions(name, captured, plugins, request) for name, captured in models.items()
        ),
    )  # fmt: skip


def save_snapshot(snapshot: Snapshot, path: str | os.PathLike[str]) -> None:
    """Write a snapshot, whole or not at all.

    Raises:
        ProgramError: the file cannot be written.
    """
    file = Path(path)
    try:
        write_whole(file, (to_json(snapshot, indent=1) + "\n").encode())
    except OSError as error:
        raise ProgramError(
            f"{file}: {error.strerror or error}", needed="a folder that exists and can be written to",
            stage="decisions", remedy="name another file", value=file,
        ) from error  # fmt: skip


def load_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Read a snapshot back; the record beside a ``.pte`` counts as the snapshot of one model.

    Raises:
        RequestError: the file is missing, or neither of the two.
    """
    source = Path(path)
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
        if isinstance(data, dict) and "program_digest" in data:
            return _of_record(from_data(ProgramRecord, data, where=str(source)))
        _check_format(data)
        return from_data(Snapshot, data, where=str(source))
    except (OSError, ValueError) as error:
        problem = error.seen if isinstance(error, ValueCheckError) else str(error)
        raise RequestError(
            f"decisions in {source} that cannot be read: {problem}", stage="diff", value=source,
            needed="a file that 'quanthost decisions' wrote, or the .json beside a .pte",
            remedy="correct the path, or make the file again",
        ) from error  # fmt: skip


def _check_format(data: Any) -> None:
    written = data.get("format") if isinstance(data, dict) else None
    if written != FORMAT:
        raise ValueError(f"it has the format {written!r}, and this quanthost reads {FORMAT}")


def _of_record(record: ProgramRecord) -> Snapshot:
    return Snapshot(
        backends=record.backends, recipe=record.recipe, plugins=record.plugins, versions=record.versions,
        overrides=record.overrides, options=record.options,
        models=(
            ModelDecisions(
                name=record.model, digest=record.model_digest, decisions=record.decisions
            ),
        ),
    )  # fmt: skip
