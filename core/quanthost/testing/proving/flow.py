"""Takes samples through the stages as one program, and separates the results by sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from quanthost.errors import ConversionError
from quanthost.stages.calibrating.calibrate import calibrate
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.converting.convert import convert
from quanthost.stages.lowering.lower import lower
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.preparing.prepare import prepare
from quanthost.stages.records import CalibratedModel, ConvertedModel
from quanthost.testing.cases.samples import Regime, Sample
from quanthost.testing.proving.executing import (
    OutputValues,
    build_run_inputs,
    count_outputs,
    find_passed_inputs,
    run_program,
)
from quanthost.testing.proving.operator_sites import OperatorSite, find_sites
from quanthost.testing.proving.programs import build_inputs, capture_samples, select_branch
from quanthost.testing.proving.subject import Subject
from quanthost.testing.proving.watching import Watcher
from quanthost.values import Decision, Kernel, Verdict

__all__ = ["ConvertedSample", "SampleResult", "convert_samples", "run_samples"]


@attrs.frozen(kw_only=True, eq=False)
class ConvertedSample:
    """A sample's part of a converted graph."""

    decisions: tuple[Decision, ...]
    sites: tuple[OperatorSite, ...]


@attrs.frozen(kw_only=True, eq=False)
class SampleResult:
    """A sample that was lowered and run: as calibrated, beyond that, and at smaller sizes if these may vary.

    ``problems`` are those of its partitions, each with its kind. ``in_float`` are the captured nodes that the
    table has only float kernels for. ``no_golden`` says why there is no integer form. ``is_idle`` is set if
    all outputs are inputs.
    """

    decisions: tuple[Decision, ...]
    runs: tuple[tuple[OutputValues, ...], ...]
    problems: tuple[tuple[str, str], ...]
    no_golden: str
    in_float: frozenset[str] = frozenset()
    is_idle: bool = False


def convert_samples(
    subject: Subject, recipe: str, samples: Sequence[Sample], captured: CapturedModel
) -> list[ConvertedSample]:
    """Convert the samples as one program; ``captured`` is that program."""
    plugins, _ = subject.watch()
    converted = convert(_calibrate(subject, recipe, samples, Regime.PLAIN, captured, plugins))
    sites = find_sites(converted.module)
    parts = []
    for number, _ in enumerate(samples):
        decisions = select_branch(converted.decisions, number)
        nodes = {decision.node for decision in decisions}
        own_sites = tuple(site for site in sites if site.origin in nodes)
        parts.append(ConvertedSample(decisions=decisions, sites=own_sites))
    return parts


def run_samples(
    subject: Subject,
    recipe: str,
    samples: Sequence[Sample],
    regime: Regime = Regime.PLAIN,
    *,
    in_integers: bool = False,
    golden: bool = False,
    captured: CapturedModel | None = None,
) -> list[SampleResult]:
    """Lower the samples as one program and run it; ``captured`` is that program, if it exists.

    With ``golden`` the golden integer form runs beside it. With ``in_integers`` that form is what is lowered,
    to the runtime's portable kernels.
    """
    plugins, watcher = subject.watch()
    captured = capture_samples(samples, regime) if captured is None else captured
    calibrated = _calibrate(subject, recipe, samples, regime, captured, plugins)
    integer, no_golden = None, "none was requested"
    if golden or in_integers:
        integer, no_golden = _convert_to_integers(subject, recipe, calibrated)
    converted = integer if in_integers and integer is not None else convert(calibrated)
    program = _lower(converted, watcher)
    runs = [
        run_program(samples, converted, integer, program, inputs)
        for inputs in build_run_inputs(samples, regime)
    ]
    problems = [problem for report in watcher.reports for problem in report.problems]
    in_float = {
        node for report in watcher.reports for node, kernels in report.kernels.items()
        if node is not None and kernels == {Kernel.FLOAT}
    }  # fmt: skip
    passed = find_passed_inputs(converted)
    results, end = [], 0
    for number, sample in enumerate(samples):
        decisions = select_branch(program.decisions, number)
        nodes = {decision.node for decision in decisions}
        start, end = end, end + count_outputs(sample)
        results.append(
            SampleResult(
                decisions=decisions,
                problems=tuple((kind, text) for node, kind, text in problems if node in nodes),
                in_float=frozenset(in_float & nodes),
                no_golden=no_golden or _list_islands(integer, number),
                runs=tuple(run[start:end] for run in runs),
                is_idle=all(passed[start:end]),
            )
        )
    return results


def _calibrate(
    subject: Subject,
    recipe: str,
    samples: Sequence[Sample],
    regime: Regime,
    captured: CapturedModel,
    plugins: Any,
) -> CalibratedModel:
    request = subject.request(recipe, keeps_float=any(sample.keeps_float for sample in samples))
    prepared = prepare(captured, plugins, request)
    static = subject.recipe(recipe).kernel is Kernel.STATIC
    return calibrate(prepared, [build_inputs(samples, regime)] if static else None)


def _lower(converted: ConvertedModel, watcher: Watcher) -> LoweredProgram:
    """The program; an error carries the problems of the partitions as notes."""
    try:
        return lower(converted)
    except Exception as error:
        for _, _, text in (problem for report in watcher.reports for problem in report.problems):
            error.add_note(text)
        raise


def _convert_to_integers(
    subject: Subject, recipe: str, calibrated: CalibratedModel
) -> tuple[ConvertedModel | None, str]:
    """The golden form, or ``None`` and the reason why there is none."""
    if subject.recipe(recipe).kernel is not Kernel.STATIC:
        return None, "only static recipes have an integer form"
    if subject.info.arithmetic is None:
        return None, "the backend declares no arithmetic profile"
    try:
        return convert(calibrated, "integer"), ""
    except ConversionError as error:
        return None, f"out of the profile's numbers: {str(error).partition(chr(10))[0]}"


def _list_islands(golden: ConvertedModel | None, number: int) -> str:
    """The quantized operators of a sample that the integer form computes in float."""
    decisions = () if golden is None else select_branch(golden.decisions, number)
    quantized = (d for d in decisions if d.verdict is Verdict.QUANTIZED)
    return "; ".join(f"{d.node}: {d.form}" for d in quantized if d.is_island)
