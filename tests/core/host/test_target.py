"""``Target``: one value for what is asked, and the keywords that are a short way to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from mypy import api as mypy
from torch import nn

import quanthost
from quanthost import Override, Policy, Target, inspection
from quanthost.errors import RequestError, ValueCheckError
from quanthost.host.requests import resolve
from quanthost.values import CostTable, Objective, Placement, Request, Toolchain

BACKEND = "xnnpack_like"
INPUTS = (torch.ones(1, 4),)
KEPT = Override(module_name="0", keep_float=True)
SETTINGS: dict[str, Any] = {"recipe": "int8_static_per_tensor", "overrides": [KEPT], "placement": "all"}
TARGET = Target(backend=BACKEND, **SETTINGS)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


@pytest.fixture(scope="module")
def captured(model: nn.Module) -> Any:
    return quanthost.capture(model, INPUTS)


def test_strings_become_members() -> None:
    """Texts at the edge, enums inside; one name is a tuple of one."""
    target = Target(backend=BACKEND, placement="all", optimize_for="latency", toolchain="upstream")
    assert (target.placement, target.optimize_for, target.toolchain) == (
        Placement.ALL, Objective.LATENCY, Toolchain.UPSTREAM,
    )  # fmt: skip
    assert target.backend == (BACKEND,)
    assert Target(backend=[BACKEND, "other"]).backend == (BACKEND, "other")


def test_it_is_frozen_and_compares_by_value() -> None:
    """Equal fields, equal targets; True, 1 and 1.0 are different options."""
    assert Target(backend=[BACKEND], **SETTINGS) == TARGET
    assert attrs.evolve(TARGET, recipe="fp32").recipe == "fp32"
    assert Target(backend="a", options={"n": 1}) != Target(backend="a", options={"n": True})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        TARGET.recipe = "fp32"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        (
            {"placement": "al"},
            RequestError,
            "placement='al'\n  needed: one of cost, all\n  to do:  write all",
        ),
        ({"optimize_for": "speed"}, RequestError, "optimize_for='speed'\n  needed: one of accuracy, latency"),
        ({"toolchain": "upsteam"}, RequestError, "toolchain='upsteam'\n(.*\n)*  to do:  write upstream"),
        ({"backend": []}, RequestError, r"the backends \[\]\n  needed: at least one backend"),
        ({"backend": ["a", "a"]}, RequestError, r"the backends \['a', 'a'\]\n.*each once"),
        ({"backend": 5}, RequestError, "the backend 5\n  needed: the name of one, or a plugin object"),
        ({"qat": 1}, ValueCheckError, "1 of type int\n  needed: bool\n  where:  Target.qat"),
        ({"recipe": "int 8"}, ValueCheckError, "the name 'int 8'\n(.*\n)*  where:  Target.recipe"),
        ({"overrides": ["stem"]}, ValueCheckError, "needed: Override\n  where:  Target.overrides"),
        ({"costs": 3}, ValueCheckError, "needed: CostTable or str or PathLike or None\n.*Target.costs"),
        ({"options": {"n": [1]}}, ValueCheckError, r"\[1\] of type list\n(.*\n)*  where:  Target.options"),
        ({"policy": "a,b"}, ValueCheckError, "needed: Policy or None\n  where:  Target.policy"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_it_checks_itself(fields: dict[str, Any], error: type[Exception], said: str) -> None:
    """Each error says what was seen, what is needed, and where."""
    with pytest.raises(error, match=said):
        Target(**{"backend": BACKEND, **fields})


def test_what_plugins_get_is_made_of_it() -> None:
    """Names, a recipe and a table where the target has none; the policy is not for plugins."""
    plugins, request = resolve(Target(backend=BACKEND, toolchain="upstream", policy=Policy()))
    assert plugins.backends == (BACKEND,)
    assert request == Request(backends=BACKEND, recipe="int8_static", toolchain=Toolchain.UPSTREAM)


def test_costs_are_found(tmp_path: Path) -> None:
    """A file of them becomes the table of the request."""
    table = CostTable(backend=BACKEND, machine="here", versions=[], sites=[], conversions=[])
    (tmp_path / "costs.json").write_text(quanthost.values.to_json(table))
    target = Target(backend=BACKEND, optimize_for="latency", costs=tmp_path / "costs.json")
    assert resolve(target)[1].costs == table
    with pytest.raises(RequestError, match="costs without optimize_for='latency'"):
        resolve(attrs.evolve(target, optimize_for="accuracy"))


def decisions(made: Any) -> Any:
    return [(d.node, d.verdict, d.recipe, d.reason) for d in made.decisions]


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[Any], Any], str]] = {
    "prepare": (quanthost.prepare, decisions, "captured"),
    "quantize": (quanthost.quantize, decisions, "model"),
    "why": (lambda captured, *a, **k: inspection.why(captured, "linear", *a, **k), str, "captured"),
    "trace": (inspection.trace, str, "captured"),
    "snapshot_decisions": (
        lambda captured, *a, **k: inspection.snapshot_decisions({"net": captured}, *a, **k), str, "captured",
    ),
    "as_quantizer": (quanthost.as_quantizer, lambda quantizer: quantizer.request, ""),
    "as_partitioners": (quanthost.as_partitioners, lambda made: list(map(type, made)), ""),
    "as_export_recipe": (quanthost.as_export_recipe, lambda recipe: recipe.name, ""),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::executorch.exir._warnings.ExperimentalWarning")
@pytest.mark.filterwarnings("ignore::executorch.exir._warnings.ExperimentalWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_target_is_the_same_as_its_keywords(name: str, model: nn.Module, captured: Any) -> None:
    """Each function that takes a backend takes either, and does the same."""
    function, outcome, subject = FUNCTIONS[name]
    first = {"captured": (captured,), "model": (model, INPUTS), "": ()}[subject]
    data = {"calibration": [INPUTS]} if name == "quantize" else {}
    by_target = outcome(function(*first, TARGET, **data))
    by_keywords = outcome(function(*first, BACKEND, **SETTINGS, **data))
    assert by_target == by_keywords
    assert by_target != outcome(function(*first, BACKEND, recipe="fp32", **data)) or name == "as_partitioners"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_keywords_beside_a_target_are_refused(name: str, model: nn.Module, captured: Any) -> None:
    """The error names them, and says how to change a target."""
    function, _, subject = FUNCTIONS[name]
    first = {"captured": (captured,), "model": (model, INPUTS), "": ()}[subject]
    with pytest.raises(
        RequestError, match=rf"{name}\(\) with a Target and also recipe, placement\n"
    ) as caught:
        function(*first, TARGET, recipe="fp32", placement="cost")
    assert caught.value.remedy == "put them into the target: attrs.evolve(target, recipe=...)"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_unknown_keyword_is_refused(name: str, model: nn.Module, captured: Any) -> None:
    """With the function, what it takes, and the nearest."""
    function, _, subject = FUNCTIONS[name]
    first = {"captured": (captured,), "model": (model, INPUTS), "": ()}[subject]
    with pytest.raises(RequestError, match=rf"{name}\(\) with the unknown keyword 'placment'\n") as caught:
        function(*first, BACKEND, placment="all")
    assert caught.value.remedy == "write placement"
    assert "optimize_for" in caught.value.needed


CALLS = """
from typing import Any

