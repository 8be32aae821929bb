"""The five stages and ``quantize`` as app developers call them, with backends by name."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import attrs

from quanthost.caller_warning import warn_caller
from quanthost.deprecation import renamed_argument
from quanthost.errors import RequestError
from quanthost.host import discovery
from quanthost.host.cache import Cache, program_key
from quanthost.host.requests import resolve
from quanthost.host.target import Backend, Target, TargetSettings, as_target
from quanthost.stages.calibrating.calibrate import calibrate, collect_statistics
from quanthost.stages.calibrating.statistics import Statistics
from quanthost.stages.capturing.capture import CapturedModel, capture
from quanthost.stages.converting import convert as _convert
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.preparing import prepare as _prepare
from quanthost.stages.progress import Progress, silent
from quanthost.toolchain.quiet import quiet_imports
from quanthost.values import Io, Kernel, Override, Representation, Toolchain
from quanthost.values.choices import choose

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from quanthost.stages.records import CalibratedModel, ConvertedModel, PreparedModel
    from quanthost.values import ArithmeticProfile

__all__ = [
    "calibrate",
    "capture",
    "collect_statistics",
    "convert",
    "lower",
    "prepare",
    "quantize",
]


def prepare(
    captured: CapturedModel,
    backend: Backend | Target,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    **settings: Unpack[TargetSettings],
) -> PreparedModel:
    """Insert observers where the backend's rows and the recipe need them.

    Args:
        captured: What ``capture`` returned; captured with ``train=True`` for ``qat``.
        backend: A ``Target``, or its backend, with the other fields as ``recipe``, ``overrides`` and
            ``settings``. With ``qat``, train ``prepared.module`` yourself, then ``convert`` it.

    Raises:
        DiscoveryError: a backend is unknown, blocked or broken.
        RequestError: recipe, option or mode does not exist.
        OverrideError: an override matches nothing or cannot be honoured.
    """
    plugins, request = resolve(as_target(prepare, backend, recipe, overrides, settings))
    return _prepare.prepare(captured, plugins, request)


def convert(
    calibrated: CalibratedModel | PreparedModel,
    representation: Representation | str = Representation.QDQ,
    arithmetic: ArithmeticProfile | str | None = None,
) -> ConvertedModel:
    """Make the quantized graph; see ``quanthost.stages.converting.convert``."""
    return _convert.convert(calibrated, representation, arithmetic)


@renamed_argument("lowering", "toolchain", removed_in="0.3")
def lower(
    converted: ConvertedModel,
    io: Io | str = Io.FLOAT,
    *,
    intermediates: bool = False,
    allow_missing_kernels: bool = False,
    toolchain: Toolchain | str | None = None,
) -> LoweredProgram:
    """Make the program; see ``quanthost.stages.lowering.lower``.

    ``io`` is ``"float"``, ``"int8"``, ``"uint8"`` or ``"int16"``, ``toolchain`` is that of ``Target``, the
    one that the model was prepared with where ``None``.
    """
    ends = choose(Io, io, "io")
    if toolchain is not None:
        # the word before 0.2
        toolchain = Toolchain.FAST if toolchain == "quick" else toolchain
        converted = _with_toolchain(converted, choose(Toolchain, toolchain, "toolchain"))
    plugins = discovery.plugin_records(converted.calibrated.prepared.plugins.registered)
    with quiet_imports():
        # late: ExecuTorch comes with it
        from quanthost.stages.lowering import lower as _lower

    program = _lower.lower(
        converted, plugins, io=ends, intermediates=intermediates,
        allow_missing_kernels=allow_missing_kernels,
    )  # fmt: skip
    _warn_of_findings(program)
    return program


def _warn_of_findings(program: LoweredProgram) -> None:
    for finding in program.record.findings:
        warn_caller(str(finding))


def _with_toolchain(converted: ConvertedModel, toolchain: Toolchain) -> ConvertedModel:
    calibrated = converted.calibrated
    request = attrs.evolve(calibrated.prepared.request, toolchain=toolchain)
    prepared = attrs.evolve(calibrated.prepared, request=request)
    return attrs.evolve(converted, calibrated=attrs.evolve(calibrated, prepared=prepared))


def quantize(
    model: nn.Module,
    inputs: Any,
    backend: Backend | Target,
    recipe: str | None = None,
    calibration: Iterable[Any] | Statistics | None = None,
    overrides: Sequence[Override] = (),
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    representation: Representation | str = Representation.QDQ,
    arithmetic: ArithmeticProfile | str | None = None,
    io: Io | str = Io.FLOAT,
    allow_missing_kernels: bool = False,
    progress: Progress | None = None,
    cache: Path | str | bool | None = None,
    **settings: Unpack[TargetSettings],
) -> LoweredProgram:
    """All five stages: a model and its example inputs to a program.

    ``model`` and its weights stay as they are.

    Args:
        model: The model in evaluation mode.
        inputs: Its positional example inputs, with those by name in ``kwargs``.
        backend: A ``Target``, or its backend, with the other fields as ``recipe``, ``overrides`` and
            ``settings``.
        calibration: Batches of real inputs, or statistics of them; recipes without static ranges
            (``fp32``, dynamic, weight-only) need none.
        kwargs: Example inputs by name.
        dynamic_shapes: As for ``capture``.
        representation: As for ``convert``, with ``arithmetic``.
        io: As for ``lower``, with ``allow_missing_kernels``.
        progress: Receives each stage and batch.
        cache: A folder where statistics and programs are stored and looked up, ``True`` for the user's own,
            ``False`` for none; the folder that ``QUANTHOST_CACHE`` names where ``None``, or none without it.
            A folder that cannot be written to costs a warning, not the run.

    Raises:
        QuanthostError: a stage refused; the message says what was seen, needed, where, and what to do.
    """
    target = as_target(quantize, backend, recipe, overrides, settings)
    _refuse_training(target)
    form, ends = choose(Representation, representation, "representation"), choose(Io, io, "io")
    progress = silent() if progress is None else progress
    store = Cache.of(cache)
    plugins, request = resolve(target)
    needs_data = _prepare.recipe_of(plugins, request).kernel is not Kernel.FLOAT
    with progress.stage("capture"):
        captured = capture(model, inputs, kwargs, dynamic_shapes, toolchain=request.toolchain)
    with progress.stage("prepare"):
        prepared = _prepare.prepare(captured, plugins, request)
    with progress.stage("calibrate"):
        data = calibration if needs_data else None
        if store is not None and data is not None and not isinstance(data, Statistics):
            data = store.statistics(prepared, data, progress)
        calibrated = calibrate(prepared, data, progress)
    make = functools.partial(lower, io=ends, allow_missing_kernels=allow_missing_kernels)
    return _program(calibrated, form, arithmetic, make, store, progress)


def _refuse_training(target: Target) -> None:
    if target.qat:
        raise RequestError(
            "quantize() with qat=True", needed="a training loop between prepare and convert",
            remedy="call prepare(..., qat=True), train its module, then convert and lower", stage="prepare",
        )  # fmt: skip


def _program(
    calibrated: CalibratedModel,
    representation: Representation,
    arithmetic: ArithmeticProfile | str | None,
    make: functools.partial[LoweredProgram],
    store: Cache | None,
    progress: Progress,
) -> LoweredProgram:
    """Convert and lower, unless the cache has the program."""
    key = None
    # the code of a plugin object has no digest
    if store is not None and not calibrated.prepared.plugins.unregistered:
        choices = {"representation": representation, "arithmetic": arithmetic, **make.keywords}
        key = program_key(calibrated, choices)
        program = store.program(key, calibrated.prepared)
        if program is not None:
            with progress.stage("lower"):
                progress.note("from the cache")
            _warn_of_findings(program)
            return program
    with progress.stage("convert"):
        converted = _convert.convert(calibrated, representation, arithmetic)
    with progress.stage("lower"):
        program = make(converted)
        for note in () if program.record.toolchain is None else program.record.toolchain.notes:
            progress.note(note)
        if store is not None and key is not None:
            store.keep(key, program)
    return program
