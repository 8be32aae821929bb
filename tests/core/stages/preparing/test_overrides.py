"""Overrides: first match wins, a rule without effect is refused, formats are those that the backend has."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from quanthost.errors import OverrideError
from quanthost.graph.provenance import NodeInfo
from quanthost.hooks.manager import Plugins
from quanthost.hooks.specs import hookimpl
from quanthost.stages.preparing.overrides import apply_qspecs, resolve_overrides
from quanthost.values import (
    BackendInfo,
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Granularity,
    Kernel,
    Override,
    QSpec,
    QSpecChoice,
    RangeEstimator,
    Recipe,
    Request,
    Role,
    SharedQSpec,
    Symmetry,
    Timing,
)

INT8 = QSpec(dtype=DType.INT8)
SYMMETRIC = attrs.evolve(INT8, symmetry=Symmetry.SYMMETRIC)
CHANNELS = attrs.evolve(SYMMETRIC, granularity=Granularity.PER_CHANNEL, axis=0)
BIAS = DerivedQSpec(sources=("input", "weight"))
SOFTMAX = FixedQSpec(dtype=DType.INT8, scale=1 / 256, zero_point=-128)

STATIC = Recipe(name="static", kernel=Kernel.STATIC, activation=INT8, weight=CHANNELS, bias=BIAS)
PER_TENSOR = Recipe(name="per_tensor", kernel=Kernel.STATIC, activation=INT8, weight=SYMMETRIC)
DYNAMIC = Recipe(
    name="dynamic",
    kernel=Kernel.DYNAMIC,
    activation=attrs.evolve(INT8, timing=Timing.DYNAMIC),
    weight=CHANNELS,
)
FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)


def info(name: str, operator: str, module: str | None = None, module_type: str | None = None) -> NodeInfo:
    return NodeInfo(name=name, operator=operator, module=module, module_type=module_type)


NODES = (
    info("conv2d", "aten.conv2d.default", "stem.conv", "torch.nn.Conv2d"),
    info("relu", "aten.relu.default", "stem.act", "torch.nn.ReLU"),
    info("conv2d_1", "aten.conv2d.default", "head.0.conv", "torch.nn.Conv2d"),
    info("relu_1", "aten.relu.default", "head.0.act", "torch.nn.ReLU"),
    info("linear", "aten.linear.default", "head.1", "my.own.Linear"),
    info("getitem", "getitem", "", "my.own.Net"),
    info("add", "aten.add.Tensor"),
)


class Backend:
    """A backend that has recipes and nothing else."""

    def __init__(self, name: str, *recipes: Recipe) -> None:
        self.name = name
        self.recipes = recipes

    @hookimpl
    def quanthost_backend_info(self) -> BackendInfo:
        return BackendInfo(name=self.name, recipes=self.recipes)


NPU = Backend("npu", STATIC, PER_TENSOR, DYNAMIC, FP32)


def resolve(*overrides: Override, recipe: str = "static", backends: tuple[Backend, ...] = (NPU,)) -> Any:
    """The rules by node, with each rule as its position among the overrides."""
    plugins = Plugins([(backend.name, backend) for backend in backends])
    request = Request(backends=[b.name for b in backends], recipe=recipe, overrides=overrides)
    rules = resolve_overrides(NODES, request, plugins)
    return {name: overrides.index(rule) for name, rule in rules.items()}


def keep(**selectors: str) -> Override:
    return Override(keep_float=True, **selectors)  # type: ignore[arg-type]


def test_no_override() -> None:
    """Without a rule, no node has one."""
    assert resolve() == {}


@pytest.mark.parametrize(
    ("selectors", "nodes"),
    [
        ({"node": "relu"}, "relu"),
        ({"operator": "aten.conv2d"}, "conv2d conv2d_1"),
        ({"operator": "conv2d.default"}, "conv2d conv2d_1"),
        ({"operator": "getitem"}, "getitem"),
        ({"module_name": "head"}, "conv2d_1 relu_1 linear"),
        ({"module_name": "head.0"}, "conv2d_1 relu_1"),
        ({"module_name": "head.*"}, "conv2d_1 relu_1 linear"),
        ({"module_name": "*.act"}, "relu relu_1"),
        ({"module_name": "head.[1-9]"}, "linear"),
        ({"module_name": ""}, "getitem"),
        ({"module_type": "Conv2d"}, "conv2d conv2d_1"),
        ({"module_type": "my.own.Linear"}, "linear"),
        ({"module_name": "head", "operator": "aten.relu"}, "relu_1"),
        ({"module_type": "ReLU", "module_name": "stem", "node": "relu", "operator": "relu"}, "relu"),
    ],
    ids=lambda part: "+".join(map("=".join, part.items())) if isinstance(part, dict) else "",
)
def test_selectors(selectors: dict[str, str], nodes: str) -> None:
    """A node satisfies every selector that is set; what lies inside a module is selected with it."""
    assert resolve(keep(**selectors)) == dict.fromkeys(nodes.split(), 0)


def test_glob_is_of_whole_names() -> None:
    """A module is not selected by the beginning of its name, and case counts."""
    for pattern in ("hea", "head.0.con", "Head"):
        with pytest.raises(OverrideError, match="matches no node"):
            resolve(keep(module_name=pattern))


def test_first_match_wins() -> None:
    """Of the rules that match a node, the first decides, whatever it asks for."""
    rules = resolve(
        Override(module_name="head.0", recipe="per_tensor"),
        keep(operator="aten.relu"),
        keep(module_name="head"),
    )
    assert rules == {"conv2d_1": 0, "relu_1": 0, "relu": 1, "linear": 2}


@pytest.mark.parametrize(
    ("selectors", "seen", "needed", "remedy"),
    [
        (
            {"module_name": "backbone"},
            "override(module_name='backbone', keep_float=True) matches no node",
            "a selector that matches; modules of this model: head.0.act, head.0.conv, head.1, stem.act, "
            "stem.conv",
            "correct module_name, or remove the override",
        ),
        (
            {"operator": "aten.conv1d"},
            "override(operator='aten.conv1d', keep_float=True) matches no node",
            "a selector that matches; operators of this model: aten.add.Tensor, aten.conv2d.default, "
            "aten.linear.default, aten.relu.default, getitem",
            "correct operator, or remove the override",
        ),
        (
            {"operator": "aten.relu", "module_type": "Linaer"},
            "override(module_type='Linaer', operator='aten.relu', keep_float=True) matches no node",
            "a selector that matches; module types of this model: my.own.Linear, my.own.Net, "
            "torch.nn.Conv2d, torch.nn.ReLU",
            "correct module_type, or remove the override",
        ),
        (
            {"node": "relu", "module_name": "head"},
            "override(module_name='head', node='relu', keep_float=True) matches no node",
            "one node that node and module_name all match; each matches others",
            "leave one of them out, or remove the override",
        ),
    ],
    ids=["module", "operator", "second_selector", "together"],
)
def test_rule_that_matches_nothing(selectors: dict[str, str], seen: str, needed: str, remedy: str) -> None:
    """The error blames the selector that matches nothing, and lists what there is."""
    with pytest.raises(OverrideError) as caught:
        resolve(keep(node="add"), keep(**selectors))
    error = caught.value
    assert (error.seen, error.needed, error.remedy, error.stage) == (seen, needed, remedy, "prepare")
    assert error.value == keep(**selectors)


def test_long_lists_are_cut() -> None:
    """A large model is not listed in full."""
    plugins = Plugins([("npu", NPU)])
    request = Request(backends="npu", recipe="static", overrides=[keep(node="x")])
    nodes = [NodeInfo(name=f"n{i:02}", operator="aten.add.Tensor") for i in range(20)]
    with pytest.raises(OverrideError, match=r"nodes of this model: n00, .*, n11 and 8 more\n"):
        resolve_overrides(nodes, request, plugins)


def test_rule_that_earlier_ones_hide() -> None:
    """A rule that decides no node has no effect: the order is wrong, or the rule is not needed."""
    with pytest.raises(
        OverrideError, match="has no effect: earlier overrides match all its 2 nodes"
    ) as caught:
        resolve(keep(module_name="head"), keep(node="relu"), keep(module_name="head.0"))
    assert caught.value.value == keep(module_name="head.0")
    assert "move it before" in caught.value.remedy


def test_same_rule_twice() -> None:
    """The second of two equal rules is as idle as any other that is hidden."""
    with pytest.raises(OverrideError, match="has no effect: earlier overrides match all its 1 nodes"):
        resolve(keep(node="relu"), keep(node="relu"))


def test_recipe_that_the_backend_does_not_have() -> None:
    """The error names the backend and its recipes."""
    with pytest.raises(OverrideError, match="asks for the recipe 'int4'") as caught:
        resolve(Override(node="relu", recipe="int4"))
    assert (caught.value.plugin, caught.value.needed) == ("npu", "one of static, per_tensor, dynamic, fp32")


def test_every_backend_has_to_honour_it() -> None:
    """Any backend of the list may get the node."""
    with pytest.raises(OverrideError, match="asks for the recipe 'dynamic'") as caught:
        resolve(Override(node="relu", recipe="dynamic"), backends=(NPU, Backend("cpu", STATIC)))
    assert caught.value.plugin == "cpu"


@pytest.mark.parametrize(
    "fields",
    [
        {"activation": attrs.evolve(INT8, estimator=RangeEstimator(kind=Estimator.MINMAX))},
        {"activation": attrs.evolve(INT8, quant_min=-127)},
        {"weight": SYMMETRIC},
        {"weight": attrs.evolve(CHANNELS, axis=1)},
        {"bias": BIAS},
    ],
    ids=["estimator", "range", "other_recipe", "axis", "bias"],
)
def test_qspec_that_is_honoured(fields: dict[str, Any]) -> None:
    """A qspec of a storage format that a recipe of the same kernel has; ranges and estimators are free."""
    assert resolve(Override(node="relu", **fields)) == {"relu": 0}


@pytest.mark.parametrize(
    ("fields", "recipe", "seen", "has"),
    [
        (
            {"activation": QSpec(dtype=DType.INT16)},
            "static",
            "int16 per_tensor affine static as activation",
            "static kernels have: int8 per_tensor affine static",
        ),
        (
            {"weight": INT8},
            "static",
            "int8 per_tensor affine static as weight",
            "static kernels have: int8 per_channel symmetric static, int8 per_tensor symmetric static",
        ),
        (
            {"activation": SOFTMAX},
            "static",
            "FixedQSpec int8 as activation",
            "static kernels have: int8 per_tensor affine static",
        ),
        (
            {"weight": SYMMETRIC},
            "dynamic",
            "as weight",
            "dynamic kernels have: int8 per_channel symmetric static",
        ),
        ({"activation": INT8}, "fp32", "as activation", "float kernels have: none: it stays float"),
    ],
    ids=["dtype", "symmetry", "fixed", "other_kernel", "float"],
)
def test_qspec_that_the_backend_does_not_have(
    fields: dict[str, Any], recipe: str, seen: str, has: str
) -> None:
    """The error shows the format that was asked for, and those of the backend's kernels."""
    with pytest.raises(OverrideError, match=f"asks for .*{seen}") as caught:
        resolve(Override(node="relu", **fields), recipe=recipe)
    assert caught.value.needed == f"a format that the backend's {has}"
    assert caught.value.plugin == "npu"


