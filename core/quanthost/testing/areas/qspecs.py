"""Cases of the area ``qspecs``: what each tensor of a row is quantized to, in the converted graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import attrs
import torch
from torch import fx

from quanthost.catalogue import Entry, entry_of
from quanthost.graph.operator_facts import facts_of
from quanthost.graph.operators import arguments, operator_name
from quanthost.graph.table import Row
from quanthost.graph.view import tensor_meta
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.flow import Converted, Failed
from quanthost.testing.proving.operator_sites import Integers, Sited
from quanthost.testing.proving.session import Check, Fault, Session, Verdict
from quanthost.values import FixedQSpec, Granularity, Kernel, QSpec, Recipe, Role, SharedQSpec, Symmetry

__all__ = ["JUDGES", "checks"]

_Judge = Callable[[Row, Recipe, Converted], str | None]


def checks(session: Session) -> Iterator[Check]:
    for recipe in session.subject.info.recipes:
        if recipe.kernel is Kernel.FLOAT:
            continue
        for row in session.own_rows(recipe.kernel):
            sample = session.first(row, recipe)
            if sample is None:
                continue
            for kind, (must, judge) in JUDGES.items():
                yield Check(
                    id=f"qspecs/{kind}/{row.name}/{recipe.name}", subject=row.name, must=must,
                    judge=partial(_judged, session, row, recipe, sample, judge),
                )  # fmt: skip


def _judged(session: Session, row: Row, recipe: Recipe, sample: Sample, judge: _Judge) -> Verdict:
    if judge is _axes:
        text = _planned_axes(session, recipe, sample)
        if text is not None:
            return Fault(message=text, sample=sample, recipe=recipe.name)
    if judge is _symmetric:
        text = _forgotten(session, recipe, sample)
        if text is not None:
            return Fault(message=text, sample=sample, recipe=recipe.name)
    converted = session.converted(recipe, sample)
    if sample.follows and not isinstance(converted, Failed):
        # what stands before is another row's
        own = {node for met in session.met(row, recipe, sample) for node in met.nodes}
        converted = attrs.evolve(converted, sites=tuple(s for s in converted.sites if s.origin in own))
    text = str(converted) if isinstance(converted, Failed) else judge(row, recipe, converted)
    if text is None and judge is _sharing:
        text = _unshared(session, row, recipe, sample)
    return None if text is None else Fault(message=text, sample=sample, recipe=recipe.name)


def _ranges(row: Row, recipe: Recipe, converted: Converted) -> str | None:
    for site in converted.sites:
        for name, held in _tensors(site):
            if held.dtype is None or held.low is None or held.high is None:
                continue
            limits = torch.iinfo(held.dtype)
            if not limits.min <= held.low < held.high <= limits.max:
                return f"{site.operator}, {name}: {held.low} to {held.high} in {held.dtype}"
            points = held.zero_points
            if points is not None and not bool(((points >= held.low) & (points <= held.high)).all()):
                return f"{site.operator}, {name}: the zero point {points} outside {held.low} to {held.high}"
            if held.scales is not None and not bool((torch.isfinite(held.scales) & (held.scales > 0)).all()):
                return f"{site.operator}, {name}: a scale that is no finite number above zero"
    return None


def _tensors(site: Sited) -> Iterator[tuple[str, Integers]]:
    named = {**site.operands, "result": site.result}
    return ((name, held) for name, held in named.items() if held is not None)


def _axes(row: Row, recipe: Recipe, converted: Converted) -> str | None:
    for site in converted.sites:
        entry = entry_of(site.operator)
        for name, axis in _channel_axes(site, entry):
            held = site.operands.get(name)
            if held is None or held.scales is None or held.scales.numel() == 1 or held.axis is None:
                continue
            if held.axis != axis:
                return (
                    f"the {name} of {site.operator} has scales along axis {held.axis}; its output channels "
                    f"lie along {axis}"
                )
    return None


def _planned_axes(session: Session, recipe: Recipe, sample: Sample) -> str | None:
    """The axes that were chosen: with some of them no graph can be converted."""
    seen = session.seen(recipe, sample)
    for made in () if isinstance(seen, Failed) else seen.chosen:
        for capture, spec in made.qspecs.items():
            if not isinstance(spec, QSpec) or spec.axis is None:
                continue
            for node in made.nodes:
                entry, given = entry_of(operator_name(node)), arguments(node)
                for name, axis in ({} if entry is None else entry.channel_axes).items():
                    axis = 1 if str(given.get("transposed")) == "True" else axis
                    if given.get(name) is made.captures.get(capture) and spec.axis != axis:
                        return (
                            f"the {name} of {operator_name(node)} has scales along axis {spec.axis}; "
                            f"its output channels lie along {axis}"
                        )
    return None


def _channel_axes(site: Sited, entry: Entry | None) -> Iterator[tuple[str, int]]:
    for name, axis in ({} if entry is None else entry.channel_axes).items():
        yield name, 1 if str(site.arguments.get("transposed")) == "True" else axis


def _biases(row: Row, recipe: Recipe, converted: Converted) -> str | None:
    if recipe.kernel is not Kernel.STATIC:
        return None
    for site in converted.sites:
        if facts_of(site.operator.removeprefix("aten.").partition(".")[0]).bias is None:
            continue
        bias = site.operands.get("bias", site.operands.get("self"))
        given = site.operands.get("input", site.operands.get("mat1"))
        weight = site.operands.get("weight", site.operands.get("mat2"))
        if bias is None or given is None or weight is None or bias.scales is None:
            continue
        if given.scales is None or weight.scales is None:
            continue
        wanted = (given.scales.reshape(-1) * weight.scales.reshape(-1)).expand_as(bias.scales.reshape(-1))
        if not torch.allclose(bias.scales.reshape(-1), wanted, rtol=1e-4, atol=0.0):
            return (
                f"the bias of {site.operator} has the scale {float(bias.scales.reshape(-1)[0]):.6g}; "
                f"input scale × weight scale is {float(wanted[0]):.6g}"
            )
        if bias.zero_points is not None and bool(bias.zero_points.any()):
            return f"the bias of {site.operator} has a zero point"
    return None


def _sharing(row: Row, recipe: Recipe, converted: Converted) -> str | None:
    """What moves values keeps their parameters, unless the row says that it requantizes."""
    for site in converted.sites:
        entry = entry_of(site.operator)
        moves = entry is not None and entry.moves and not row.requantizes
        if not (moves or row.shares) or row.size > 2 or recipe.kernel is not Kernel.STATIC:
            continue
        joined = [held for name, held in site.operands.items() if held is not None and not held.constant]
        around = [*joined, *([] if site.result is None else [site.result])]
        if len({held.key for held in around}) > 1:
            told = "; ".join(dict.fromkeys(map(str, around)))
            return f"{site.operator} moves values, and its tensors have different parameters: {told}"
    return None


def _unshared(session: Session, row: Row, recipe: Recipe, sample: Sample) -> str | None:
    """Equal parameters by chance are not enough: the match has to ask for one set."""
    seen = session.seen(recipe, sample)
    if isinstance(seen, Failed) or row.requantizes or recipe.kernel is not Kernel.STATIC:
        return None
    for made in seen.chosen:
        entries = [entry_of(operator_name(node)) for node in made.nodes]
        linked = any(isinstance(spec, SharedQSpec) for spec in made.qspecs.values())
        # sharing with nothing else is no sharing
        asked = linked or {"output"} < set(made.match.shares)
        fixed = isinstance(made.qspecs.get("output"), FixedQSpec)
        if all(e is not None and e.moves for e in entries) and not asked and not fixed:
            return f"the row {made.match.row} moves values, and its result need not share their parameters"
    return None


def _fixed(row: Row, recipe: Recipe, converted: Converted) -> str | None:
    if recipe.kernel is not Kernel.STATIC or not converted.sites:
        return None
    last = converted.sites[-1]
    declared, held, entry = dict(row.qspecs).get("output"), last.result, entry_of(last.operator)
    if (
        held is None
        or held.scales is None
        or held.zero_points is None
        or held.low is None
        or held.high is None
    ):
        return None
    if isinstance(declared, FixedQSpec):
        low, high = (float((q - held.zero_points) * held.scales) for q in (held.low, held.high))
        first = (declared.quant_min - declared.zero_point) * declared.scale
        same = held.dtype is not None and str(declared.dtype.value) == str(held.dtype).removeprefix("torch.")
        off = abs(float(held.scales) - declared.scale) > 1e-6 * declared.scale
        if same and (off or int(held.zero_points) != declared.zero_point):
            return f"the row fixes {declared.scale:.6g} and {declared.zero_point}, the result has {held}"
        if not same and _is_symmetric(recipe.activation):
            first = -max(abs(first), (declared.quant_max - declared.zero_point) * declared.scale)
        if not same and abs(low - first) > 2 * max(float(held.scales), declared.scale):
            return f"the row's fixed range begins at {first:.4g}, the result's at {low:.4g}"
        bounds = None if entry is None else entry.result_range
        return None if bounds is None else _beside_bounds((low, high), bounds, float(held.scales))
    return None


def _is_symmetric(spec: object) -> bool:
    return isinstance(spec, QSpec) and spec.symmetry is Symmetry.SYMMETRIC


def _beside_bounds(held: tuple[float, float], bounds: tuple[float, float], step: float) -> str | None:
    """Whether a fixed range leaves out what the function makes, or has no use for half of its integers."""
    low, high = held
    told = f"{low:.4g} to {high:.4g}"
    if not (low <= bounds[0] + step and high >= bounds[1] - 1.5 * step):
        return f"the fixed range {told} leaves out some of {bounds[0]:g} to {bounds[1]:g}"
    if max(-low, high) > 1.9 * max(map(abs, bounds)):
        return f"the fixed range {told} is twice what {bounds[0]:g} to {bounds[1]:g} needs"
    return None


def _forgotten(session: Session, recipe: Recipe, sample: Sample) -> str | None:
    """Each tensor for whose role the recipe has a spec has got one."""
    seen = session.seen(recipe, sample)
    if isinstance(seen, Failed) or recipe.kernel is not Kernel.STATIC:
        return None
    for made in seen.chosen:
        captures = [name for name, node in made.captures.items() if _is_float(node)]
        for name in (*captures, "output"):
            if recipe.for_role(made.match.role(name)) is not None and name not in made.qspecs:
                role = made.match.role(name).value
                return f"{name} of {made.match.row} has no qspec, though the recipe quantizes each {role}"
    return None


def _is_float(node: fx.Node) -> bool:
    meta = tensor_meta(node)
    return meta is not None and meta.is_floating_point()


def _symmetric(row: Row, recipe: Recipe, converted: Converted) -> str | None:
    """A zero point of 0 where the recipe or the row says symmetric; dtype and range as declared."""
    for site in converted.sites:
        for name, held in _tensors(site):
            capture = "output" if name == "result" else _capture(row, name)
            role = row.role(capture)
            own = dict(row.qspecs) if recipe.kernel is Kernel.STATIC else {}
            declared = own.get(capture) or recipe.for_role(role)
            if held.constant and role is Role.ACTIVATION:
                continue
            if not isinstance(declared, QSpec) or held.zero_points is None:
                continue
            if (
                declared.symmetry is Symmetry.SYMMETRIC
                and bool(held.zero_points.any())
                and declared.dtype.minimum < 0
            ):
                return f"{site.operator}, {name}: declared symmetric, with a zero point"
            text = _otherwise(declared, held)
            if text is not None:
                return f"{site.operator}, {name}: {text}"
            if held.low is not None and (held.low, held.high) != (declared.quant_min, declared.quant_max):
                return (
                    f"{site.operator}, {name}: {held.low} to {held.high}, declared "
                    f"{declared.quant_min} to {declared.quant_max}"
                )
    return None


def _otherwise(declared: QSpec, held: Integers) -> str | None:
    """Whether scales are fewer or more than are declared."""
    count = 0 if held.scales is None else held.scales.numel()
    if declared.granularity is Granularity.PER_TENSOR and count > 1:
        return f"{count} scales, declared one for the tensor"
    if declared.granularity is Granularity.PER_CHANNEL and held.axis is None and count == 1:
        return "one scale, declared one for each channel"
    return None


def _capture(row: Row, argument: str) -> str:
    """The capture at an operator's argument, the argument's own name where none is there."""
    found: dict[str, str] = {}

    def walk(part: object) -> None:
        for keys, operand in getattr(part, "operands", ()):
            if isinstance(operand, str):
                found.update(dict.fromkeys(keys.split("|"), operand.rstrip("?*")))
            else:
                walk(operand)

    walk(row.pattern)
    base = argument.split(".")[0]
    return found.get(base, base)


JUDGES: dict[str, tuple[str, _Judge]] = {
    "ranges": ("integers fit their dtype, scales are finite and above zero", _ranges),
    "axis": ("scales for channels lie along the weight's axis of output channels", _axes),
    "bias": ("a quantized bias has input scale × weight scale, and zero point 0", _biases),
    "sharing": ("what only moves values leaves their parameters", _sharing),
    "fixed": ("a fixed range is as declared, and holds what the operator makes", _fixed),
    "declared": ("each tensor is quantized as recipe or row declare", _symmetric),
}
