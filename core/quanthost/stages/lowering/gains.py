"""Finds what a program does not gain: weights in float, more bytes, or weights converted in each run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import attrs
import torch

from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.preparing.prepare import plan, recipe_of
from quanthost.stages.records import PreparedModel
from quanthost.values import Cause, Decision, Finding, FindingKind, Kernel, Recipe, Representation, Verdict

__all__ = ["find_large_float_weights", "find_missing_gains"]

# a program has more than its weights; this many times as much, and some thousand bytes, are no finding
_LARGER, _OVERHEAD = 2.0, 1 << 15
# a weight in float is worth a word from this size on, and as this share of the program
_LARGE_BYTES, _LARGE_SHARE = 1 << 20, 0.1
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


def find_large_float_weights(prepared: PreparedModel, size: int) -> Iterator[Finding]:
    """Float weights, a large part of a program of ``size`` bytes, that another recipe quantizes."""
    captured, request, plugins = prepared.captured, prepared.request, prepared.plugins
    own = recipe_of(plugins, request)
    if own.kernel is Kernel.FLOAT:
        return
    in_float = {
        d.node: d for d in prepared.decisions if d.verdict is Verdict.FLOAT and d.cause is not Cause.OVERRIDE
    }
    large = {
        node: bytes_of
        for node, bytes_of in _bytes_by_reader(captured).items()
        if node in in_float and bytes_of >= max(_LARGE_BYTES, _LARGE_SHARE * size)
    }
    if not large:
        return
    recipes = [
        r for r in plugins.info(request.backends[0]).recipes if r.kernel not in (own.kernel, Kernel.FLOAT)
    ]
    for recipe in {recipe.kernel: recipe for recipe in reversed(recipes)}.values():
        other = attrs.evolve(request, recipe=recipe.name, overrides=())
        taken = {d.node for d in plan(captured, plugins, other).decisions if d.verdict is Verdict.QUANTIZED}
        for node in sorted(taken & large.keys()):
            megabytes = large.pop(node) / 1e6
            decision = in_float[node]
            yield Finding(
                kind=FindingKind.LARGE_IN_FLOAT, node=node,
                seen=f"{decision.module or node} stays in float, {megabytes:.0f} MB of the program's "
                f"{size / 1e6:.0f} MB: {decision.reason}",
                remedy=f"quantize it with another recipe: --override node={node},recipe={recipe.name}",
            )  # fmt: skip


def _bytes_by_reader(captured: CapturedModel) -> dict[str, int]:
    """The bytes of the parameters that each operator reads, by the name of its node."""
    exported = captured.exported
    parameters = exported.graph_signature.inputs_to_parameters
    found: dict[str, int] = {}
    for node in exported.graph.nodes:
        tensor = exported.state_dict.get(parameters.get(node.name, ""))
        for user in node.users if tensor is not None else ():
            found[user.name] = found.get(user.name, 0) + tensor.numel() * tensor.element_size()
    return found


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
