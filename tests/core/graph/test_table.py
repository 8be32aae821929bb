"""Rows and tables check themselves; sites read shapes, dtypes and arguments for constraints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sample_graphs import IMAGE, ROW, graph_of, nodes_of
from torch import nn

from quanthost.errors import TableError, ValueCheckError
from quanthost.graph.matcher import match_table
from quanthost.graph.pattern import op
from quanthost.graph.table import Claim, Row, Site, SupportTable, constraint
from quanthost.graph.view import GraphView
from quanthost.values import DType, FixedQSpec, Gain, Kernel, Role

CONV = op("conv2d", input="input", weight="weight", bias="bias?")
ROLES = {"weight": Role.WEIGHT, "bias": Role.BIAS}
ROW_CONV = Row(name="conv", pattern=CONV, kernels=[Kernel.STATIC], roles=ROLES)


def site_of(model: Any, pattern: Any, *inputs: torch.Tensor, dynamic: Any = None) -> Site:
    """The only site of a row with that pattern."""
    module = graph_of(model, *inputs, dynamic=dynamic)
    table = SupportTable([Row(name="row", pattern=pattern, kernels=[Kernel.FLOAT])])
    (site,) = match_table(table, GraphView(module), Kernel.FLOAT).sites
    return site


@pytest.mark.parametrize(
    "fields",
    [
        {"roles": {"wieght": Role.WEIGHT}},
        {"shares": ["input", "wieght"]},
        {"qspecs": {"wieght": FixedQSpec(dtype=DType.INT8, scale=1, zero_point=0)}},
    ],
    ids=["roles", "shares", "qspecs"],
)
def test_row_names_what_it_does_not_capture(fields: dict[str, Any]) -> None:
    """A typing error in a capture's name is refused with the names that there are."""
    with pytest.raises(TableError, match="names wieght, which its pattern does not capture") as caught:
        Row(name="conv", pattern=CONV, kernels=[Kernel.STATIC], **fields)
    assert caught.value.needed == "one of bias, input, output, weight"
    assert caught.value.where == "row conv"


def test_row_without_a_kernel() -> None:
    """Such a row would never match, and say nothing."""
    with pytest.raises(TableError, match=r"the row 'conv' has no kernel\n.*needed: one kernel or more"):
        Row(name="conv", pattern=CONV, kernels=())


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "Conv 2d"}, r"the name 'Conv 2d'\n.*\n.*where:  Row.name"),
        ({"constraints": [lambda site: None]}, r"needed: Constraint\n.*where:  Row.constraints"),
        ({"shares": "output"}, r"needed: a tuple\n.*where:  Row.shares"),
    ],
)
def test_row_with_a_field_of_the_wrong_type(fields: dict[str, Any], problem: str) -> None:
    """A plain function is no constraint: it has no text for the documentation."""
    with pytest.raises(ValueCheckError, match=problem):
        Row(**{"name": "conv", "pattern": CONV, "kernels": [Kernel.STATIC], **fields})


def test_row_defaults() -> None:
    """What a row does not say: activations, no constraint, output channels first, no gain of its own."""
    assert ROW_CONV.role("weight") is Role.WEIGHT
    assert ROW_CONV.role("input") is ROW_CONV.role("output") is ROW_CONV.role("inputs.1") is Role.ACTIVATION
    assert (ROW_CONV.constraints, ROW_CONV.shares, ROW_CONV.weight_axis) == ((), (), 0)
    assert (ROW_CONV.gain, ROW_CONV.delegated, ROW_CONV.size) == (Gain.FOLLOWS, True, 1)


def test_two_rows_of_one_name() -> None:
    """The error shows both patterns."""
    other = Row(name="conv", pattern=op("conv1d", input="input"), kernels=[Kernel.FLOAT])
    with pytest.raises(TableError, match=r"two rows named 'conv': conv2d\(.*\) and conv1d\(input\)"):
        SupportTable([ROW_CONV, other])


def test_row_by_name() -> None:
    """A row is found by its name; an unknown one is refused with those that there are."""
    table = SupportTable([ROW_CONV])
    assert table.row("conv") is ROW_CONV
    assert list(table) == [ROW_CONV]
    with pytest.raises(TableError, match=r"no row 'cnov'\n.*one of conv\n.*where:  support table"):
        table.row("cnov")


