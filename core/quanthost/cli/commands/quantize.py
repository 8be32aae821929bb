"""``quanthost quantize``: a model by reference, through all five stages, to a ``.pte`` with its record."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

import quanthost
from quanthost.cli.exits import UsageError
from quanthost.cli.output import chatter_on_stderr, refuse_existing
from quanthost.cli.progress_display import shown
from quanthost.cli.references import Reference, is_reference
from quanthost.cli.settings import Report, Settings
from quanthost.host.discovery import Policy, load
from quanthost.toolchain.quiet import quiet_imports

if TYPE_CHECKING:
    from quanthost import LoweredProgram
    from quanthost.stages.progress import Progress

__all__ = ["Sources", "batches", "data_source", "quantize"]


def quantize(settings: Settings, policy: Policy) -> None:
    """Do what the settings say, and report.

    Raises:
        UsageError: the output exists, or something that was typed cannot be understood.
        QuanthostError: a stage refused.
    """
    _check_output(settings.output)
    refuse_existing(settings.output, settings.output.with_suffix(".json"), force=settings.force)
    if settings.statistics is not None and settings.calibration is not None:
        raise UsageError(
            "--statistics beside --calibration", needed="one of them", where="command line",
            remedy="leave one of them out", value=settings.statistics,
        )  # fmt: skip
    sources = Sources.of(settings.model, settings.inputs, settings.calibration)
    with chatter_on_stderr(), shown() as progress:
        program = _program(sources, settings, policy, progress)
        program.save(settings.output)
    _note_unused_data(settings, program)
    if settings.report is not Report.NONE:
        from quanthost.cli.commands.inspect import show_program

        show_program(settings.output, as_json=settings.report is Report.JSON)


def _check_output(path: Path) -> None:
    if path.suffix == ".pte":
        return
    raise UsageError(
        f"the output {path}", needed="a name that ends in .pte, since the record beside it ends in .json",
        where="--output", remedy=f"name it {path.with_suffix('.pte')}", value=path,
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class Sources:
    """Where model, example inputs and data come from; nothing of it is loaded yet."""

    model: Reference
    inputs: Reference | None
    calibration: Reference | Path | None

    @classmethod
    def of(cls, model: str, inputs: str | None, calibration: str | None) -> Sources:
        """Raises UsageError where one is neither a reference nor a path that exists."""
        return cls(
            model=Reference.parse(model, where="MODEL"),
            inputs=None if inputs is None else Reference.parse(inputs, where="--inputs"),
            calibration=None if calibration is None else data_source(calibration, where="--calibration"),
        )

    def load(self, backends: Sequence[str], policy: Policy) -> tuple[Any, Any, Any]:
        """The model, its example inputs and its calibration batches."""
        with quiet_imports():
            # the plugins before the model, which may take long to build
            for name in backends:
                load(name, policy)
        model, inputs = _model_and_inputs(self)
        data = self.calibration
        return model, inputs, None if data is None else batches(data, model, inputs, where="--calibration")


def data_source(text: str, *, where: str) -> Reference | Path:
    """A reference to a function, or a path that exists."""
    if is_reference(text):
        return Reference.parse(text, where=where)
    path = Path(text)
    if path.exists():
        return path
    raise UsageError(
        f"no file or folder {path}", needed="MODULE:CALLABLE, a file or a folder", where=where,
        remedy="correct the path", value=text,
    )  # fmt: skip


def _program(sources: Sources, settings: Settings, policy: Policy, progress: Progress) -> LoweredProgram:
    with progress.stage("load"):
        model, inputs, data = sources.load(settings.backend, policy)
        if settings.statistics is not None:
            data = quanthost.Statistics.load(settings.statistics)
    return quanthost.quantize(
        model, inputs, settings.backend, settings.recipe, data, settings.override,
        representation=settings.representation, arithmetic=settings.arithmetic, io=settings.io,
        placement=settings.placement, optimize_for=settings.optimize_for, costs=settings.costs,
        options=settings.set, policy=policy, progress=progress, cache=settings.cache,
    )  # fmt: skip


def _model_and_inputs(sources: Sources) -> tuple[Any, Any]:
    from torch import nn
    from torch.export import ExportedProgram

    made = sources.model.call(where="MODEL")
    is_pair = isinstance(made, tuple) and len(made) == 2
    model, inputs = made if is_pair else (made, None)
    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise UsageError(
            f"{sources.model} with a result of type {type(made).__name__}", where="MODEL", value=made,
            needed="a torch.nn.Module, or a pair of it and its example inputs",
            remedy="return the model from the function",
        )  # fmt: skip
    if sources.inputs is not None:
        return model, sources.inputs.call(where="--inputs")
    if is_pair:
        return model, inputs
    raise UsageError(
        f"{sources.model} without example inputs", needed="inputs to capture the model with", where="MODEL",
        remedy="return (model, inputs) from the function, or name one with --inputs",
    )  # fmt: skip


def batches(source: Reference | Path, model: Any, inputs: Any, *, where: str) -> Iterable[Any]:
    """The batches of a function, a file or a folder."""
    if isinstance(source, Path):
        from quanthost.cli.data_files import Layout, batches_from

        return batches_from(source, Layout.of(model, inputs))
    made = source.call(where=where)
    if isinstance(made, Iterable):
        return made
    raise UsageError(
        f"{source} with a result of type {type(made).__name__}", where=where, value=made,
        needed="a list, loader or generator of batches", remedy="return the batches from the function",
    )  # fmt: skip


def _note_unused_data(settings: Settings, program: LoweredProgram) -> None:
    source, recipe = settings.calibration, program.record.recipe
    if source is not None and not program.record.data_digest:
        print(f"note: the recipe {recipe} needs no data; {source} was not used", file=sys.stderr)
