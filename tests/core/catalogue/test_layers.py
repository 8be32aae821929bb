"""Operators with weights: output channels, and what scales with an operand."""

from __future__ import annotations

import pytest
import torch
from plain_calls import ENTRIES, plain_call

from quanthost.catalogue import Entry, Operand


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.channel_axes], ids=lambda entry: entry.name)
def test_channel_axes(entry: Entry) -> None:
    """A slice of the weight along that axis decides one channel of the result, and no other."""
    (key, axis) = next(iter(entry.channel_axes.items()))
    module, inputs = plain_call(entry)
    held = dict(module.named_parameters()).get(f"{key}_0")
    weight = held if held is not None else inputs[-1]
    before = module(*inputs).clone()
    with torch.no_grad():
        weight.select(axis, 0).zero_()
    differs = (module(*inputs) != before).any(0) if entry.base != "embedding" else None

    if differs is None:
        assert weight.shape[axis] == 10
    else:
        channel = 0 if entry.base.startswith("conv") else -1
        moved = differs if channel == 0 else differs.movedim(-1, 0)
        assert bool(moved[0].any())
        assert not bool(moved[1:].any())


def _inputs(key: str, value: object) -> int:
    """How many inputs an argument becomes."""
    if isinstance(value, list):
        return sum(isinstance(item, Operand) for item in value)
    return int(isinstance(value, Operand) and key not in ("weight", "bias"))


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.scales_with], ids=lambda entry: entry.name)
def test_what_scales(entry: Entry) -> None:
    """Four times the operands, four times the result."""
    module, inputs = plain_call(entry)
    before = module(*inputs)
    keys = [key for key, value in entry.plain.items() for _ in range(_inputs(key, value))]
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.rpartition("_")[0] in entry.scales_with:
                parameter.mul_(4)
    scaled = [x * 4 if key in entry.scales_with else x for key, x in zip(keys, inputs, strict=True)]
    after = module(*scaled)

    pairs = zip(before, after) if isinstance(before, tuple) else [(before, after)]
    assert all(torch.allclose(a * 4, b, atol=1e-5) for a, b in pairs if a.is_floating_point())
