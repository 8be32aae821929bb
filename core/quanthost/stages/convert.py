"""``convert``: observers become quantize and dequantize, in the representation that was asked for."""

from __future__ import annotations

from torch import fx

from quanthost.errors import ConversionError, QuanthostError, RequestError
from quanthost.graph.rewrite import drop_idle_dropout
from quanthost.stages.calibrate import calibrate
from quanthost.stages.records import CalibratedModel, ConvertedModel, PreparedModel
from quanthost.stages.refine import refine
from quanthost.toolchain import pt2e
from quanthost.values import Refinement, Representation

__all__ = ["convert"]


def convert(
    calibrated: CalibratedModel | PreparedModel, representation: Representation | str = Representation.QDQ
) -> ConvertedModel:
    """Make the quantized graph, which runs in eager torch.

    A ``PreparedModel`` serves where no data is needed: after training with ``qat=True``, or with a recipe
    without static ranges. Batch norm and dropout are switched to evaluation.

    Raises:
        RequestError: the representation is unknown or not available.
        CalibrationError: a static range has seen no data.
        ConversionError: torchao could not convert the graph.
    """
    wanted = _representation(representation)
    if isinstance(calibrated, PreparedModel):
        calibrated = _without_data(calibrated)
    module = pt2e.deep_copy(calibrated.module)
    if calibrated.prepared.request.qat:
        pt2e.switch_to_eval(module)
        drop_idle_dropout(module)
    try:
        converted, refinement = _converted(module, calibrated, wanted)
    except QuanthostError:
        raise
    except Exception as error:
        raise ConversionError(
            f"torchao could not convert the graph: {error}", needed="a graph that convert_pt2e accepts",
            stage="convert", remedy="keep the operator named above in float by an override, and report it",
        ) from error  # fmt: skip
    return ConvertedModel(
        calibrated=calibrated, module=converted, representation=wanted,
        decisions=calibrated.prepared.decisions, refinement=refinement,
    )  # fmt: skip


def _converted(
    module: fx.GraphModule, calibrated: CalibratedModel, wanted: Representation
) -> tuple[fx.GraphModule, Refinement | None]:
    qat = calibrated.prepared.request.qat
    if wanted is Representation.QDQ and not qat:
        return refine(module, calibrated.sample)
    return pt2e.convert(module, qat=qat, reference=wanted is Representation.REFERENCE), None


def _representation(given: Representation | str) -> Representation:
    available = (Representation.QDQ, Representation.REFERENCE)
    try:
        wanted = Representation(given)
    except ValueError:
        wanted = None
    if wanted in available:
        return wanted
    raise RequestError(
        f"the representation {getattr(given, 'value', given)!r}", stage="convert", value=given,
        needed="one of " + ", ".join(r.value for r in available), remedy="choose one of these",
    )  # fmt: skip


def _without_data(prepared: PreparedModel) -> CalibratedModel:
    if prepared.request.qat:
        return CalibratedModel(prepared=prepared, module=prepared.module, batches=0, data_digest="")
    return calibrate(prepared, None)
