"""Takes samples through all five stages, many in one program, and splits where something is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import attrs
import torch
from torch import fx, nn
from torch.export import Dim

from quanthost.errors import ConversionError, EmptyProgramError, NoDataError
from quanthost.graph.digest import graph_text
from quanthost.graph.qdq import qdq_parameters
from quanthost.graph.view import is_dequantize
from quanthost.stages.calibrating.calibrate import calibrate
from quanthost.stages.capturing.capture import CapturedModel, capture
from quanthost.stages.converting.convert import convert
from quanthost.stages.lowering.lower import lower
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.preparing.prepare import prepare
from quanthost.stages.records import CalibratedModel, ConvertedModel
from quanthost.testing.cases.samples import Branches, Regime, Sample
from quanthost.testing.proving.operator_sites import Sited, sites
from quanthost.testing.proving.subject import Subject
from quanthost.testing.proving.watching import Watcher
from quanthost.values import Decision, Kernel, Verdict

__all__ = ["Converted", "Failed", "Output", "Proved", "captured_of", "converted_of", "proved_of", "split"]

# beyond what calibration saw: an integer kernel must saturate as the q/dq form does
BEYOND = 1.25
_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class Failed:
    """A sample that a stage refused: with what error."""

    stage: str
    error: BaseException

    @property
    def is_without_data(self) -> bool:
        """Whether a range could not be found since the tensor is empty."""
        return isinstance(self.error, NoDataError)

    @property
    def is_idle(self) -> bool:
        """Whether it was alone in its program, and nothing of it is computed."""
        return isinstance(self.error, EmptyProgramError)

    @property
    def short(self) -> str:
        return str(self.error).strip().partition("\n")[0]

    def __str__(self) -> str:
        text = str(self.error).strip() or type(self.error).__name__
        notes = getattr(self.error, "__notes__", [])
        before = f"{notes[0]}; then " if notes else ""
        return f"{before}{self.stage} refuses it: {type(self.error).__name__}: {text}"


@attrs.frozen(kw_only=True)
class Output:
    """One output of one run: the model, the q/dq form in eager torch, the runtime, the golden integer form.

    ``scale`` is that of the quantized result, ``None`` where the result is float; ``behind`` then the largest
    scale of the quantized tensors that it is computed from by one float operator, 0 where there are none.
    """

    model: torch.Tensor
    qdq: torch.Tensor
    runtime: torch.Tensor
    golden: torch.Tensor | None
    scale: float | None
    behind: float = 0.0


@attrs.frozen(kw_only=True, eq=False)
class Converted:
    """A sample's part of a converted graph."""

    decisions: tuple[Decision, ...]
    sites: tuple[Sited, ...]


@attrs.frozen(kw_only=True, eq=False)
class Proved:
    """A sample that was lowered and has run: as calibrated, beyond, and at smaller sizes where they may vary.

    ``problems`` are those of its partitions, each with its kind; ``in_float`` are the captured nodes that the
    table's float kernels alone take; ``no_golden`` says why there is no integer form; ``is_idle``, that its
    outputs are all inputs.
    """

    decisions: tuple[Decision, ...]
    runs: tuple[tuple[Output, ...], ...]
    problems: tuple[tuple[str, str], ...]
    no_golden: str
    in_float: frozenset[str] = frozenset()
    is_idle: bool = False


def split(
    samples: Sequence[Sample], work: Callable[[Sequence[Sample]], list[_T]], most: int, stage: str
) -> Iterator[tuple[Sample, _T | Failed]]:
    """Work on at most so many samples at once; where that fails, on halves, down to the one that fails.

    A program that fails with its halves working is told as failing for each of its samples.
    """
    for start in range(0, len(samples), most):
        yield from _halved(samples[start : start + most], work, stage)


def _halved(
    samples: Sequence[Sample], work: Callable[[Sequence[Sample]], list[_T]], stage: str
) -> Iterator[tuple[Sample, _T | Failed]]:
    try:
        yield from zip(samples, work(samples))
        return
    # a backend's code may raise anything
    except (Exception, SystemExit) as error:
        failure = error
    if len(samples) == 1:
        yield samples[0], Failed(stage=getattr(failure, "stage", None) or stage, error=failure)
        return
    middle = len(samples) // 2
    yield from _halved(samples[:middle], work, stage)
    yield from _halved(samples[middle:], work, stage)


