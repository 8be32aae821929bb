"""``quanthost why``: each row that was tried for an operator, and where it stopped."""

from __future__ import annotations

import attrs

import quanthost
from quanthost import inspection
from quanthost.cli.commands.quantize import Sources
from quanthost.cli.output import chatter_on_stderr, write, write_json
from quanthost.cli.progress_display import shown
from quanthost.host.discovery import Policy
from quanthost.report.why_text import explanation
from quanthost.values import Override, to_data

__all__ = ["Wanted", "why"]


@attrs.frozen(kw_only=True)
class Wanted:
    """All that was typed."""

    model: str
    node: str
    backend: tuple[str, ...]
    recipe: str | None
    inputs: str | None
    override: tuple[Override, ...]
    placement: str
    lowered: bool
    as_json: bool


def why(wanted: Wanted, policy: Policy) -> None:
    """Explain, and print.

    Raises:
        UsageError: something that was typed cannot be understood.
        QuanthostError: no such operator, or the model cannot be prepared.
    """
    sources = Sources.of(wanted.model, wanted.inputs, None)
    with chatter_on_stderr(), shown() as progress:
        with progress.stage("load"):
            model, inputs, _ = sources.load(wanted.backend, policy)
        with progress.stage("explain"):
            found = inspection.why(
                quanthost.capture(model, inputs), wanted.node, wanted.backend, wanted.recipe,
                wanted.override, placement=wanted.placement, policy=policy, lowered=wanted.lowered,
            )  # fmt: skip
    if wanted.as_json:
        write_json(to_data(found))
    else:
        write(*explanation(found))
