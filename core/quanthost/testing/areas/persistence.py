"""Cases of the area ``persistence``: manifest, records and programs stay the same from run to run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import torch

from quanthost.catalogue import CATALOGUE
from quanthost.errors import ManifestError, QuanthostError, RequestError
from quanthost.host.loading import load
from quanthost.host.manifests import check_manifest
from quanthost.stages.calibrating.calibrate import calibrate
from quanthost.stages.converting.convert import convert
from quanthost.stages.lowering.lower import lower
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.preparing.prepare import prepare, recipe_of
from quanthost.testing.cases.samples import Regime, Sample, build_operator_samples
from quanthost.testing.proving.case import Case, CaseFailure, CaseSkip, Judgment
from quanthost.testing.proving.programs import build_inputs, capture_samples
from quanthost.testing.proving.session import Session
from quanthost.toolchain.partition import Partitioner
from quanthost.values import Kernel, ProgramRecord, Recipe, codec

__all__ = ["derive_cases"]

_NONSENSE = ("no such value", -1, 0.5, True)
_OPERATORS = ("conv2d.default", "linear.default", "add.Tensor", "relu.default", "cat.default")


def derive_cases(session: Session) -> Iterator[Case]:
    yield Case(
        id="persistence/manifest", subject="quanthost.toml", must="the manifest agrees with the code",
        judge=partial(_judge_manifest, session),
    )  # fmt: skip
    yield Case(
        id="persistence/info", subject="quanthost_backend_info", must="what it returns survives JSON",
        judge=partial(_judge_info, session),
    )  # fmt: skip
    yield Case(
        id="persistence/options", subject="options", must="an option that is not declared is refused",
        judge=partial(_judge_unknown_option, session),
    )  # fmt: skip
    for name in session.subject.info.options:
        yield Case(
            id=f"persistence/option/{name}", subject=f"option {name}",
            must="values that make no sense are refused", judge=partial(_judge_option, session, name),
        )  # fmt: skip
    for recipe in session.selection.recipes:
        yield Case(
            id=f"persistence/runs/{recipe.name}", subject="program",
            must="a second run on the same inputs gives the same, and no input is written to",
            judge=partial(_judge_runs, session, recipe),
        )  # fmt: skip
        yield Case(
            id=f"persistence/program/{recipe.name}", subject="program and record",
            must="bytes are the same from run to run; the record survives JSON; saved and loaded, it runs",
            judge=partial(_judge_program, session, recipe),
        )  # fmt: skip


def _judge_manifest(session: Session) -> Judgment:
    installed, info = session.subject.installed, session.subject.info
    if installed is None or installed.manifest is None:
        return CaseSkip("a plugin object without a distribution has no manifest")
    try:
        check_manifest(installed.manifest, info)
    except ManifestError as error:
        return CaseFailure(message=str(error))
    if installed.manifest.runtime != info.runtime:
        stated, coded = installed.manifest.runtime, info.runtime
        return CaseFailure(message=f"runtime is {stated!r} in the manifest and {coded!r} in the code")
    return None


def _judge_info(session: Session) -> Judgment:
    info = session.subject.info
    again = codec.from_json(type(info), codec.to_json(info))
    return None if again == info else CaseFailure(message=f"{info} became {again}")


def _judge_unknown_option(session: Session) -> Judgment:
    plugins, _ = session.subject.watch()
    request = session.subject.request(session.selection.recipes[0].name)
    try:
        recipe_of(plugins, attrs.evolve(request, options={"no_such_option": 1}))
    except RequestError:
        return None
    return CaseFailure(message="an option that no backend declares is accepted")


def _judge_option(session: Session, name: str) -> Judgment:
    """No option can accept all of these values: at least one has the wrong type."""
    for value in _NONSENSE:
        try:
            _use_option(session, name, value)
        except QuanthostError:
            return None
    values = ", ".join(repr(value) for value in _NONSENSE)
    return CaseFailure(message=f"{name} accepts each of {values}")


def _use_option(session: Session, name: str, value: Any) -> None:
    """Call all that reads options before a graph is lowered."""
    plugins, _ = session.subject.watch()
    request = attrs.evolve(session.subject.request(session.selection.recipes[0].name), options={name: value})
    recipe_of(plugins, request)
    prepare(capture_samples(list(build_operator_samples(CATALOGUE["relu.default"]))), plugins, request)
    plugins.lowering_options(request)
    plugins.partitioners(request, Partitioner)


def _judge_runs(session: Session, recipe: Recipe) -> Judgment:
    program, inputs = _lower(session, recipe), build_inputs(_build_samples(), Regime.PLAIN)
    copies = [x.clone() for x in inputs]
    first = [x.clone() for x in program.run(*inputs)]
    second = program.run(*inputs)
    written = [number for number, (x, copy) in enumerate(zip(inputs, copies)) if not torch.equal(x, copy)]
    if written:
        return CaseFailure(message=f"the program wrote into its inputs {', '.join(map(str, written))}")
    differing = [number for number, (a, b) in enumerate(zip(first, second)) if not torch.equal(a, b)]
    if differing:
        return CaseFailure(message=f"a second run gives other outputs: {', '.join(map(str, differing))}")
    return None


def _build_samples() -> list[Sample]:
    return [sample for name in _OPERATORS for sample in build_operator_samples(CATALOGUE[name])]


def _lower(session: Session, recipe: Recipe) -> LoweredProgram:
    plugins, _ = session.subject.watch()
    samples = _build_samples()
    prepared = prepare(capture_samples(samples), plugins, session.subject.request(recipe.name))
    static = recipe.kernel is Kernel.STATIC
    return lower(convert(calibrate(prepared, [build_inputs(samples, Regime.PLAIN)] if static else None)))


def _judge_program(session: Session, recipe: Recipe) -> Judgment:
    first, second = _lower(session, recipe), _lower(session, recipe)
    if first.buffer != second.buffer:
        sizes = f"{len(first.buffer)} and {len(second.buffer)} bytes"
        return CaseFailure(message=f"two lowerings give different programs of {sizes}")
    if first.decisions != second.decisions:
        return CaseFailure(message="two lowerings give different decisions")
    record = codec.from_json(ProgramRecord, codec.to_json(first.record))
    if record != first.record:
        return CaseFailure(message="the record is different after JSON")
    inputs = build_inputs(_build_samples(), Regime.PLAIN)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(first.save(Path(folder) / "model.pte"))
    if loaded.record != first.record:
        return CaseFailure(message="the record is different after save and load")
    if first.record.own_runner:
        return None
    same = all(torch.equal(a, b) for a, b in zip(first.run(*inputs), loaded.run(*inputs), strict=True))
    return None if same else CaseFailure(message="the loaded program gives other results")
