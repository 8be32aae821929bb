"""The catalogue: each operator runs with its plain arguments, and its facts hold for its results."""

from __future__ import annotations

import pytest
import torch

from quanthost.catalogue import CATALOGUE, Entry, Operand, entries_of, module_of
from quanthost.graph.pattern import Op, op
from quanthost.values import Role

ENTRIES = list(CATALOGUE.values())


def _plain(entry: Entry) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    module = module_of(Op(names=(entry.name,)), entry.variation("plain"), {})
    return module, module.inputs


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_variations_have_names_of_their_own(entry: Entry) -> None:
    """All variations of an entry have different names."""
    names = [variation.name for variation in entry.variations()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_it_runs(entry: Entry) -> None:
    """Plain arguments give the same finite values each time."""
    module, inputs = _plain(entry)
    first, second = module(*inputs), _plain(entry)[0](*inputs)
    leaves = first if isinstance(first, tuple) else (first,)

    assert all(bool(torch.isfinite(leaf.double()).all()) for leaf in leaves)
    assert all(torch.equal(a, b) for a, b in zip(leaves, second if isinstance(second, tuple) else (second,)))


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.moves], ids=lambda entry: entry.name)
def test_what_moves_makes_no_values(entry: Entry) -> None:
    """Each value of the result is one of the operands' or zero."""
    module, inputs = _plain(entry)
    result = module(*inputs)
    allowed = {0.0, *(float(v) for x in inputs if x.is_floating_point() for v in x.reshape(-1))}

    for leaf in result if isinstance(result, tuple) else (result,):
        if leaf.is_floating_point():
            assert {float(v) for v in leaf.reshape(-1)} <= allowed


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.result_range], ids=lambda entry: entry.name)
def test_result_ranges(entry: Entry) -> None:
    """The result lies between the bounds, and comes near one of them."""
    module, inputs = _plain(entry)
    low, high = entry.result_range or (0.0, 0.0)
    result = module(*inputs)

    assert low <= float(result.min())
    assert float(result.max()) <= high
    assert min(float(result.min()) - low, high - float(result.max())) < 0.3


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.channel_axes], ids=lambda entry: entry.name)
def test_channel_axes(entry: Entry) -> None:
    """A slice of the weight along that axis affects one channel of the result, and no other."""
    (key, axis) = next(iter(entry.channel_axes.items()))
    module = module_of(Op(names=(entry.name,)), entry.variation("plain"), {})
    parameter = dict(module.named_parameters()).get(f"{key}_0")
    weight = parameter if parameter is not None else module.inputs[-1]
    before = module(*module.inputs).clone()
    with torch.no_grad():
        weight.select(axis, 0).zero_()
    differs = (module(*module.inputs) != before).any(0) if entry.base != "embedding" else None

    if differs is None:
        assert weight.shape[axis] == 10
    else:
        channel = 0 if entry.base.startswith("conv") else -1
        moved = differs if channel == 0 else differs.movedim(-1, 0)
        assert bool(moved[0].any())
        assert not bool(moved[1:].any())


def _inputs(key: str, value: object) -> int:
    """The number of inputs of an argument."""
    if isinstance(value, list):
        return sum(isinstance(item, Operand) for item in value)
    return int(isinstance(value, Operand) and key not in ("weight", "bias"))


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.scales_with], ids=lambda entry: entry.name)
def test_what_scales(entry: Entry) -> None:
    """Four times the operands, four times the result."""
    module, inputs = _plain(entry)
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


def test_a_pattern_of_several() -> None:
    """Outer operands have the inner result's shape; a capture that occurs twice is one input."""
    pattern = op("add.Tensor", self=op("conv2d", input="input", weight="weight", bias="bias?"), other="other")
    module = module_of(pattern, entries_of("conv2d")[0].variation("plain"), {"weight": Role.WEIGHT})
    swish = op("mul.Tensor", self="x", other=op("sigmoid", self="x"))

    assert module.inputs[-1].shape == module(*module.inputs).shape
    assert len(module_of(swish, entries_of("sigmoid")[0].variation("plain"), {}).inputs) == 1
