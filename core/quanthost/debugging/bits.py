"""``compare_bits``: compares the integers of a golden model with those of another model or device."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from quanthost.debugging.tensor_files import read_tensors
from quanthost.errors import InputError
from quanthost.graph.leaves import TensorSpec
from quanthost.graph.signature import Signature
from quanthost.graph.view import is_dequantize
from quanthost.integer.numbers import Numbers
from quanthost.integer.sites import numbers_of
from quanthost.stages.calibrating.batches import arguments
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.lowering.taps import run_tapped
from quanthost.stages.records import ConvertedModel

__all__ = ["BitComparison", "BitDifference", "compare_bits"]

Recorded = Mapping[str, Tensor]
Other = ConvertedModel | LoweredProgram | Callable[..., Any] | Recorded | str | os.PathLike[str]


@attrs.frozen(kw_only=True)
class BitDifference:
    """One tensor of both sides, over all inputs.

    ``largest`` is the largest difference in steps of the integers (LSB), or in real units if the
    tensor is float (``steps`` unset). ``operator`` is the aten name of the operator that makes it, empty
    for an input.
    """

    name: str
    operator: str
    elements: int
    differing: int
    largest: float
    steps: bool = True

    @property
    def equal_share(self) -> float:
        """Equal elements over all, 0 to 1; 1 if there are none."""
        return 1.0 - self.differing / self.elements if self.elements else 1.0


@attrs.frozen(kw_only=True)
class BitComparison:
    """``outputs`` of the model, and ``operators`` in the order of execution, that both sides have."""

    inputs: int
    outputs: tuple[BitDifference, ...]
    operators: tuple[BitDifference, ...]
    not_shown: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether all compared integers are equal; float results are reported, but need not be equal."""
        return not any(each.differing for each in (*self.outputs, *self.operators) if each.steps)

    @property
    def first(self) -> BitDifference | None:
        """The first operator whose integers differ; later operators only pass the difference on."""
        return next((difference for difference in self.operators if difference.differing), None)


def compare_bits(golden: ConvertedModel, other: Other, inputs: Iterable[Any]) -> BitComparison:
    """Run both on the same inputs and compare every integer that both have.

    Args:
        golden: A converted model; its integer representation is exact.
        other: A program of any backend (with ``lower(…, intermediates=True)`` its operators are compared as
            well as its outputs), another converted model, a callable that takes the model's arguments and
            returns what the model returns, or tensors recorded from a device: a mapping, or an ``.npz`` or
            ``.safetensors`` file. Recorded tensors, and a mapping that a callable returns, are named after
            outputs (``"output"``) and operators; those of several inputs are joined along their first
            dimension.
        inputs: Batches as ``calibrate`` takes them.

    Raises:
        InputError: no input, one that does not fit, or no tensor that both sides have.
    """
    signature = golden.calibrated.prepared.captured.signature
    flat, calls = _calls(inputs, signature)
    ends = _output_numbers(golden.module, signature)
    ours = [_run_graph(golden.module, leaves, signature) for leaves in flat]
    theirs = _run_other(other, flat, calls, signature)
    sides = _join(ours), _join(theirs)
    names = {decision.node: decision for decision in golden.decisions}
    operators: list[BitDifference] = []
    outputs: list[BitDifference] = []
    for name, mine in sides[0].items():
        if name not in sides[1]:
            continue
        is_output = name in ends
        operator = "" if is_output else _operator_of(names, name)
        difference = _difference(name, operator, mine, sides[1][name], ends.get(name))
        (outputs if is_output else operators).append(difference)
    if not outputs and not operators:
        raise InputError(
            f"tensors named {', '.join(sides[1]) or 'nothing'}", needed=f"some of {', '.join(sides[0])}",
            where="compare_bits", value=tuple(sides[1]),
            remedy="name recorded tensors as the golden model's outputs and operators",
        )  # fmt: skip
    shown = {d.name for d in (*outputs, *operators)}
    return BitComparison(
        inputs=len(flat), outputs=tuple(outputs), operators=tuple(operators),
        not_shown=tuple(name for name in sides[0] if name not in shown),
    )  # fmt: skip


