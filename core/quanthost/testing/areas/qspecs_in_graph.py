"""Checks the quantization parameters in a converted graph against row, recipe and catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from quanthost.catalogue import entry_of
from quanthost.graph.operator_facts import facts_of
from quanthost.graph.table import Row
from quanthost.testing.proving.flow import ConvertedSample
from quanthost.testing.proving.operator_sites import OperatorSite, TensorParameters
from quanthost.values import FixedQSpec, Granularity, Kernel, QSpec, Recipe, Role, Symmetry

__all__ = [
    "channel_axes",
    "check_axes",
    "check_biases",
    "check_declared",
    "check_fixed",
    "check_ranges",
    "check_sharing",
]


def check_ranges(row: Row, recipe: Recipe, converted: ConvertedSample) -> str | None:
    """Integers fit their dtype, scales are finite and above zero."""
    for site in converted.sites:
        for name, tensor in _list_tensors(site):
            low, high, points, scales = tensor.low, tensor.high, tensor.zero_points, tensor.scales
            if tensor.dtype is None or low is None or high is None:
                continue
            limits = torch.iinfo(tensor.dtype)
            if not limits.min <= low < high <= limits.max:
                return f"{site.operator}, {name}: {low} to {high} in {tensor.dtype}"
            if points is not None and not bool(((points >= low) & (points <= high)).all()):
                return f"{site.operator}, {name}: the zero point {points} outside {low} to {high}"
            if scales is not None and not bool((torch.isfinite(scales) & (scales > 0)).all()):
                return f"{site.operator}, {name}: a scale that is no finite number above zero"
    return None


def _list_tensors(site: OperatorSite) -> Iterator[tuple[str, TensorParameters]]:
    named = {**site.operands, "result": site.result}
    return ((name, tensor) for name, tensor in named.items() if tensor is not None)


def check_axes(row: Row, recipe: Recipe, converted: ConvertedSample) -> str | None:
    """Scales for channels lie along the axis of the output channels."""
    for site in converted.sites:
        for name, axis in channel_axes(site.operator, site.arguments).items():
            tensor = site.operands.get(name)
            if tensor is None or tensor.scales is None or tensor.scales.numel() == 1 or tensor.axis is None:
                continue
            if tensor.axis != axis:
                return (
                    f"the {name} of {site.operator} has scales along axis {tensor.axis}; its output channels "
                    f"lie along {axis}"
                )
    return None


def channel_axes(operator: str, arguments: Mapping[str, Any]) -> dict[str, int]:
    """The axis of the output channels of each argument that has one, by the catalogue."""
    entry = entry_of(operator)
    axes = {} if entry is None else entry.channel_axes
    is_transposed = str(arguments.get("transposed")) == "True"
    return {name: 1 if is_transposed else axis for name, axis in axes.items()}


def check_biases(row: Row, recipe: Recipe, converted: ConvertedSample) -> str | None:
    """A quantized bias has input scale × weight scale, and zero point 0."""
    if recipe.kernel is not Kernel.STATIC:
        return None
    for site in converted.sites:
        if facts_of(site.operator.removeprefix("aten.").partition(".")[0]).bias is None:
            continue
        bias = site.operands.get("bias", site.operands.get("self"))
        data = site.operands.get("input", site.operands.get("mat1"))
        weight = site.operands.get("weight", site.operands.get("mat2"))
        if bias is None or data is None or weight is None:
            continue
        if bias.scales is None or data.scales is None or weight.scales is None:
            continue
        scales = bias.scales.reshape(-1)
        expected = (data.scales.reshape(-1) * weight.scales.reshape(-1)).expand_as(scales)
        if not torch.allclose(scales, expected, rtol=1e-4, atol=0.0):
            return (
                f"the bias of {site.operator} has the scale {float(scales[0]):.6g}; "
                f"input scale × weight scale is {float(expected[0]):.6g}"
            )
        if bias.zero_points is not None and bool(bias.zero_points.any()):
            return f"the bias of {site.operator} has a zero point"
    return None


def check_sharing(row: Row, recipe: Recipe, converted: ConvertedSample) -> str | None:
    """An operator that moves values keeps their parameters, unless the row says that it requantizes."""
    for site in converted.sites:
        entry = entry_of(site.operator)
        moves = entry is not None and entry.moves and not row.requantizes
        if not (moves or row.shares) or row.size > 2 or recipe.kernel is not Kernel.STATIC:
            continue
        tensors = [tensor for _, tensor in _list_tensors(site) if not tensor.constant]
        if len({tensor.key for tensor in tensors}) > 1:
            parameters = "; ".join(dict.fromkeys(map(str, tensors)))
            return f"{site.operator} moves values, and its tensors have different parameters: {parameters}"
    return None


def check_fixed(row: Row, recipe: Recipe, converted: ConvertedSample) -> str | None:
    """A fixed range is as declared, and holds the results of the operator."""
    if recipe.kernel is not Kernel.STATIC or not converted.sites:
        return None
    site = converted.sites[-1]
    declared, result = dict(row.qspecs).get("output"), site.result
    if not isinstance(declared, FixedQSpec) or result is None or result.scales is None:
        return None
    if result.zero_points is None or result.low is None or result.high is None:
        return None
    scale, zero_point = float(result.scales), int(result.zero_points)
    low, high = (float((q - result.zero_points) * result.scales) for q in (result.low, result.high))
    first = (declared.quant_min - declared.zero_point) * declared.scale
    if result.dtype is not None and declared.dtype.value == str(result.dtype).removeprefix("torch."):
        is_off = abs(scale - declared.scale) > 1e-6 * declared.scale
        if is_off or zero_point != declared.zero_point:
            return f"the row fixes {declared.scale:.6g} and {declared.zero_point}, the result has {result}"
    else:
        if _is_symmetric(recipe.activation):
            first = -max(abs(first), (declared.quant_max - declared.zero_point) * declared.scale)
        if abs(low - first) > 2 * max(scale, declared.scale):
            return f"the row's fixed range begins at {first:.4g}, the result's at {low:.4g}"
    entry = entry_of(site.operator)
    bounds = None if entry is None else entry.result_range
    return None if bounds is None else _check_bounds((low, high), bounds, scale)


def _is_symmetric(spec: object) -> bool:
    return isinstance(spec, QSpec) and spec.symmetry is Symmetry.SYMMETRIC


def _check_bounds(fixed: tuple[float, float], bounds: tuple[float, float], step: float) -> str | None:
    """A fixed range holds all results of the function, and is less than twice as wide."""
    low, high = fixed
    text = f"the fixed range {low:.4g} to {high:.4g}"
    if not (low <= bounds[0] + step and high >= bounds[1] - 1.5 * step):
        return f"{text} leaves out some of {bounds[0]:g} to {bounds[1]:g}"
    if max(-low, high) > 1.9 * max(map(abs, bounds)):
        return f"{text} is twice what {bounds[0]:g} to {bounds[1]:g} needs"
    return None


def check_declared(row: Row, recipe: Recipe, converted: ConvertedSample) -> str | None:
    """Symmetry, granularity and range of each tensor are as recipe or row declare."""
    own = dict(row.qspecs) if recipe.kernel is Kernel.STATIC else {}
    for site in converted.sites:
        for name, tensor in _list_tensors(site):
            capture = "output" if name == "result" else _find_capture(row, name)
            role = row.role(capture)
            declared = own.get(capture) or recipe.for_role(role)
            if tensor.constant and role is Role.ACTIVATION:
                continue
            if not isinstance(declared, QSpec) or tensor.zero_points is None:
                continue
            problem = _compare_declared(declared, tensor)
            if problem is not None:
                return f"{site.operator}, {name}: {problem}"
    return None


def _compare_declared(declared: QSpec, tensor: TensorParameters) -> str | None:
    has_zero_point = tensor.zero_points is not None and bool(tensor.zero_points.any())
    if _is_symmetric(declared) and has_zero_point and declared.dtype.minimum < 0:
        return "declared symmetric, with a zero point"
    count = 0 if tensor.scales is None else tensor.scales.numel()
    if declared.granularity is Granularity.PER_TENSOR and count > 1:
        return f"{count} scales, declared one for the tensor"
    if declared.granularity is Granularity.PER_CHANNEL and tensor.axis is None and count == 1:
        return "one scale, declared one for each channel"
    expected = (declared.quant_min, declared.quant_max)
    if tensor.low is not None and (tensor.low, tensor.high) != expected:
        return f"{tensor.low} to {tensor.high}, declared {expected[0]} to {expected[1]}"
    return None


def _find_capture(row: Row, argument: str) -> str:
    """The capture at an operator's argument, the argument's own name if there is none."""
    captures: dict[str, str] = {}

    def walk(part: object) -> None:
        for keys, operand in getattr(part, "operands", ()):
            if isinstance(operand, str):
                captures.update(dict.fromkeys(keys.split("|"), operand.rstrip("?*")))
            else:
                walk(operand)

    walk(row.pattern)
    name = argument.split(".")[0]
    return captures.get(name, name)