def test_site_reads_shapes_and_dtypes() -> None:
    """Of captures and of the result; an absent capture has neither, so a constraint need not ask first."""
    site = site_of(nn.Conv2d(3, 4, 3, bias=False), CONV, IMAGE)
    assert site.shape("input") == (1, 3, 4, 4)
    assert site.shape("output") == (1, 4, 2, 2)
    assert (site.dtype("weight"), site.dtype("output")) == (torch.float32, torch.float32)
    assert (site.tensors("bias"), site.shape("bias"), site.dtype("bias")) == ((), (), None)
    assert site.is_constant("bias")


def test_site_reads_the_first_of_a_list() -> None:
    """A list operand has the shape and dtype of its first tensor, and is constant if all of it is."""
    held = torch.ones(1, 4)
    site = site_of(lambda x: torch.cat([x, held]), op("cat", tensors="inputs*"), ROW)
    assert len(site.tensors("inputs")) == 2
    assert site.shape("inputs") == (2, 4)
    assert not site.is_constant("inputs")


def test_site_reads_dynamic_shapes() -> None:
    """A dynamic size is a symbol, a fixed one a number."""
    side = torch.export.Dim("side", min=4, max=64)
    site = site_of(nn.Conv2d(3, 4, 1), CONV, IMAGE, dynamic=({2: side},))
    assert isinstance(site.shape("input")[2], torch.SymInt)
    assert site.shape("input")[3] == 4
    assert isinstance(site.shape("output")[2], torch.SymInt)


def test_site_reads_arguments_of_each_operator() -> None:
    """The first operator of the pattern unless another is asked for; 0 is an argument."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.Hardtanh(0, 6))
    site = site_of(model, op("hardtanh", self=CONV), IMAGE)
    assert site.anchor is site.nodes[0]
    assert site.output is site.nodes[1]
    assert site.argument("stride") == [2, 2]
    assert site.argument("groups") == 1
    assert (site.argument("min_val", operator=1), site.argument("max_val", operator=1)) == (0, 6)
    assert site.argument("momentum", 0.1) == 0.1


def test_constraint_for_some_kernels() -> None:
    """A constraint applies to the kernels that it names, or to all."""

    @constraint("a kernel of 3×3", kernels=[Kernel.STATIC])
    def small(site: Site) -> str | None:
        return None

    assert small.text == "a kernel of 3×3"
    assert small.applies_to(Kernel.STATIC)
    assert not small.applies_to(Kernel.FLOAT)
    assert constraint("any")(small.check).applies_to(Kernel.FLOAT)


def test_claim_of_a_conversion_computes_nothing() -> None:
    """A partition of quantize nodes alone is not worth its call."""
    site = site_of(lambda x: x.relu(), op("relu", self="input"), ROW)
    convert = Row(name="convert", pattern=op("relu", self="input"), kernels=[Kernel.FLOAT], converts=True)
    assert Claim(site=site, nodes=site.nodes).computes
    other = Site(row=convert, kernel=Kernel.FLOAT, view=site.view, nodes=site.nodes, captures=site.captures)
    assert not Claim(site=other, nodes=site.nodes).computes


def test_rows_of_one_pattern_may_exclude_each_other() -> None:
    """Two rows with one pattern are no error where their constraints part the sites."""

    @constraint("one group")
    def one_group(site: Site) -> str | None:
        return None if site.argument("groups") == 1 else "more than one group"

    @constraint("a group a channel")
    def depthwise(site: Site) -> str | None:
        return None if site.argument("groups") > 1 else "one group"

    rows = [
        Row(name="conv", pattern=CONV, kernels=[Kernel.FLOAT], constraints=[one_group]),
        Row(name="depthwise", pattern=CONV, kernels=[Kernel.FLOAT], constraints=[depthwise]),
    ]
    module = graph_of(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1, groups=3)), IMAGE)
    found = match_table(SupportTable(rows), GraphView(module), Kernel.FLOAT)
    assert [site.row.name for site in found.sites] == ["conv", "depthwise"]
    assert [site.output for site in found.sites] == nodes_of(module, "conv2d")
