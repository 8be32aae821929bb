"""JSON round trip, refusal of JSON that does not fit, and digests of every value class."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from value_strategies import ALL, options, requests

from quanthost import values
from quanthost.errors import ValueCheckError
from quanthost.values import (
    AnyQSpec,
    BackendInfo,
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Kernel,
    Override,
    QSpec,
    QSpecChoice,
    RangeEstimator,
    Recipe,
    Request,
    SharedQSpec,
    digest,
    from_data,
    from_json,
    to_data,
    to_json,
)

each_class = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
SPECS: dict[str, AnyQSpec] = {
    "own": QSpec(dtype=DType.INT8),
    "fixed": FixedQSpec(dtype=DType.INT8, scale=1 / 256, zero_point=-128),
    "derived": DerivedQSpec(sources=("input", "weight")),
    "shared": SharedQSpec(source="input"),
}


def test_every_value_class_has_a_strategy() -> None:
    """The tests below include every value class."""
    public = [getattr(values, name) for name in values.__all__]
    assert {kind for kind in public if isinstance(kind, type) and attrs.has(kind)} == set(ALL)


@each_class
def test_round_trip(kind: type) -> None:
    """``from_json`` reads back what ``to_json`` writes: an equal value with an equal digest."""

    @given(value=ALL[kind])
    @settings(max_examples=40)
    def check(value: Any) -> None:
        text = to_json(value)
        again: Any = from_json(kind, text)
        assert again == value
        assert to_json(again) == text
        assert digest(again) == digest(value)

    check()


@each_class
def test_equal_values_have_equal_digests(kind: type) -> None:
    """Two values are equal if and only if their digests are."""

    @given(first=ALL[kind], second=ALL[kind])
    @settings(max_examples=40)
    def check(first: Any, second: Any) -> None:
        assert (first == second) == (digest(first) == digest(second))
        assert first != second or hash(first) == hash(second)

    check()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            RangeEstimator(kind=Estimator.PERCENTILE, percentile=99),
            RangeEstimator(kind=Estimator.PERCENTILE, percentile=99.0),
        ),
        (
            RangeEstimator(kind=Estimator.MOVING_AVERAGE, momentum=-0.0),
            RangeEstimator(kind=Estimator.MOVING_AVERAGE, momentum=0),
        ),
        (
            FixedQSpec(dtype=DType.INT8, scale=1, zero_point=0),
            FixedQSpec(dtype=DType.INT8, scale=1.0, zero_point=0),
        ),
        (
            Request(backends="npu", recipe="r", options={"b": 1, "a": 2}),
            Request(backends=["npu"], recipe="r", options=[("a", 2), ("b", 1)]),
        ),
    ],
    ids=["percentile", "negative_zero", "scale", "order_of_options"],
)
def test_two_spellings_of_one_value(first: Any, second: Any) -> None:
    """Different spellings of a value have the same equality and digest."""
    assert first == second
    assert digest(first) == digest(second)


def test_options_of_other_types_are_other_values() -> None:
    """``1``, ``1.0`` and ``True`` are three options, though Python calls them equal."""
    variants = [Request(backends="npu", recipe="r", options={"a": option}) for option in (1, 1.0, True)]
    assert len(set(variants)) == len({digest(request) for request in variants}) == 3


def test_digest_has_its_form() -> None:
    """The digest names its algorithm and has 64 hexadecimal digits."""
    algorithm, digits = digest(SPECS["own"]).split(":")
    assert algorithm == "sha256"
    assert len(bytes.fromhex(digits)) == 32


DIGESTS = """
from quanthost.values import *
spec = QSpec(dtype=DType.INT8, quant_min=-127)
recipe = Recipe(name="r", kernel=Kernel.STATIC, activation=spec, bias=DerivedQSpec(sources=("a", "b")))
for value in (
    spec,
    BackendInfo(name="npu", recipes=[recipe], options=["x", "a"]),
    Request(backends=["b", "a"], recipe="r", options={"z": 0, "a": False, "m": "text"}),
    Match(backend="npu", row="conv", kernel=Kernel.STATIC, nodes=["n"], captures={"z": "1", "a": "2"}),
    QSpecChoice(qspecs={"output": spec, "input": SharedQSpec(source="output")}),
):
    print(digest(value))
