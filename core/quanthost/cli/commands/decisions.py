"""``quanthost decisions``: what is decided on a set of models, as a file to compare with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quanthost.cli.options import Force, Json, TargetOptions, takes_target
from quanthost.cli.usage import refuse_existing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quanthost.host.target import Target
    from quanthost.values import Decision
    from quanthost.values.decision_snapshot import Snapshot

__all__ = ["decide", "decisions"]


@takes_target
def decisions(
    options: TargetOptions,
    model: Annotated[
        list[str], typer.Argument(metavar="MODULE:CALLABLE…", help="Models, each with its example inputs.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.json")],
    force: Force = None,
    json: Json = False,
) -> None:
    """Save the decisions on models, for 'diff'; needs no data and lowers nothing."""
    from quanthost.cli.output import write, write_json
    from quanthost.host.snapshots import save_snapshot

    refuse_existing(output, force=bool(force))
    snapshot = decide(model, options.target)
    save_snapshot(snapshot, output)
    if json:
        counts = {each.name: _counts(each.decisions) for each in snapshot.models}
        write_json({"path": str(output), "models": counts})
        return
    from rich.text import Text

    from quanthost.report.columns import facts
    from quanthost.report.decision_table import headlines

    tables = [facts([(each.name, "\n".join(headlines(each.decisions)))]) for each in snapshot.models]
    write(*tables, Text(f"saved to {output}"))


def decide(models: Sequence[str], target: Target) -> Snapshot:
    """Decide on models that are named by references."""
    import quanthost
    from quanthost import inspection
    from quanthost.cli.output import chatter_on_stderr
    from quanthost.cli.progress_display import show_progress
    from quanthost.cli.sources import Sources

    sources = {name: Sources.of(name) for name in models}
    with chatter_on_stderr(), show_progress() as progress:
        captured = {}
        for name, source in sources.items():
            with progress.stage("capture"):
                progress.note(name)
                network, examples, _ = source.load(target)
                captured[name] = quanthost.capture(network, examples)
        with progress.stage("decide"):
            return inspection.snapshot_decisions(captured, target)


def _counts(decided: Sequence[Decision]) -> dict[str, int]:
    from quanthost.values import Verdict

    verdicts = Counter(decision.verdict for decision in decided)
    return {"nodes": len(decided), **{verdict.value: verdicts[verdict] for verdict in Verdict}}