def captured_of(samples: Sequence[Sample], regime: Regime = Regime.PLAIN) -> CapturedModel:
    """The samples as branches of one program."""
    inputs = inputs_of(samples, regime)
    shapes = None
    if any(sample.is_dynamic for sample in samples):
        each = [dims for s in samples for dims in (s.dynamic or ((),) * len(s.inputs))]
        shapes = (tuple(dict.fromkeys(dims, Dim.DYNAMIC) for dims in each),)
    with torch.no_grad():
        return capture(Branches(samples).eval(), inputs, dynamic_shapes=shapes)


def inputs_of(samples: Sequence[Sample], regime: Regime) -> tuple[torch.Tensor, ...]:
    return tuple(x for sample in samples for x in (sample.in_regime(regime) or sample.inputs))


def branch(decisions: Sequence[Decision], number: int) -> tuple[Decision, ...]:
    """The decisions on the operators of one sample."""
    path = f"cases.{number}."
    return tuple(d for d in decisions if d.module is not None and f"{d.module}.".startswith(path))


def _calibrated(
    subject: Subject,
    recipe: str,
    samples: Sequence[Sample],
    regime: Regime,
    captured: CapturedModel,
    plugins: Any,
) -> CalibratedModel:
    request = subject.request(recipe, keeps=any(sample.keeps for sample in samples))
    prepared = prepare(captured, plugins, request)
    static = subject.recipe(recipe).kernel is Kernel.STATIC
    return calibrate(prepared, [inputs_of(samples, regime)] if static else None)


def converted_of(
    subject: Subject, recipe: str, samples: Sequence[Sample], captured: CapturedModel
) -> list[Converted]:
    """The samples' parts of one converted graph."""
    plugins, _ = subject.watched()
    converted = convert(_calibrated(subject, recipe, samples, Regime.PLAIN, captured, plugins))
    return _parts(converted, samples)


def _parts(converted: ConvertedModel, samples: Sequence[Sample]) -> list[Converted]:
    found = sites(converted.module)
    made = []
    for number, _ in enumerate(samples):
        decisions = branch(converted.decisions, number)
        names = {decision.node for decision in decisions}
        made.append(Converted(decisions=decisions, sites=tuple(s for s in found if s.origin in names)))
    return made


def proved_of(
    subject: Subject,
    recipe: str,
    samples: Sequence[Sample],
    regime: Regime = Regime.PLAIN,
    *,
    in_integers: bool = False,
    golden: bool = False,
    captured: CapturedModel | None = None,
) -> list[Proved]:
    """Lower the samples as one program, run it, and take it apart again; ``captured`` is that program.

    With ``golden`` the golden form runs beside it. With ``in_integers`` it is that form that is lowered, to
    the runtime's portable kernels.
    """
    plugins, watcher = subject.watched()
    captured = captured_of(samples, regime) if captured is None else captured
    calibrated = _calibrated(subject, recipe, samples, regime, captured, plugins)
    integer, why = None, "it was not asked for"
    if golden or in_integers:
        integer, why = _golden(subject, recipe, calibrated)
    converted = integer if in_integers and integer is not None else convert(calibrated)
    program = _lowered(converted, watcher)
    inputs = inputs_of(samples, regime)
    model = Branches(samples).eval()
    # operands that were apart meet
    # operands that were large apart are so together
    given = [inputs, beyond(inputs_of(samples, Regime.HUGE) if regime is Regime.APART else inputs)]
    if any(sample.is_dynamic for sample in samples):
        given.append(_shorter(samples, inputs))
    runs = [_run(model, converted, integer, program, each) for each in given]
    problems = [problem for partitioned in watcher.partitioned for problem in partitioned.problems]
    in_float = {
        name for partitioned in watcher.partitioned for name, kernels in partitioned.kernels.items()
        if name is not None and kernels == {Kernel.FLOAT}
    }  # fmt: skip
    counts = _counts(samples)
    passed = _passed_through(converted)
    made = []
    for number, _ in enumerate(samples):
        decisions = branch(program.decisions, number)
        names = {decision.node for decision in decisions}
        start = sum(counts[:number])
        own = tuple((kind, text) for name, kind, text in problems if name in names)
        islands = [f"{d.node}: {d.form}" for d in _of(integer, number) if d.is_island]
        made.append(
            Proved(
                decisions=decisions,
                problems=own,
                in_float=frozenset(in_float & names),
                no_golden=why or "; ".join(islands),
                runs=tuple(run[start : start + counts[number]] for run in runs),
                is_idle=all(passed[start : start + counts[number]]),
            )
        )
    return made


