"""Measured costs of a backend's rows: their files, and the table that a target means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from quanthost.errors import ProgramError, RequestError, ValueCheckError
from quanthost.host.target import Costs
from quanthost.stages.whole_files import write_whole
from quanthost.values import CostTable, Objective, from_json, to_json

__all__ = ["costs_path", "find_costs", "load_costs", "save_costs"]


def costs_path(backend: str) -> Path:
    """The default file of a backend's costs on this machine."""
    import platformdirs

    return Path(platformdirs.user_data_dir("quanthost")) / "costs" / f"{backend}.json"


def save_costs(table: CostTable, path: str | os.PathLike[str]) -> None:
    """Write a table, whole or not at all.

    Raises:
        ProgramError: the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, to_json(table).encode())
    except OSError as error:
        raise ProgramError(
            f"{target}: {error.strerror or error}", needed="a folder that can be written to", stage="measure",
            remedy="name another file", value=target,
        ) from error  # fmt: skip


def load_costs(path: str | os.PathLike[str]) -> CostTable:
    """Read a table back.

    Raises:
        RequestError: the file is missing or no table of costs.
    """
    source = Path(path)
    try:
        return from_json(CostTable, source.read_text())
    except (OSError, UnicodeDecodeError, ValueCheckError) as error:
        raise RequestError(
            f"costs in {source} that cannot be read: {error}", stage="prepare", value=source,
            needed="a file that 'quanthost measure' wrote", remedy="correct the path, or measure again",
        ) from error  # fmt: skip


def find_costs(objective: Objective, costs: Costs | None, backends: Sequence[str]) -> CostTable | None:
    """The table that decides a placement for latency, ``None`` for accuracy.

    Raises:
        RequestError: the costs are missing, another backend's, or given without the objective.
    """
    if objective is Objective.ACCURACY:
        if costs is None:
            return None
        raise RequestError(
            "costs without optimize_for='latency'", needed="both or none", stage="prepare", value=costs,
            remedy="add optimize_for='latency', or leave the costs out",
        )  # fmt: skip
    default = costs_path(backends[0])
    if costs is None and not default.exists():
        raise RequestError(
            f"optimize_for='latency' without measured costs of {backends[0]} on this machine",
            needed=f"measured costs, by default in {default}", stage="prepare", value=objective,
            remedy=f"run 'quanthost measure {backends[0]}' on the machine that will run the programs",
        )  # fmt: skip
    source = default if costs is None else costs
    table = source if isinstance(source, CostTable) else load_costs(source)
    if table.backend not in backends:
        raise RequestError(
            f"costs of {table.backend} for {' and '.join(backends)}", stage="prepare", value=table.backend,
            needed="costs of one of the target's backends", remedy=f"measure {backends[0]}",
        )  # fmt: skip
    return table