"""


def test_digest_is_the_same_in_every_process() -> None:
    """Digests do not depend on the seed of Python's string hash."""
    printed = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert len(set(printed[0].split())) == 5


@each_class
def test_unknown_field_is_refused(kind: type) -> None:
    """A field that the class does not have is named in the error."""

    @given(value=ALL[kind])
    @settings(max_examples=5)
    def check(value: Any) -> None:
        data = {**to_data(value), "colour": "red"}
        with pytest.raises(ValueCheckError, match=rf"{kind.__name__} that does not fit: .*\(colour\)"):
            from_data(kind, data)

    check()


@pytest.mark.parametrize("tag", SPECS)
def test_qspec_of_any_kind_is_tagged(tag: str) -> None:
    """A field for any qspec writes its kind, in an optional field too."""
    recipe = Recipe(name="r", kernel=Kernel.STATIC, activation=SPECS[tag])
    choice = QSpecChoice(qspecs={"input": SPECS[tag]})
    assert to_data(recipe)["activation"]["kind"] == tag
    assert to_data(choice)["qspecs"][0][1]["kind"] == tag
    assert from_data(Recipe, to_data(recipe)).activation == SPECS[tag]
    assert from_data(QSpecChoice, to_data(choice)).as_dict() == {"input": SPECS[tag]}


def test_empty_roles_stay_empty() -> None:
    """``None`` is written as null and read as ``None``."""
    recipe = Recipe(name="r", kernel=Kernel.STATIC, weight=SPECS["own"])
    assert to_data(recipe)["activation"] is None
    assert from_json(Recipe, to_json(recipe)).activation is None


@given(given_options=options)
@settings(max_examples=60)
def test_options_keep_value_and_type(given_options: dict[str, Any]) -> None:
    """Each option keeps its type: 0, 0.0, False and ``""`` are not lost or mixed up."""
    request = from_json(Request, to_json(Request(backends="npu", recipe="r", options=given_options)))
    for name, option in given_options.items():
        assert request.option(name, "default") == option
        assert type(request.option(name)) is type(option)


def test_explicit_zero_and_false_survive() -> None:
    """Falsy values are not replaced by defaults, in the value or in JSON."""
    spec = QSpec(dtype=DType.INT8, quant_min=0, quant_max=1)
    estimator = RangeEstimator(kind=Estimator.MOVING_AVERAGE, momentum=0.0)
    info = BackendInfo(
        name="npu", recipes=[Recipe(name="r", kernel=Kernel.STATIC, activation=spec)], qat=False
    )
    assert from_json(QSpec, to_json(spec)).quant_min == 0
    assert from_json(RangeEstimator, to_json(estimator)).momentum == 0.0
    assert from_json(BackendInfo, to_json(info)).qat is False
    assert Request(backends="npu", recipe="r", options={"a": 0}).option("a", 7) == 0


@given(request=requests)
@settings(max_examples=20)
def test_json_is_canonical(request: Request) -> None:
    """Keys are sorted at every depth; indenting changes only white space."""
    data = json.loads(to_json(request))
    assert to_json(request) == json.dumps(data, sort_keys=True, ensure_ascii=False)
    assert from_json(Request, to_json(request, indent=2)) == request


REQUEST = {"backends": ["npu"], "recipe": "r"}
RECIPE = {"name": "r", "kernel": "float"}


