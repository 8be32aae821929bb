"""Measured costs of a backend's rows: where they are kept, and how a request finds them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from quanthost.errors import ProgramError, RequestError, ValueCheckError
from quanthost.stages.whole_files import write_whole
from quanthost.values import CostTable, from_json, to_json

__all__ = ["Costs", "costs_path", "find_costs", "load_costs", "save_costs"]

Costs = CostTable | str | os.PathLike[str]


def costs_path(backend: str) -> Path:
    """Where a backend's costs on this machine are kept, unless another file is named."""
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


def find_costs(optimize_for: str, costs: Costs | None, backends: Sequence[str]) -> CostTable | None:
    """The table that a request is placed by, ``None`` where it is not placed for latency.

    Raises:
        RequestError: the objective is unknown, or the costs are missing or another backend's.
    """
    if optimize_for not in ("accuracy", "latency"):
        raise RequestError(
            f"optimize_for={optimize_for!r}", needed="accuracy or latency", stage="prepare",
            remedy="choose one of these", value=optimize_for,
        )  # fmt: skip
    if optimize_for == "accuracy":
        if costs is None:
            return None
        raise RequestError(
            "costs without optimize_for='latency'", needed="both or none", stage="prepare", value=costs,
            remedy="ask for optimize_for='latency', or leave the costs out",
        )  # fmt: skip
    path = costs_path(backends[0]) if costs is None else costs
    if costs is None and not costs_path(backends[0]).exists():
        raise RequestError(
            f"optimize_for='latency', but nothing was measured of {backends[0]} here", stage="prepare",
            needed=f"measured costs, by default in {path}", value=optimize_for,
            remedy=f"run 'quanthost measure {backends[0]}' on the machine that will run the programs",
        )  # fmt: skip
    table = path if isinstance(path, CostTable) else load_costs(path)
    if table.backend not in backends:
        raise RequestError(
            f"costs of {table.backend} for {' and '.join(backends)}", stage="prepare", value=table.backend,
            needed="costs of a backend that is asked for", remedy="measure that backend",
        )  # fmt: skip
    return table
