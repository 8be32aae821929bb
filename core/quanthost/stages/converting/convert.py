"""``convert``: replaces observers by quantize and dequantize, or by integer operators."""

from __future__ import annotations

import attrs
from torch import fx

from quanthost.errors import ConversionError, QuanthostError, RequestError
from quanthost.graph.garbage import collecting_rarely
from quanthost.graph.rewrite import drop_idle_dropout
from quanthost.graph.walk import node_that_failed
from quanthost.integer.conversion import ACCUMULATING, IntegerForms, to_integers
from quanthost.stages.calibrating.calibrate import calibrate
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.converting.losses import find_losses
from quanthost.stages.converting.refine import correct_biases, refine
from quanthost.stages.records import CalibratedModel, ConvertedModel, PreparedModel
from quanthost.toolchain import pt2e, shortcuts
from quanthost.toolchain.active import using
from quanthost.toolchain.error_text import chain_text
from quanthost.values import (
    FP32_HALF_EVEN,
    PROFILES,
    ArithmeticProfile,
    Decision,
    Finding,
    Refinement,
    Representation,
    Rescaling,
    Verdict,
)
from quanthost.values.choices import choose

__all__ = ["convert"]


@collecting_rarely()
def convert(
    calibrated: CalibratedModel | PreparedModel,
    representation: Representation | str = Representation.QDQ,
    arithmetic: ArithmeticProfile | str | None = None,
) -> ConvertedModel:
    """Convert to the quantized graph, which runs in eager torch.

    A ``PreparedModel`` is enough if no data is needed: after training with ``qat=True``, or with a recipe
    without static ranges. Batch norm and dropout are switched to evaluation.

    Args:
        calibrated: What ``calibrate`` returned.
        representation: ``"qdq"`` has float operators between dequantize and quantize; ``"reference"`` sums
            products in int32 and rescales them in float32, other operators stay as in ``"qdq"``;
            ``"integer"`` has integer operators alone, but for islands, whose reasons the decisions give.
        arithmetic: How the integer forms rescale: a profile, or the name of one that quanthost has. The
            first backend's own where ``None``.

    Raises:
        RequestError: the representation or the profile is unknown, or they do not go together.
        CalibrationError: a static range has seen no data.
        ConversionError: torchao could not convert the graph, or a number of it does not fit the profile.
    """
    form = choose(Representation, representation, "representation")
    if isinstance(calibrated, PreparedModel):
        calibrated = _without_data(calibrated)
    profile = _profile(arithmetic, form, calibrated.prepared)
    module = pt2e.deep_copy(calibrated.module)
    if calibrated.prepared.request.qat:
        pt2e.switch_to_eval(module)
        drop_idle_dropout(module)
    prepared = calibrated.prepared
    try:
        with using(prepared.request.toolchain, prepared.toolchain.notes) as active:
            with shortcuts.entered("compiled_when_called"):
                converted, refinement, findings = _convert(module, calibrated)
            converted.recompile()
    except QuanthostError:
        raise
    except Exception as error:
        raise ConversionError(
            f"torchao could not convert the graph: {chain_text(error)}", stage="convert",
            needed="a graph that convert_pt2e accepts",
            remedy="keep the operators that were added last in float by an override, and report it",
        ) from error  # fmt: skip
    decisions = calibrated.prepared.decisions
    if profile is not None:
        only = ACCUMULATING if form is Representation.REFERENCE else None
        forms = to_integers(converted, profile, only)
        decisions = tuple(_with_form(decision, forms) for decision in decisions)
    return ConvertedModel(
        calibrated=calibrated, module=converted, representation=form, arithmetic=profile,
        decisions=decisions, refinement=refinement, findings=findings, toolchain=active.record(),
    )  # fmt: skip


def _with_form(decision: Decision, forms: IntegerForms) -> Decision:
    """The decision with the form that the node has in the integer graph."""
    reason = forms.islands.get(decision.node)
    if reason is None:
        return attrs.evolve(decision, form=forms.integer.get(decision.node))
    if decision.verdict is not Verdict.QUANTIZED:
        reason = decision.reason
    return attrs.evolve(decision, form=f"float island: {reason}", is_island=True)


def _convert(
    module: fx.GraphModule, calibrated: CalibratedModel
) -> tuple[fx.GraphModule, Refinement | None, tuple[Finding, ...]]:
    if calibrated.prepared.request.qat:
        return pt2e.convert(module, qat=True), None, ()
    captured = calibrated.prepared.captured
    examples = captured.signature.flatten(captured.example_args, captured.example_kwargs)
    try:
        refinement, offsets = refine(module, calibrated.sample)
        findings = find_losses(module, calibrated.sample or (examples,), captured.nodes())
    except QuanthostError:
        raise
    except Exception as error:
        name = node_that_failed(error)
        raise ConversionError(
            f"the quantized model cannot run: {chain_text(error)}", stage="convert", node=name,
            needed="operators that compute from rounded values", where=_line(captured, name),
            remedy="keep that operator, and what feeds it, in float by an override",
        ) from error  # fmt: skip
    converted = pt2e.convert(module)
    correct_biases(converted, offsets)
    return converted, refinement, findings


def _line(captured: CapturedModel, name: str | None) -> str | None:
    return next((node.source for node in captured.nodes() if node.name == name), None)


def _profile(
    arithmetic: ArithmeticProfile | str | None, form: Representation, prepared: PreparedModel
) -> ArithmeticProfile | None:
    """How integer forms rescale; ``None`` for the q/dq form, which has none."""
    if form is Representation.QDQ:
        if arithmetic is None:
            return None
        raise RequestError(
            "an arithmetic profile for the representation qdq", stage="convert", value=arithmetic,
            needed="the representation reference or integer: q/dq form computes in float",
            remedy="leave the profile out, or choose representation='integer'",
        )  # fmt: skip
    if isinstance(arithmetic, str):
        profile = PROFILES.get(arithmetic)
        if profile is None:
            raise RequestError(
                f"the arithmetic profile {arithmetic!r}", stage="convert", value=arithmetic,
                needed="one of " + ", ".join(PROFILES),
                remedy="choose one of these, or pass an ArithmeticProfile",
            )  # fmt: skip
    else:
        profile = arithmetic if arithmetic is not None else _own_profile(prepared)
    if form is Representation.REFERENCE and profile.rescaling is not Rescaling.FP32_HALF_EVEN:
        raise RequestError(
            f"the arithmetic profile {profile.name} for the representation reference", stage="convert",
            needed=f"{FP32_HALF_EVEN.name}: the reference representation rescales in float32",
            value=arithmetic, remedy="choose representation='integer' for other profiles",
        )  # fmt: skip
    return profile


def _own_profile(prepared: PreparedModel) -> ArithmeticProfile:
    infos = (prepared.plugins.info(name) for name in prepared.request.backends)
    return next((info.arithmetic for info in infos if info.arithmetic is not None), FP32_HALF_EVEN)


def _without_data(prepared: PreparedModel) -> CalibratedModel:
    if prepared.request.qat:
        return CalibratedModel(prepared=prepared, module=prepared.module)
    return calibrate(prepared, None)
