"""Each row of the support table, in each recipe whose kernel it has, alone and between integer neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import torch
from builders import BUILDERS, Apply, build
from judging import KERNELS, RECIPES, judged, rows_of
from kit import Case
from torch import nn

from quanthost.api import Granularity, Kernel, QSpec, Role
from quanthost_xnnpack_like.rows import TABLE

pytestmark = pytest.mark.slow

# rows that share a program; a problem names its row
TOGETHER = 9
# after training; the norm's row is met in the training graph only
TRAINED = ["conv_batch_norm", "conv_batch_norm_relu", "conv_batch_norm_hardtanh"]


def _groups(rows: list[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(rows), TOGETHER):
        yield tuple(rows[start : start + TOGETHER])


def _has_group_weights(recipe: str) -> bool:
    weight = RECIPES[recipe].weight
    return isinstance(weight, QSpec) and weight.granularity is Granularity.PER_GROUP


def _has_weight(row: str) -> bool:
    return Role.WEIGHT in dict(TABLE.row(row).roles).values()


def _rows(recipe: str) -> list[str]:
    """The rows of a recipe's kernel.

    4-bit groups are for linear layers only, by a constraint. The first recipe has all its rows, another one
    of the same kernel only those with a weight: the others are the same in both.
    """
    rows = rows_of(KERNELS[recipe])
    if _has_group_weights(recipe):
        return [row for row in rows if row.startswith("linear")]
    is_first = next(name for name, kernel in KERNELS.items() if kernel is KERNELS[recipe]) == recipe
    return rows if is_first else [row for row in rows if _has_weight(row)]


def _id(value: object) -> str:
    return f"{value[0]}..{value[-1]}" if isinstance(value, tuple) else str(value)


CELLS = [(recipe, rows) for recipe in RECIPES for rows in _groups(_rows(recipe))]


def test_each_row_has_a_builder() -> None:
    """A row that nobody builds is not proved; mere conversions stand at the edges of every program.

    What holds behind a max pool alone is proved at the edge of that constraint.
    """
    rows = {row.name for row in TABLE if not row.converts and not row.name.endswith("_of_maximum")}

    assert set(BUILDERS) == rows


@pytest.mark.parametrize(("recipe", "rows"), CELLS, ids=_id)
def test_a_row_alone(recipe: str, rows: tuple[str, ...]) -> None:
    """Decided, claimed, compiled for the kernel's datatypes, and right to a step of the result's scale."""
    _, problems = judged([build(row) for row in rows], recipe)

    assert problems == []


@pytest.mark.parametrize("rows", list(_groups(rows_of(Kernel.STATIC))), ids=_id)
def test_a_row_between_integer_layers(rows: tuple[str, ...]) -> None:
    """Where its neighbours are integer, the cost rule places it as well, and no conversion lies between."""
    cases = [_fused(_between_layers(build(row))) for row in rows]

    _, problems = judged(cases, "int8_static", placement="cost")

    assert problems == []


def _between_layers(case: Case) -> Case:
    """The case with a layer before each input and one behind, whose result is an output beside the case's."""
    before = [_identity(x) for x in case.inputs]
    behind = _identity(case.module(*case.inputs))

    def network(inner: Any, last: Any, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        layers, inputs = rest[: len(before)], rest[len(before) :]
        made = inner(*(layer(x) for layer, x in zip(layers, inputs)))
        return made, last(made)

    return attrs.evolve(case, module=Apply(network, case.module, behind, *before).eval())


def _fused(case: Case) -> Case:
    """The case, decided as the layer before it where that takes an activation along."""
    fused = f"linear_{case.row}"
    return attrs.evolve(case, decided=(fused,), taken=(fused,)) if case.row in ("relu", "hardtanh") else case


def _identity(like: torch.Tensor) -> nn.Linear:
    """A layer that hands on its input: what follows sees the values that it sees alone."""
    layer = nn.Linear(like.shape[-1], like.shape[-1])
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def test_rows_of_training() -> None:
    """A norm that trains behind a convolution lies in its weights afterwards."""
    cases = [attrs.evolve(build(row), taken=(row.replace("_batch_norm", ""),)) for row in TRAINED]

    _, problems = judged(cases, "int8_static", train=True)

    assert problems == []


def test_conversions_at_the_edges() -> None:
    """Quantizing inputs and dequantizing results is the delegate's work, by rows of its own."""
    proof, problems = judged([build("add")], "int8_static")

    assert problems == []
    assert {"quantize", "dequantize"} <= {taken.row for taken in proof.taken}
