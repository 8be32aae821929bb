"""The five stages and ``quantize`` as app developers call them: backends by name, found by entry point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quanthost.host import discovery
from quanthost.host.cache import Cache, program_key
from quanthost.host.measured_costs import Costs
from quanthost.host.requests import Backend, Options, gather, make_request
from quanthost.stages.calibrating.calibrate import calibrate, collect_statistics
from quanthost.stages.calibrating.statistics import Statistics
from quanthost.stages.capturing.capture import CapturedModel, capture
from quanthost.stages.converting import convert as _convert
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.preparing import prepare as _prepare
from quanthost.stages.progress import Progress, silent
from quanthost.toolchain.quiet import quiet_imports
from quanthost.values import Kernel, Override, Placement, Representation, Toolchain

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
    backend: Backend,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    *,
    qat: bool = False,
    placement: Placement | str = Placement.COST,
    optimize_for: str = "accuracy",
    costs: Costs | None = None,
    options: Options | None = None,
    policy: discovery.Policy | None = None,
) -> PreparedModel:
    """Insert observers where the backend's rows and the recipe want them.

    Args:
        captured: What ``capture`` returned; captured with ``train=True`` for ``qat``.
        backend: A backend's name, or several in order of priority: what an earlier one takes is closed
            to the later. An author's plugin object will do, before it is installed.
        recipe: A recipe of the backend; its first one where ``None``.
        overrides: Rules for single nodes, the first that matches wins.
        qat: Insert fake quantize modules; train ``prepared.module`` yourself, then ``convert`` it.
        placement: ``"cost"`` leaves in float what gains nothing from integers, ``"all"`` does not.
        optimize_for: ``"accuracy"`` (and size), or ``"latency"``: what is faster in float stays float.
        costs: Measured costs for ``"latency"``, or a file of them; the backend's own on this machine, as
            ``quanthost measure`` keeps them, where ``None``.
        options: Options of the backend.
        policy: Which plugins may be imported; from ``QUANTHOST_BACKENDS`` where ``None``.

    Raises:
        DiscoveryError: a backend is unknown, blocked or broken.
        RequestError: recipe, option or mode does not exist.
        OverrideError: an override matches nothing or cannot be honoured.
    """
    plugins = gather(backend, policy)
    request = make_request(
        plugins, recipe=recipe, overrides=overrides, qat=qat, placement=placement, options=options,
        optimize_for=optimize_for, costs=costs,
    )  # fmt: skip
    return _prepare.prepare(captured, plugins, request)


def convert(
    calibrated: CalibratedModel | PreparedModel,
    representation: Representation | str = "qdq",
    arithmetic: ArithmeticProfile | str | None = None,
) -> ConvertedModel:
    """Make the quantized graph; see ``quanthost.stages.converting.convert``."""
    return _convert.convert(calibrated, representation, arithmetic)


def lower(
    converted: ConvertedModel,
    io: str = "float",
    *,
    intermediates: bool = False,
    lowering: Toolchain | str | None = None,
) -> LoweredProgram:
    """Make the program; see ``quanthost.stages.lowering.lower``."""
    plugins = discovery.plugin_records(converted.calibrated.prepared.plugins.registered)
    with quiet_imports():
        # late: ExecuTorch comes with it
        from quanthost.stages.lowering import lower as _lower

    return _lower.lower(converted, plugins, io=io, intermediates=intermediates, lowering=lowering)


def quantize(
    model: nn.Module,
    inputs: Any,
    backend: Backend,
    recipe: str | None = None,
    calibration: Iterable[Any] | Statistics | None = None,
    overrides: Sequence[Override] = (),
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    representation: Representation | str = "qdq",
    arithmetic: ArithmeticProfile | str | None = None,
    io: str = "float",
    placement: Placement | str = Placement.COST,
    optimize_for: str = "accuracy",
    costs: Costs | None = None,
    options: Options | None = None,
    policy: discovery.Policy | None = None,
    progress: Progress | None = None,
    lowering: Toolchain | str | None = None,
    cache: Path | str | bool | None = None,
) -> LoweredProgram:
    """All five stages: a model and its example inputs to a program.

    ``model`` and its weights stay as they are. ``calibration`` are batches of real inputs, or statistics
    of them; recipes without static ranges (``fp32``, dynamic, weight-only) need none. ``representation``
    and ``arithmetic`` are those of ``convert``, ``optimize_for`` and ``costs`` those of ``prepare``,
    ``io`` and ``lowering`` are those of ``lower``. ``cache`` is a folder where statistics and programs
    are kept and looked for, ``True`` the user's own, ``False`` none; where ``None``, the folder that
    ``QUANTHOST_CACHE`` names, none without it. One that cannot be written to costs a warning, not the run.

    Raises:
        QuanthostError: a stage refused; the message says what was seen, needed, where, and what to do.
    """
    progress = progress if progress is not None else silent()
    held = Cache.of(cache)
    plugins = gather(backend, policy)
    request = make_request(
        plugins, recipe=recipe, overrides=overrides, placement=placement, options=options,
        optimize_for=optimize_for, costs=costs,
    )  # fmt: skip
    needs_none = _prepare.recipe_of(plugins, request).kernel is Kernel.FLOAT
    with progress.stage("capture"):
        captured = capture(model, inputs, kwargs, dynamic_shapes)
    with progress.stage("prepare"):
        prepared = _prepare.prepare(captured, plugins, request)
    with progress.stage("calibrate"):
        data = None if needs_none else calibration
        if held is not None and data is not None and not isinstance(data, Statistics):
            data = held.statistics(prepared, data, progress)
        calibrated = calibrate(prepared, data, progress)
    choices = {"representation": representation, "arithmetic": arithmetic, "io": io, "lowering": lowering}
    return _program(calibrated, choices, held, progress)


def _program(
    calibrated: CalibratedModel, choices: dict[str, Any], held: Cache | None, progress: Progress
) -> LoweredProgram:
    """Convert and lower, unless the cache has what comes of it."""
    # what an object's code is cannot be told
    keeps = held is not None and not calibrated.prepared.plugins.unregistered
    key = program_key(calibrated, choices) if keeps else None
    found = None if held is None or key is None else held.program(key, calibrated.prepared)
    if found is not None:
        with progress.stage("lower"):
            progress.note("from the cache")
        return found
    with progress.stage("convert"):
        converted = _convert.convert(calibrated, choices["representation"], choices["arithmetic"])
    with progress.stage("lower"):
        made = lower(converted, choices["io"], lowering=choices["lowering"])
        for note in () if made.record.toolchain is None else made.record.toolchain.notes:
            progress.note(note)
        if held is not None and key is not None:
            held.keep(key, made)
    return made