@pytest.mark.parametrize(
    ("kind", "data", "problem"),
    [
        (QSpec, {}, r"required field missing @ \$\.dtype"),
        (QSpec, [], r"\[\] of type list, needed the fields of QSpec"),
        (QSpec, None, "None of type NoneType, needed the fields of QSpec"),
        (QSpec, {"dtype": "int9"}, r"needed one of int4, int8, uint8, int16, int32 @ \$\.dtype"),
        (QSpec, {"dtype": "int8", "quant_min": 1.5}, r"1\.5 of type float, needed int @ \$\.quant_min"),
        (QSpec, {"dtype": "int8", "quant_min": "3"}, r"'3' of type str, needed int @ \$\.quant_min"),
        (QSpec, {"dtype": "int8", "quant_min": True}, r"True of type bool, needed int @ \$\.quant_min"),
        (QSpec, {"dtype": "int8", "quant_min": -1000}, "QSpec.quant_min: the range -1000 to 127 for int8"),
        (QSpec, {"dtype": "int8", "estimator": 3}, r"needed the fields of RangeEstimator @ \$\.estimator"),
        (FixedQSpec, {"dtype": "int8", "scale": "0.5", "zero_point": 0}, r"needed float @ \$\.scale"),
        (Request, {**REQUEST, "qat": "false"}, r"'false' of type str, needed bool @ \$\.qat"),
        (Request, {**REQUEST, "backends": "npu"}, r"'npu' of type str, needed list @ \$\.backends"),
        (Request, {**REQUEST, "recipe": 5}, r"5 of type int, needed str @ \$\.recipe"),
        (Request, {**REQUEST, "options": [["a", None]]}, r"None of type NoneType.* @ \$\.options\[0\]\[1\]"),
        (Recipe, {**RECIPE, "bias": {"kind": "own", "dtype": "int8", "x": 1}}, r"\(x\) @ \$\.bias"),
        (Recipe, {**RECIPE, "bias": {"dtype": "int8"}}, r"one of own, fixed, .* @ \$\.bias"),
        (Recipe, {**RECIPE, "bias": {"kind": "nix"}}, r"'nix' of type str, .* @ \$\.bias"),
        (Recipe, {**RECIPE, "bias": {"kind": ["own"]}}, r"\['own'\] of type list.* @ \$\.bias"),
        (Recipe, {**RECIPE, "bias": 5}, r"5 of type int, needed the fields of a qspec"),
        (Override, {"node": "a", "keep_float": 1}, r"1 of type int, needed bool @ \$\.keep_float"),
    ],
)  # fmt: skip
def test_json_that_does_not_fit(kind: type, data: Any, problem: str) -> None:
    """Data is not converted: the error names the field, its value and the needed type."""
    with pytest.raises(ValueCheckError, match=f"{kind.__name__} that does not fit: .*{problem}") as caught:
        from_data(kind, data, where="manifest.json")
    assert caught.value.where == "manifest.json"
    assert caught.value.value is data


def test_every_problem_is_named() -> None:
    """One error lists all fields that do not fit."""
    with pytest.raises(ValueCheckError, match=r"@ \$\.dtype; .*@ \$\.quant_max"):
        from_data(QSpec, {"dtype": "int9", "quant_max": "x"})


def test_text_that_is_no_json() -> None:
    """A truncated file is refused with its path, and a shortened excerpt of its text."""
    text = to_json(SPECS["own"], indent=1)[:-2] + " " * 500
    with pytest.raises(ValueCheckError, match="text that is not JSON") as caught:
        from_json(QSpec, text, where="program.json")
    assert caught.value.where == "program.json"
    assert len(caught.value.value) == 200


def test_what_has_no_json_form_is_refused() -> None:
    """An object that is not a value cannot enter a digest by its address."""
    with pytest.raises(TypeError, match="has no JSON form"):
        digest({"a": object()})


def test_not_a_number_is_refused() -> None:
    """JSON has no NaN, so canonical text contains none."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("nan")})


FIELDS = ("dtype", "kind", "sources", "name", "kernel", "bias")
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)


@each_class
def test_any_json_is_read_or_refused(kind: type) -> None:
    """Any JSON gives a value or a ``ValueCheckError``, never another error."""

    @given(data=documents)
    @settings(max_examples=60)
    def check(data: Any) -> None:
        try:
            value: Any = from_data(kind, data)
        except ValueCheckError:
            return
        assert from_data(kind, to_data(value)) == value

    check()
