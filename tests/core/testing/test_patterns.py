"""Patterns select cases, and never leave out a kind or name that has a selected case."""

from __future__ import annotations

import pytest

from quanthost.testing.patterns import Patterns


@pytest.mark.parametrize(
    ("pattern", "is_selected"),
    [
        ("table/edge/relu/rank_1_to_6/int8", True),
        ("table/edge/*", True),
        ("table/single/*", False),
        ("table/edge/relu", False),
    ],
)
def test_selected_case(pattern: str, is_selected: bool) -> None:
    """An id, or a glob over the whole id."""
    assert Patterns((pattern,)).selects("table/edge/relu/rank_1_to_6/int8") is is_selected


def test_all_cases() -> None:
    """Without patterns everything is selected."""
    patterns = Patterns(())

    assert patterns.selects("table/single/relu/int8")
    assert patterns.may_select_kind("table/edge")
    assert patterns.may_select_name("relu")


@pytest.mark.parametrize(
    ("pattern", "kinds"),
    [
        ("*", {"table", "table/edge", "table/pair", "numbers"}),
        ("table/*/relu/*", {"table", "table/edge", "table/pair"}),
        ("table/pair/*+relu/*", {"table", "table/pair"}),
        ("table/e*relu*", {"table", "table/edge"}),
        ("numbers/qdq/relu/int8_static", {"numbers"}),
        ("t*", {"table", "table/edge", "table/pair"}),
    ],
)
def test_kinds(pattern: str, kinds: set[str]) -> None:
    """Each kind that has a case which the glob matches."""
    patterns = Patterns((pattern,))

    assert {
        kind for kind in ("table", "table/edge", "table/pair", "numbers") if patterns.may_select_kind(kind)
    } == kinds


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", {"conv", "conv_relu", "add"}),
        ("table/*/conv/*", {"conv"}),
        ("table/variation/conv*:plain/int8", {"conv", "conv_relu"}),
        ("table/variation/*:plain/int8", {"conv", "conv_relu", "add"}),
        ("table/pair/conv+add/int8", {"conv", "add"}),
        ("numbers/golden/a[dx]d/int8", {"add"}),
        ("networks/conv/int8", {"conv"}),
    ],
)
def test_names(pattern: str, names: set[str]) -> None:
    """Each row that has a case which the glob matches, though a star reaches beyond a slash."""
    patterns = Patterns((pattern,))

    assert {name for name in ("conv", "conv_relu", "add") if patterns.may_select_name(name)} == names
