"""``quanthost decisions`` keeps what is decided on a set of models, ``quanthost diff`` compares two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import attrs

from quanthost.cli.exits import UsageError
from quanthost.cli.output import chatter_on_stderr, refuse_existing, write, write_json
from quanthost.cli.progress_display import shown
from quanthost.debugging.differences import compare_decisions
from quanthost.host.discovery import Policy
from quanthost.host.snapshots import load_snapshot, save_snapshot, snapshot_decisions
from quanthost.values import Decision, Override, Placement, Verdict, to_data
from quanthost.values.decision_snapshot import Snapshot

__all__ = ["Wanted", "decisions", "diff"]


@attrs.frozen(kw_only=True)
class Wanted:
    """What is decided on, and by whom."""

    models: tuple[str, ...]
    backend: tuple[str, ...]
    recipe: str | None
    override: tuple[Override, ...]
    placement: Placement | str
    options: tuple[tuple[str, str | int | float | bool], ...]


def decisions(wanted: Wanted, output: Path, policy: Policy, *, force: bool, as_json: bool) -> None:
    """Decide on each model, save, and show the counts.

    Raises:
        UsageError: the output exists, or a model cannot be found.
        QuanthostError: a model cannot be captured or prepared.
    """
    refuse_existing(output, force=force)
    made = _decided(wanted, policy)
    save_snapshot(made, output)
    if as_json:
        write_json({"path": str(output), "models": {m.name: _counted(m.decisions) for m in made.models}})
        return
    from rich.text import Text

    from quanthost.report.columns import facts
    from quanthost.report.decision_table import headlines

    write(
        *(facts([(m.name, "\n".join(headlines(m.decisions)))]) for m in made.models),
        Text(f"kept in {output}"),
    )


def _counted(decided: Sequence[Decision]) -> dict[str, int]:
    verdicts = Counter(decision.verdict for decision in decided)
    return {"nodes": len(decided), **{verdict.value: verdicts[verdict] for verdict in Verdict}}


def diff(old: Path, new: Path | None, backend: tuple[str, ...], policy: Policy, *, as_json: bool) -> bool:
    """Compare, and report; whether all decisions are equal.

    Without ``new``, the models of ``old`` are decided on again with what is installed.

    Raises:
        UsageError: a backend beside ``new``, or models that cannot be found again.
        RequestError: a file cannot be read, or the two have no model in common.
    """
    if new is not None and backend:
        raise UsageError(
            f"--backend beside {new}", needed="one of them", where="command line", value=backend,
            remedy="leave one of them out",
        )  # fmt: skip
    before = load_snapshot(old)
    after = load_snapshot(new) if new is not None else _again(before, old, backend, policy)
    found = compare_decisions(before, after)
    if as_json:
        write_json({"equal": found.equal, **to_data(found)})
    else:
        from quanthost.report.differences_text import differences

        write(*differences(found))
    return found.equal


def _again(before: Snapshot, path: Path, backend: tuple[str, ...], policy: Policy) -> Snapshot:
    if before.placement is None:
        raise UsageError(
            f"{path}, the record of a program, without a second file", where="command line", value=path,
            needed="a second file, since a record does not say where its model is",
            remedy="name the second record, or keep decisions with 'quanthost decisions'",
        )  # fmt: skip
    wanted = Wanted(
        models=tuple(model.name for model in before.models), backend=backend or before.backends,
        recipe=before.recipe, override=before.overrides, placement=before.placement,
        options=before.options,
    )  # fmt: skip
    return _decided(wanted, policy)


def _decided(wanted: Wanted, policy: Policy) -> Snapshot:
    # late: two files are compared without torch
    import quanthost
    from quanthost.cli.commands.quantize import Sources

    sources = {name: Sources.of(name, None, None) for name in wanted.models}
    with chatter_on_stderr(), shown() as progress:
        captured = {}
        for name, source in sources.items():
            with progress.stage("capture"):
                progress.note(name)
                model, inputs, _ = source.load(wanted.backend, policy)
                captured[name] = quanthost.capture(model, inputs)
        with progress.stage("decide"):
            return snapshot_decisions(
                captured, wanted.backend, wanted.recipe, wanted.override, placement=wanted.placement,
                options=dict(wanted.options), policy=policy,
            )  # fmt: skip