import quanthost

def calls(captured: Any) -> None:
    quanthost.prepare(captured, "npu", placement="all", qat=True)
    quanthost.prepare(captured, quanthost.Target(backend="npu", optimize_for="latency"))
    quanthost.prepare(captured, "npu", placment="all")  # error
    quanthost.prepare(captured, "npu", placement=3)  # error
    quanthost.Target(backend="npu", toolchain=1)  # error
"""


@pytest.mark.slow
def test_a_type_checker_sees_the_keywords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt keyword and a value of the wrong type are errors before anything runs."""
    core, file = Path(quanthost.__file__).parents[1], tmp_path / "calls.py"
    file.write_text(CALLS)
    monkeypatch.setenv("MYPYPATH", str(core))
    options = ["--config-file", str(core.parent / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    report, _, _ = mypy.run([*options, str(file)])
    refused = [
        int(line.split(":")[1]) for line in report.splitlines() if f"{file}:" in line and ": error:" in line
    ]
    assert refused == [n for n, line in enumerate(CALLS.splitlines(), 1) if line.endswith("# error")]


def test_costs_are_those_of_one_backend() -> None:
    """Measuring takes a target; several backends, or a policy beside a target, are refused."""
    with pytest.raises(RequestError, match=f"the backends {BACKEND}, int8_reference\n  needed: one backend"):
        quanthost.measure_costs([BACKEND, "int8_reference"])
    with pytest.raises(RequestError, match=r"measure_costs\(\) with a Target and also policy"):
        quanthost.measure_costs(TARGET, policy=Policy())
