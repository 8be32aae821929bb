"""``quanthost diff``: which decisions two versions of a backend make differently."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quanthost.cli.exits import ExitCode
from quanthost.cli.options import Json, policy_of
from quanthost.cli.usage import UsageError

if TYPE_CHECKING:
    from quanthost.host.policy import Policy
    from quanthost.values.decision_snapshot import Snapshot

__all__ = ["diff"]


def diff(
    context: typer.Context,
    old: Annotated[
        Path, typer.Argument(metavar="OLD.json", help="What 'decisions' saved, or the record beside a .pte.")
    ],
    new: Annotated[
        Path | None,
        typer.Argument(metavar="[NEW.json]", help="[default: OLD's models with what is installed now]"),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="In place of NEW: OLD's models with this backend."),
    ] = None,
    json: Json = False,
) -> None:
    """Show which decisions two versions of a backend make differently.

    Ends with 4 where decisions differ.
    """
    from quanthost.cli.output import write, write_json
    from quanthost.debugging.differences import compare_decisions
    from quanthost.host.snapshots import load_snapshot

    if new is not None and backend:
        raise UsageError(
            f"--backend beside {new}", needed="one of them", where="command line", value=backend,
            remedy="leave one of them out",
        )  # fmt: skip
    before = load_snapshot(old)
    after = load_snapshot(new) if new is not None else _again(before, old, backend, policy_of(context))
    differences = compare_decisions(before, after)
    if json:
        from quanthost.values import to_data

        write_json({"equal": differences.equal, **to_data(differences)})
    else:
        from quanthost.report.differences_text import differences as differences_text

        write(*differences_text(differences))
    if not differences.equal:
        raise typer.Exit(ExitCode.DIFFERENT)


def _again(before: Snapshot, path: Path, backend: list[str] | None, policy: Policy) -> Snapshot:
    """Decide again on the models of a snapshot, with the installed backends."""
    # late: two files are compared without torch
    from quanthost.cli.commands.decisions import decide
    from quanthost.host.target import Target
    from quanthost.values import Objective

    if before.placement is None:
        raise UsageError(
            f"{path}, the record of a program, without a second file", where="command line", value=path,
            needed="a second file, since a record does not say where its model is",
            remedy="name the second record, or save decisions with 'quanthost decisions'",
        )  # fmt: skip
    target = Target(
        backend=backend if backend else before.backends, recipe=before.recipe, overrides=before.overrides,
        placement=before.placement, options=dict(before.options), costs=before.costs, policy=policy,
        optimize_for=Objective.ACCURACY if before.costs is None else Objective.LATENCY,
    )  # fmt: skip
    return decide([model.name for model in before.models], target)
