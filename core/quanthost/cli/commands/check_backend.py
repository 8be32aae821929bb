"""``quanthost check-backend``: the conformance suite on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quanthost.cli.exits import ExitCode
from quanthost.cli.options import BackendName, Force, policy_of
from quanthost.cli.usage import refuse_existing

if TYPE_CHECKING:
    from quanthost.testing.results import CaseResult

__all__ = ["check_backend"]


def check_backend(
    context: typer.Context,
    backend: BackendName,
    area: Annotated[
        list[str] | None,
        typer.Option(metavar="AREA", help="Only this area, as 'table' or 'numbers'. Repeat it."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this case, or a glob over ids. Repeat it.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Each row at each variation in each recipe; 15 minutes.")
    ] = False,
    expected: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Failures that are expected, each with its reason."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the cases as JSON.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write them as JUnit XML.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            help="Processes; as many as there are cores, up to four, for a large backend.",
        ),
    ] = None,
    force: Force = None,
) -> None:
    """Prove a backend: run the conformance suite over its support table.

    Ends with 1 where a case failed.
    """
    from quanthost.cli.output import chatter_on_stderr, write
    from quanthost.host.discovery import find
    from quanthost.toolchain.quiet import quiet_imports

    # before the toolchain is imported, which takes seconds
    refuse_existing(*(path for path in (json, junit) if path is not None), force=bool(force))
    find(backend, policy_of(context))
    with quiet_imports():
        from quanthost.testing import check
        from quanthost.testing.results_text import show_results

    with chatter_on_stderr():
        conformance = check.check_backend(
            backend, areas=area if area else None, full=full, expected=expected, only=only if only else None,
            policy=policy_of(context), jobs=jobs, told=_show_failure,
        )  # fmt: skip
    if json is not None:
        json.write_text(conformance.to_json() + "\n", encoding="utf-8")
    if junit is not None:
        junit.write_text(conformance.to_junit() + "\n", encoding="utf-8")
    write(show_results(conformance))
    if not conformance.conforms:
        raise typer.Exit(ExitCode.FAILED)


def _show_failure(case: CaseResult) -> None:
    """Print a line for each failure as it comes, on a terminal."""
    if case.outcome.is_bad and sys.stderr.isatty():
        print(f"{case.outcome.value}: {case.id}", file=sys.stderr)
