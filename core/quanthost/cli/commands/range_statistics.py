"""``quanthost calibrate`` and ``quanthost merge-stats``: range statistics as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

import quanthost
from quanthost.cli.commands.quantize import Sources
from quanthost.cli.exits import UsageError
from quanthost.cli.output import chatter_on_stderr, refuse_existing, write, write_json
from quanthost.cli.progress_display import shown
from quanthost.errors import StatisticsError
from quanthost.host.discovery import Policy
from quanthost.stages.calibrating.statistics import Shard, Statistics
from quanthost.values import Override

__all__ = ["Wanted", "collect", "merge"]

_SUFFIX = ".safetensors"


@attrs.frozen(kw_only=True)
class Wanted:
    """All that was typed for ``calibrate``."""

    model: str
    backend: tuple[str, ...]
    calibration: str
    inputs: str | None
    recipe: str | None
    shard: str | None
    output: Path
    override: tuple[Override, ...]
    placement: str
    force: bool
    as_json: bool


def collect(wanted: Wanted, policy: Policy) -> None:
    """Observe the data and save what was seen; a file of a stopped run is gone on from.

    Raises:
        UsageError: the output exists and is complete, or something that was typed cannot be understood.
        QuanthostError: a stage refused.
    """
    _check_name(wanted.output)
    shard = None if wanted.shard is None else Shard.of(wanted.shard)
    if wanted.force:
        refuse_existing(wanted.output, force=True)
        wanted.output.unlink(missing_ok=True)
    elif not (wanted.output.is_file() and not Statistics.load(wanted.output).complete):
        refuse_existing(wanted.output, force=False)
    sources = Sources.of(wanted.model, wanted.inputs, wanted.calibration)
    with chatter_on_stderr(), shown() as progress:
        with progress.stage("load"):
            model, inputs, data = sources.load(wanted.backend, policy)
        with progress.stage("prepare"):
            prepared = quanthost.prepare(
                quanthost.capture(model, inputs), wanted.backend, wanted.recipe, wanted.override,
                placement=wanted.placement, policy=policy,
            )  # fmt: skip
        with progress.stage("calibrate"):
            assert data is not None
            found = quanthost.collect_statistics(
                prepared, data, progress, shard=shard, checkpoint=wanted.output
            )
    _show(found, wanted.output, as_json=wanted.as_json)


def merge(parts: Sequence[Path], output: Path, *, force: bool, as_json: bool) -> None:
    """Merge files of statistics into one.

    Raises:
        UsageError: the output exists.
        StatisticsError: a file cannot be read, two do not go together, or a shard is missing.
    """
    _check_name(output)
    refuse_existing(output, force=force)
    merged = Statistics.load(parts[0])
    for path in parts[1:]:
        try:
            merged = merged.merge(Statistics.load(path))
        except StatisticsError as error:
            if not error.where.startswith("stage"):
                raise
            raise StatisticsError(
                error.seen, needed=error.needed, remedy=error.remedy, where=str(path), value=error.value
            ) from error
    if merged.missing:
        shown_shards = ", ".join(map(str, merged.missing[:5])) + (
            " and more" if len(merged.missing) > 5 else ""
        )
        raise UsageError(
            f"{len(parts)} parts without {shown_shards}", needed="all shards of the data", where="PART",
            remedy="name their files too, or calibrate them first", value=merged.missing,
        )  # fmt: skip
    merged.save(output)
    _show(merged, output, as_json=as_json)


def _check_name(output: Path) -> None:
    if output.suffix != _SUFFIX:
        raise UsageError(
            f"the output {output}", needed=f"a name that ends in {_SUFFIX}", where="--output",
            remedy=f"name it {output.with_suffix(_SUFFIX)}", value=output,
        )  # fmt: skip


def _show(found: Statistics, path: Path, *, as_json: bool) -> None:
    shards = [str(part.shard) for part in found.parts if part.shard is not None]
    if as_json:
        write_json({
            "statistics": str(path), "batches": found.batches, "tensors": len(found.tensors),
            "shards": shards, "missing": list(map(str, found.missing)), "data": found.data_digest,
        })  # fmt: skip
        return
    share = f", shard {', '.join(shards)}" if shards else ""
    write(f"{path}: {found.batches} batches, {len(found.tensors)} tensors{share}")