CHOICE = QSpecChoice(qspecs={"input": INT8, "weight": CHANNELS, "bias": BIAS, "output": INT8})
ROLES = {"input": Role.ACTIVATION, "weight": Role.WEIGHT, "bias": Role.BIAS}
NARROW = attrs.evolve(INT8, quant_min=-127)


def test_apply_replaces_by_role() -> None:
    """Each capture gets the override's qspec for its role; the roles that it leaves unset keep theirs."""
    applied = apply_qspecs(CHOICE, Override(node="conv2d", activation=NARROW), ROLES).as_dict()
    assert applied == {"input": NARROW, "weight": CHANNELS, "bias": BIAS, "output": NARROW}
    applied = apply_qspecs(CHOICE, Override(node="conv2d", weight=SYMMETRIC), ROLES).as_dict()
    assert applied == {"input": INT8, "weight": SYMMETRIC, "bias": BIAS, "output": INT8}


def test_apply_reaches_items_of_a_list() -> None:
    """The tensors of a list operand have the role of the list; what was not chosen stays float."""
    choice = QSpecChoice(qspecs={"inputs.0": INT8, "inputs.2": INT8})
    applied = apply_qspecs(choice, Override(node="cat", activation=NARROW), {"inputs": Role.ACTIVATION})
    assert applied.as_dict() == {"inputs.0": NARROW, "inputs.2": NARROW}


def test_apply_keeps_what_the_kernel_needs() -> None:
    """A fixed or shared range is no wish of the recipe, and a weight's axis is the operator's."""
    choice = QSpecChoice(
        qspecs={
            "input": INT8,
            "weight": attrs.evolve(CHANNELS, axis=1),
            "output": SOFTMAX,
            "extra": SharedQSpec(source="input"),
        }
    )
    asked = Override(node="x", activation=NARROW, weight=attrs.evolve(CHANNELS, quant_min=-127))
    assert apply_qspecs(choice, asked, ROLES).as_dict() == {
        "input": NARROW,
        "weight": attrs.evolve(CHANNELS, quant_min=-127, axis=1),
        "output": SOFTMAX,
        "extra": SharedQSpec(source="input"),
    }
