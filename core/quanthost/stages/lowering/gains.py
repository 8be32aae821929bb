"""Finds programs that gain nothing: all in float, larger than the weights, or converting them in each run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from quanthost.stages.capturing.capture import CapturedModel
from quanthost.values import Cause, Decision, Finding, FindingKind, Kernel, Recipe, Representation, Verdict

__all__ = ["find_missing_gains"]

# a program has more than its weights; this many times as much, and some thousand bytes, are no finding
_LARGER, _OVERHEAD = 2.0, 1 << 15
# weights are quantized per channel or group, data is not
_WEIGHTS = "quantized_decomposed.dequantize_per_channel"


def find_missing_gains(
    captured: CapturedModel,
    recipe: Recipe,
    decisions: Sequence[Decision],
    *,
    representation: Representation,
    size: int,
    outside: Sequence[str],
) -> Iterator[Finding]:
    """``size`` is the program's, in bytes; ``outside`` are the operators outside of delegates."""
    if recipe.kernel is Kernel.FLOAT:
        return
    yield from _nothing_quantized(recipe, decisions)
    yield from _larger(captured, size)
    count = sum(name.startswith(_WEIGHTS) for name in outside)
    if count and representation is Representation.QDQ:
        yield Finding(
            kind=FindingKind.UNPACKED_WEIGHTS,
            seen=f"each run converts {count} weight{'s' * (count != 1)} to float, outside of delegates: the "
            "program is smaller than in float, and slower",
            remedy="measure it; a recipe that computes in integers (static or dynamic) is faster",
        )  # fmt: skip


def _nothing_quantized(recipe: Recipe, decisions: Sequence[Decision]) -> Iterator[Finding]:
    in_float = [each for each in decisions if each.verdict is Verdict.FLOAT]
    if not in_float or any(each.verdict is Verdict.QUANTIZED for each in decisions):
        return
    [(reason, count)] = Counter(each.reason for each in in_float).most_common(1)
    first = next(each for each in in_float if each.reason == reason)
    remedy = "choose another recipe or backend, or change what the reason names"
    if first.cause is Cause.OVERRIDE:
        remedy = "let the override select less, or choose fp32"
    if "float16" in reason:
        remedy = "quantize the float32 model: model.float(), and inputs and calibration in float32"
    yield Finding(
        kind=FindingKind.NOTHING_QUANTIZED, node=first.node,
        seen=f"{recipe.name} quantizes nothing: {reason} ({count} of {len(in_float)} nodes)",
        remedy=remedy,
    )  # fmt: skip


def _larger(captured: CapturedModel, size: int) -> Iterator[Finding]:
    weights = _weight_bytes(captured)
    if size <= _LARGER * weights + _OVERHEAD:
        return
    yield Finding(
        kind=FindingKind.LARGER,
        seen=f"the program has {size / 1e3:.0f} kB, the float weights have {weights / 1e3:.0f} kB",
        remedy="a recurrent layer is unrolled into operators for each step: shorten the sequence, or loop "
        "over a program of one step",
    )  # fmt: skip


def _weight_bytes(captured: CapturedModel) -> int:
    exported = captured.exported
    tensors = [*exported.state_dict.values(), *exported.constants.values()]
    sizes = {
        tensor.untyped_storage()._cdata: tensor.numel() * tensor.element_size()
        for tensor in tensors
        if isinstance(tensor, torch.Tensor)
    }
    return sum(sizes.values())
