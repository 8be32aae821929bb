"""``quanthost check-backend``: the conformance suite on the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from quanthost.cli.output import chatter_on_stderr, refuse_existing, write
from quanthost.host.discovery import Policy
from quanthost.testing.check import check_backend
from quanthost.testing.results import CaseResult
from quanthost.testing.results_text import show_results

__all__ = ["check"]


def check(
    backend: str,
    policy: Policy,
    *,
    areas: Sequence[str],
    only: Sequence[str],
    full: bool,
    expected: Path | None,
    json: Path | None,
    junit: Path | None,
    jobs: int | None,
    force: bool,
) -> bool:
    """Run the suite, show it, write its files; whether the backend conforms.

    Raises:
        UsageError: a file exists and ``force`` is not set.
        QuanthostError: what ``check_backend`` raises.
    """
    files = [path for path in (json, junit) if path is not None]
    refuse_existing(*files, force=force)
    with chatter_on_stderr():
        conformance = check_backend(
            backend, areas=areas or None, full=full, expected=expected, only=only or None, policy=policy,
            jobs=jobs, told=_told,
        )  # fmt: skip
    if json is not None:
        json.write_text(conformance.to_json() + "\n", encoding="utf-8")
    if junit is not None:
        junit.write_text(conformance.to_junit() + "\n", encoding="utf-8")
    write(show_results(conformance))
    return conformance.conforms


def _told(case: CaseResult) -> None:
    """A line for each failure as it comes, where someone is watching."""
    if case.outcome.is_bad and sys.stderr.isatty():
        print(f"{case.outcome.value}: {case.id}", file=sys.stderr)