def _calls(
    inputs: Iterable[Any], signature: Signature
) -> tuple[list[list[Any]], list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    calls = [arguments(batch, signature, what=f"input {n}") for n, batch in enumerate(inputs, start=1)]
    if not calls:
        raise InputError(
            "no input to compare on", needed="at least one", where="compare_bits", value=inputs,
            remedy="pass a list of batches",
        )  # fmt: skip
    return [signature.flatten(args, kwargs) for args, kwargs in calls], calls


def _operator_of(names: Mapping[str, Any], name: str) -> str:
    return names[name].operator if name in names else ""


def _output_numbers(module: fx.GraphModule, signature: Signature) -> dict[str, Numbers | None]:
    """The outputs that are tensors, with their integer format if a dequantize returns them."""
    leaves = pytree.tree_leaves(module.graph.output_node().args[0], is_leaf=lambda leaf: leaf is None)
    return {
        spec.name: numbers_of(leaf) if is_dequantize(leaf) else None
        for spec, leaf in zip(signature.outputs, leaves)
        if isinstance(spec, TensorSpec)
    }


def _run_graph(module: fx.GraphModule, leaves: list[Any], signature: Signature) -> dict[str, Tensor]:
    outputs, operators = run_tapped(module, leaves)
    return {**operators, **_name_outputs(outputs, signature)}


def _name_outputs(leaves: Iterable[Any], signature: Signature) -> dict[str, Tensor]:
    return {s.name: leaf for s, leaf in zip(signature.outputs, leaves) if isinstance(leaf, Tensor)}


def _run_other(
    other: Other,
    flat: list[list[Any]],
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]],
    signature: Signature,
) -> list[dict[str, Tensor]]:
    if isinstance(other, ConvertedModel):
        return [_run_graph(other.module, leaves, signature) for leaves in flat]
    if isinstance(other, LoweredProgram):
        return [_run_program(other, args, kwargs, signature) for args, kwargs in calls]
    if isinstance(other, (str, os.PathLike)):
        return [read_tensors(Path(other))]
    if isinstance(other, Mapping):
        return [dict(other)]
    with torch.no_grad():
        return [_name_result(other(*args, **kwargs), signature) for args, kwargs in calls]


def _run_program(
    program: LoweredProgram, args: tuple[Any, ...], kwargs: dict[str, Any], signature: Signature
) -> dict[str, Tensor]:
    operators = program.intermediates(*args, **kwargs) if program.record.intermediates else {}
    leaves = pytree.tree_leaves(program.run(*args, **kwargs), is_leaf=lambda leaf: leaf is None)
    return {**operators, **_name_outputs(leaves, signature)}


def _name_result(result: Any, signature: Signature) -> dict[str, Tensor]:
    """Tensors by name from a callable's result, a mapping or the structure of the model's result."""
    names = {leaf.name for leaf in signature.outputs}
    if isinstance(result, Mapping) and names & set(result):
        return dict(result)
    leaves = pytree.tree_leaves(result, is_leaf=lambda leaf: leaf is None)
    if len(leaves) != len(signature.outputs):
        raise InputError(
            f"{len(leaves)} results", needed=f"{len(signature.outputs)}: {', '.join(sorted(names))}",
            where="compare_bits", value=result,
            remedy="return what the model returns, or a mapping by these names",
        )  # fmt: skip
    return _name_outputs(leaves, signature)


def _join(runs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """All runs' tensors by name, joined along the first dimension; a scalar counts as one row."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: torch.cat([torch.atleast_1d(run[name].detach()) for run in runs]) for name in names}


def _difference(name: str, operator: str, mine: Tensor, other: Tensor, end: Numbers | None) -> BitDifference:
    if mine.shape != other.shape:
        raise InputError(
            f"{name} of shape {list(other.shape)}", where="compare_bits", value=other,
            needed=f"{list(mine.shape)}, as the golden model makes it",
            remedy="compare runs on the same inputs, in the same order",
        )  # fmt: skip
    ours, theirs = _integers(mine, end), _integers(other, end)
    if ours is None or theirs is None:
        differs = (mine != other) & ~(torch.isnan(mine) & torch.isnan(other))
        gap = (mine.double() - other.double()).abs()[differs]
    else:
        differs = ours != theirs
        gap = (ours - theirs).abs()[differs].double()
    return BitDifference(
        name=name, operator=operator, elements=mine.numel(), differing=int(differs.sum()),
        largest=float(gap.max()) if gap.numel() else 0.0, steps=ours is not None and theirs is not None,
    )  # fmt: skip


def _integers(tensor: Tensor, end: Numbers | None) -> Tensor | None:
    """The integers of a tensor, also of a dequantized one; ``None`` for any other float tensor."""
    if not tensor.is_floating_point():
        return tensor.to(torch.int64)
    return None if end is None else end.nearest(tensor.double())
