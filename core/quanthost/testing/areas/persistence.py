"""Cases of the area ``persistence``: manifest, records and programs are what they were, each time."""

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
from quanthost.testing.cases.samples import Regime, Sample, of_operator
from quanthost.testing.proving.flow import captured_of, inputs_of
from quanthost.testing.proving.session import Check, Fault, Session, Skip, Verdict
from quanthost.toolchain.partition import Partitioner
from quanthost.values import Kernel, ProgramRecord, Recipe, codec

__all__ = ["checks"]

_NONSENSE = ("no such value", -1, 0.5, True)
_OPERATORS = ("conv2d.default", "linear.default", "add.Tensor", "relu.default", "cat.default")


def checks(session: Session) -> Iterator[Check]:
    yield Check(
        id="persistence/manifest", subject="quanthost.toml", must="the manifest agrees with the code",
        judge=partial(_manifest, session),
    )  # fmt: skip
    yield Check(
        id="persistence/info", subject="quanthost_backend_info", must="what it returns survives JSON",
        judge=partial(_info, session),
    )  # fmt: skip
    yield Check(
        id="persistence/options", subject="options", must="an option that is not declared is refused",
        judge=partial(_options, session),
    )  # fmt: skip
    for name in session.subject.info.options:
        yield Check(
            id=f"persistence/option/{name}", subject=f"option {name}",
            must="values that make no sense are refused", judge=partial(_option, session, name),
        )  # fmt: skip
    for recipe in session.recipes:
        yield Check(
            id=f"persistence/runs/{recipe.name}", subject="program",
            must="a second run on the same inputs gives the same, and no input is written to",
            judge=partial(_runs, session, recipe),
        )  # fmt: skip
        yield Check(
            id=f"persistence/program/{recipe.name}", subject="program and record",
            must="bytes are the same from run to run; the record survives JSON; saved and loaded, it runs",
            judge=partial(_program, session, recipe),
        )  # fmt: skip


def _manifest(session: Session) -> Verdict:
    installed, info = session.subject.installed, session.subject.info
    if installed is None or installed.manifest is None:
        return Skip("a plugin object without a distribution has no manifest")
    try:
        check_manifest(installed.manifest, info)
    except ManifestError as error:
        return Fault(message=str(error))
    if installed.manifest.runtime != info.runtime:
        stated, coded = installed.manifest.runtime, info.runtime
        return Fault(message=f"runtime is {stated!r} in the manifest and {coded!r} in the code")
    return None


def _info(session: Session) -> Verdict:
    info = session.subject.info
    again = codec.from_json(type(info), codec.to_json(info))
    return None if again == info else Fault(message=f"{info} became {again}")


def _options(session: Session) -> Verdict:
    plugins, _ = session.subject.watched()
    request = session.subject.request(session.recipes[0].name)
    try:
        recipe_of(plugins, attrs.evolve(request, options={"no_such_option": 1}))
    except RequestError:
        return None
    return Fault(message="an option that no backend has passes")


def _option(session: Session, name: str) -> Verdict:
    """There is no option for which all of these are right: one at least has the wrong type."""
    for value in _NONSENSE:
        try:
            _with_option(session, name, value)
        except QuanthostError:
            return None
    told = ", ".join(repr(value) for value in _NONSENSE)
    return Fault(message=f"{name} takes {told} alike")


def _with_option(session: Session, name: str, value: Any) -> None:
    """All that reads options before a graph is lowered."""
    plugins, _ = session.subject.watched()
    request = attrs.evolve(session.subject.request(session.recipes[0].name), options={name: value})
    recipe_of(plugins, request)
    prepare(captured_of(list(of_operator(CATALOGUE["relu.default"]))), plugins, request)
    plugins.lowering_options(request)
    plugins.partitioners(request, Partitioner)


def _runs(session: Session, recipe: Recipe) -> Verdict:
    program, inputs = _made(session, recipe), inputs_of(_samples(), Regime.PLAIN)
    given = [x.clone() for x in inputs]
    first = [x.clone() for x in program.run(*inputs)]
    second = program.run(*inputs)
    written = [number for number, (x, kept) in enumerate(zip(inputs, given)) if not torch.equal(x, kept)]
    if written:
        return Fault(message=f"the program wrote into its inputs {', '.join(map(str, written))}")
    other = [number for number, (a, b) in enumerate(zip(first, second)) if not torch.equal(a, b)]
    return Fault(message=f"a second run gives other outputs: {', '.join(map(str, other))}") if other else None


def _samples() -> list[Sample]:
    return [sample for name in _OPERATORS for sample in of_operator(CATALOGUE[name])]


def _made(session: Session, recipe: Recipe) -> LoweredProgram:
    plugins, _ = session.subject.watched()
    samples = _samples()
    prepared = prepare(captured_of(samples), plugins, session.subject.request(recipe.name))
    static = recipe.kernel is Kernel.STATIC
    return lower(convert(calibrate(prepared, [inputs_of(samples, Regime.PLAIN)] if static else None)))


def _program(session: Session, recipe: Recipe) -> Verdict:
    first, second = _made(session, recipe), _made(session, recipe)
    if first.buffer != second.buffer:
        sizes = f"{len(first.buffer)} and {len(second.buffer)} bytes"
        return Fault(message=f"two runs make programs of {sizes} that differ")
    if first.decisions != second.decisions:
        return Fault(message="two runs make different decisions")
    record = codec.from_json(ProgramRecord, codec.to_json(first.record))
    if record != first.record:
        return Fault(message="the record is another one after JSON")
    inputs = inputs_of(_samples(), Regime.PLAIN)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(first.save(Path(folder) / "model.pte"))
    if loaded.record != first.record:
        return Fault(message="the record is another one after save and load")
    if first.record.own_runner:
        return None
    same = all(torch.equal(a, b) for a, b in zip(first.run(*inputs), loaded.run(*inputs), strict=True))
    return None if same else Fault(message="the loaded program gives other results")