def _lowered(converted: ConvertedModel, watcher: Watcher) -> LoweredProgram:
    """The program; what is wrong with its partitions is noted on the error where it is refused."""
    try:
        return lower(converted)
    except Exception as error:
        for _, _, text in (problem for each in watcher.partitioned for problem in each.problems):
            error.add_note(text)
        raise


def _passed_through(converted: ConvertedModel) -> list[bool]:
    """Of each output whether it is an input."""
    return [isinstance(leaf, fx.Node) and leaf.op == "placeholder" for leaf in _leaves(converted.module)]


def _leaves(module: fx.GraphModule) -> Sequence[Any]:
    leaves = module.graph.output_node().args[0]
    return leaves if isinstance(leaves, (tuple, list)) else [leaves]


def _of(golden: ConvertedModel | None, number: int) -> tuple[Decision, ...]:
    if golden is None:
        return ()
    quantized = [d for d in branch(golden.decisions, number) if d.verdict is Verdict.QUANTIZED]
    return tuple(quantized)


def _golden(subject: Subject, recipe: str, calibrated: CalibratedModel) -> tuple[ConvertedModel | None, str]:
    if subject.recipe(recipe).kernel is not Kernel.STATIC:
        return None, "only static recipes have an integer form"
    if subject.info.arithmetic is None:
        return None, "the backend declares no arithmetic profile"
    try:
        return convert(calibrated, "integer"), ""
    except ConversionError as error:
        return None, f"out of the profile's numbers: {str(error).partition(chr(10))[0]}"


def _counts(samples: Sequence[Sample]) -> list[int]:
    counts = []
    for sample in samples:
        with torch.no_grad():
            made = sample.module(*sample.inputs)
        counts.append(len(made) if isinstance(made, tuple) else 1)
    return counts


def beyond(inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The same inputs, of larger range; integers stay as they are."""
    return tuple(x * BEYOND if x.is_floating_point() else x for x in inputs)


def _shorter(samples: Sequence[Sample], inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    left = iter(inputs)
    own = [[next(left) for _ in sample.inputs] for sample in samples]
    return tuple(x for sample, given in zip(samples, own) for x in sample.shorter(given))


def _run(
    model: nn.Module,
    converted: ConvertedModel,
    golden: ConvertedModel | None,
    program: LoweredProgram,
    inputs: Sequence[torch.Tensor],
) -> tuple[Output, ...]:
    module = converted.module
    with torch.no_grad():
        made = [model(*inputs), module(*inputs), program.run(*inputs)]
        if golden is not None:
            made.append(golden.module(*inputs))
    flat = [list(each) if isinstance(each, (tuple, list)) else [each] for each in made]
    golds = flat[3] if golden is not None else [None] * len(flat[0])
    return tuple(
        Output(model=m, qdq=q, runtime=r, golden=g, scale=_scale(leaf), behind=_behind(leaf))
        for m, q, r, g, leaf in zip(flat[0], flat[1], flat[2], golds, _leaves(module), strict=True)
    )


def _scale(node: Any) -> float | None:
    """The scale of the dequantize that makes an output, ``None`` where something else does."""
    parameters = qdq_parameters(node) if is_dequantize(node) else None
    return parameters.scale if parameters is not None and parameters.are_numbers else None


def _behind(node: Any) -> float:
    sources = node.all_input_nodes if isinstance(node, fx.Node) and _scale(node) is None else ()
    return max((scale for source in sources if (scale := _scale(source)) is not None), default=0.0)


def text_of(sample: Sample) -> str:
    """The sample's captured graph, its parameters and inputs, line by line."""
    shapes = ", ".join(f"{x.dtype} {list(x.shape)}".removeprefix("torch.") for x in sample.inputs)
    held = ", ".join(f"{name} {list(p.shape)}" for name, p in sample.module.named_parameters())
    try:
        text = graph_text(captured_of([sample]).exported.graph_module)
    except Exception as error:
        text = f"(cannot be captured: {error})"
    return f"inputs: {shapes}\n" + (f"parameters: {held}\n" if held else "") + text
