"""The table of operator facts: sorted, true of torch's own schemas and tags, and each fact is used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import fx

import quanthost.graph
from quanthost.catalogue import CATALOGUE
from quanthost.graph.operator_facts import FACTS, OperatorFacts, facts_of, operator_facts

CORE = Path(quanthost.graph.__path__[0]).parent
ROWS = list(FACTS.values())


def overloads(name: str) -> list[Any]:
    packet = getattr(torch.ops.aten, name)
    return [getattr(packet, overload) for overload in packet.overloads()]


def arguments(op: Any) -> set[str]:
    return {argument.name for argument in op._schema.arguments}


def the(field: str) -> list[Any]:
    """The rows for which a fact holds, as parameters of a test."""
    return [pytest.param(row, id=row.name) for row in ROWS if getattr(row, field)]


def test_one_sorted_row_an_operator() -> None:
    """Names in the order of the alphabet, none twice, and each row says something."""
    names = [row.name for row in ROWS]
    assert names == sorted(set(names))
    assert all(row != OperatorFacts(row.name) for row in ROWS)


@pytest.mark.parametrize("name", FACTS)
def test_torch_has_the_operator(name: str) -> None:
    """A misspelt name would be a fact about nothing."""
    assert overloads(name)


def test_each_fact_is_used() -> None:
    """A fact that no code reads is no fact of the host's."""
    source = "\n".join(
        file.read_text()
        for folder in (CORE, *(CORE.parents[1] / "plugins").glob("*/src"))
        for file in folder.rglob("*.py")
    )
    fields = {field.name for field in attrs.fields(OperatorFacts)} | {"is_layer", "is_convolution"}
    unused = {field for field in fields - {"name"} if not re.search(rf"(facts|\))\.{field}\b", source)}
    assert unused == set()


@pytest.mark.parametrize("row", the("factors"))
def test_factors_are_arguments(row: OperatorFacts) -> None:
    """The factors are named as in the schema; a layer's bias is the only argument called so."""
    schemas = [arguments(op) for op in overloads(row.name)]
    assert row.factors is not None
    assert any(schema >= set(row.factors) for schema in schemas)
    assert any("bias" in schema for schema in schemas) == (row.bias == "bias") == row.is_layer
    assert row.bias is None or any(row.bias in schema for schema in schemas)


@pytest.mark.parametrize("row", the("channel_axis"))
def test_channels_lie_where_the_row_says(row: OperatorFacts) -> None:
    """A bias added to channel 1 alone changes that channel of the result, with and without a batch."""
    assert row.channel_axis is not None
    assert row.weight_axis is not None
    spatial = -row.channel_axis - 1
    op = getattr(torch.ops.aten, row.name)
    source = torch.rand(3, *([4] * spatial))
    weight = torch.rand(*((2, 3) if row.weight_axis == 0 else (3, 2)), *([2] * spatial))
    assert weight.shape[row.weight_axis] == 2
    for x in (source, source[None]):
        changed = op(x, weight, torch.tensor([0.0, 1.0])) - op(x, weight, torch.tensor([0.0, 0.0]))
        assert bool((changed.select(row.channel_axis, 0) == 0).all())
        assert bool((changed.select(row.channel_axis, 1) > 0).all())


@pytest.mark.parametrize("row", the("clamps"))
def test_bounds_are_numbers_or_arguments(row: OperatorFacts) -> None:
    """A bound in words is an argument of each overload; the numbers are what the operator does."""
    assert row.clamps is not None
    for bound in row.clamps:
        if isinstance(bound, str):
            assert all(bound in arguments(op) for op in overloads(row.name))
    if not any(isinstance(bound, str) for bound in row.clamps):
        x = torch.linspace(-9.0, 9.0, 37)
        assert torch.equal(getattr(torch.ops.aten, row.name)(x), x.clamp(*row.clamps))


@pytest.mark.parametrize("row", the("is_elementwise"))
def test_torch_does_not_tag_what_the_table_lists(row: OperatorFacts) -> None:
    """The row can go when torch tags the operator."""
    assert torch.Tag.pointwise not in getattr(torch.ops.aten, row.name).default.tags


@pytest.mark.parametrize("row", the("is_dropout"))
def test_dropout_draws_and_has_a_switch(row: OperatorFacts) -> None:
    """Dropout hands its input on where ``train`` is off."""
    op = getattr(torch.ops.aten, row.name).default
    x = torch.rand(2, 3, 4)
    assert torch.equal(op(x, 0.5, False), x)
    assert torch.Tag.nondeterministic_seeded in op.tags


@pytest.mark.parametrize("row", the("has_pole"))
def test_a_pole_gives_infinity(row: OperatorFacts) -> None:
    """At zero, as divisor or as argument."""
    zero = torch.zeros(1)
    op = getattr(torch.ops.aten, row.name)
    assert bool(torch.isinf(op(torch.ones(1), zero) if row.name == "div" else op(zero)))


@pytest.mark.parametrize("row", the("statistics_switch"))
def test_the_schema_hides_the_statistics(row: OperatorFacts) -> None:
    """The operator takes running statistics and the switch, and does not say that it writes them."""
    op = getattr(torch.ops.aten, row.name).default
    assert arguments(op) >= {"running_mean", "running_var", row.statistics_switch}
    assert not op._schema.is_mutable


def test_what_moves_moves_in_the_catalogue_too() -> None:
    """The catalogue's samples show values moved, wherever it has an operator that the table calls a mover."""
    listed = [entry for entry in CATALOGUE.values() if entry.base in FACTS]
    movers = [entry for entry in listed if FACTS[entry.base].moves or FACTS[entry.base].observed_before]
    assert len(movers) > 15
    assert [entry.name for entry in movers if not entry.moves] == []


def test_no_fact_holds_for_the_rest() -> None:
    """What is not in the table, or no aten operator, has none of the facts."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    assert facts_of("cumsum") == OperatorFacts("cumsum")
    assert operator_facts(x) == OperatorFacts("")
    assert operator_facts(graph.call_function(torch.relu, (x,))) == OperatorFacts("")
    assert operator_facts(graph.call_function(torch.ops.aten.relu.default, (x,))) is FACTS["relu"]
