"""``quanthost merge-stats``: the statistics of all shards become one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quanthost.cli.commands.calibrate import StatisticsFile, check_name, show_statistics
from quanthost.cli.options import Force, Json
from quanthost.cli.usage import UsageError, refuse_existing

if TYPE_CHECKING:
    from quanthost import Statistics

__all__ = ["merge_stats"]


def merge_stats(
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART…", help="What 'calibrate' saved of each shard.")
    ],
    output: StatisticsFile,
    force: Force = None,
    json: Json = False,
) -> None:
    """Merge the statistics of all shards, as if one process had seen the data."""
    from quanthost import Statistics

    check_name(output)
    refuse_existing(output, force=bool(force))
    merged = Statistics.load(parts[0])
    for path in parts[1:]:
        merged = _merge(merged, path)
    if merged.missing:
        shards = ", ".join(map(str, merged.missing[:5])) + (" and more" if len(merged.missing) > 5 else "")
        raise UsageError(
            f"{len(parts)} parts without {shards}", needed="all shards of the data", where="PART",
            remedy="name their files too, or calibrate them first", value=merged.missing,
        )  # fmt: skip
    merged.save(output)
    show_statistics(merged, output, as_json=json)


def _merge(merged: Statistics, path: Path) -> Statistics:
    """Add a part; an error names its file."""
    from quanthost import Statistics
    from quanthost.errors import StatisticsError

    part = Statistics.load(path)
    try:
        return merged.merge(part)
    except StatisticsError as error:
        raise StatisticsError(
            error.seen, needed=error.needed, remedy=error.remedy, where=str(path), value=error.value
        ) from error
