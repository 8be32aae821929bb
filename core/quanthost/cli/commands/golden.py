"""``quanthost golden``: the exact integer form of a model beside a backend's program or a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

import quanthost
from quanthost import inspection
from quanthost.cli.commands.quantize import Sources, batches, data_source
from quanthost.cli.output import chatter_on_stderr, write, write_json
from quanthost.cli.progress_display import shown
from quanthost.host.discovery import Policy
from quanthost.report.bits_text import bits_table, verdict
from quanthost.values import Override, to_data

__all__ = ["Wanted", "golden"]


@attrs.frozen(kw_only=True)
class Wanted:
    """All that was typed; ``against`` is a recording, ``None`` for the backend's own program."""

    model: str
    backend: tuple[str, ...]
    samples: str
    inputs: str | None
    recipe: str | None
    calibration: str | None
    override: tuple[Override, ...]
    arithmetic: str | None
    placement: str
    against: Path | None
    everything: bool
    as_json: bool


def golden(wanted: Wanted, policy: Policy) -> bool:
    """Compare and report; whether all integers are equal.

    Raises:
        UsageError: something that was typed cannot be understood.
        QuanthostError: a stage refused, or the two cannot be compared.
    """
    sources = Sources.of(wanted.model, wanted.inputs, wanted.calibration)
    samples = data_source(wanted.samples, where="--samples")
    with chatter_on_stderr(), shown() as progress:
        with progress.stage("load"):
            model, inputs, data = sources.load(wanted.backend, policy)
            judged = list(batches(samples, model, inputs, where="--samples"))
        with progress.stage("prepare"):
            captured = quanthost.capture(model, inputs)
            prepared = quanthost.prepare(
                captured, wanted.backend, wanted.recipe, wanted.override, placement=wanted.placement,
                policy=policy,
            )  # fmt: skip
        with progress.stage("calibrate"):
            calibrated = quanthost.calibrate(prepared, data, progress)
        with progress.stage("convert"):
            exact = quanthost.convert(calibrated, "integer", wanted.arithmetic)
        with progress.stage("compare"):
            other: Any = wanted.against
            if other is None:
                other = quanthost.lower(quanthost.convert(calibrated), intermediates=True)
            elif other.suffix == ".pte":
                other = quanthost.load(other)
            comparison = inspection.compare_bits(exact, other, judged)
    if wanted.as_json:
        write_json({"equal": comparison.equal, "verdict": verdict(comparison), **to_data(comparison)})
    else:
        write(bits_table(comparison, everything=wanted.everything), "", verdict(comparison))
    return comparison.equal
