"""Sharing groups: laws of union-find, and one answer whatever the order of the input."""

from __future__ import annotations

import itertools
import random
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from quanthost.graph.sharing import DisjointSets, Point, Sharing, solve_sharing
from quanthost.values import (
    AnyQSpec,
    DerivedQSpec,
    DType,
    FixedQSpec,
    Granularity,
    QSpec,
    SharedQSpec,
    Timing,
)

OWN = QSpec(dtype=DType.INT8)
NARROW = QSpec(dtype=DType.INT8, quant_min=-127)
SOFTMAX = FixedQSpec(dtype=DType.INT8, scale=1 / 256, zero_point=-128)
TANH = FixedQSpec(dtype=DType.INT8, scale=1 / 128, zero_point=0)

pairs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20)


def partition(groups: Any) -> set[frozenset[Any]]:
    return {frozenset(group) for group in groups}


@given(joined=pairs)
def test_sets_are_the_connected_components(joined: list[tuple[int, int]]) -> None:
    """Two items are in one set exactly where a path of unions leads from one to the other."""
    sets = DisjointSets(range(13))
    reach = {item: {item} for item in range(13)}
    for first, second in joined:
        sets.union(first, second)
        merged = reach[first] | reach[second]
        for item in merged:
            reach[item] = merged
    for item in range(13):
        assert {other for other in range(13) if sets.find(other) == sets.find(item)} == reach[item]
    assert partition(sets.groups()) == partition(reach.values())


@given(joined=pairs, seed=st.integers(0, 1000))
def test_order_of_unions_does_not_matter(joined: list[tuple[int, int]], seed: int) -> None:
    """Union is commutative, associative and idempotent, as far as the sets go."""
    sets, other = DisjointSets(range(13)), DisjointSets(range(13))
    for first, second in joined:
        sets.union(first, second)
    mixed = [pair[::-1] for pair in joined * 2]
    random.Random(seed).shuffle(mixed)
    for first, second in mixed:
        other.union(first, second)
    assert partition(sets.groups()) == partition(other.groups())


def test_groups_are_in_order_of_their_first_item() -> None:
    """An item that nothing joined is a set of its own; one that was not announced is welcome."""
    sets = DisjointSets("abcd")
    sets.union("d", "b")
    sets.union("c", "e")
    assert sets.groups() == [["a"], ["b", "d"], ["c", "e"]]


class Graph:
    """Nodes by name, and points at them."""

    def __init__(self, names: str = "abcdefgh") -> None:
        graph = fx.Graph()
        self.nodes = {name: graph.placeholder(name) for name in names}
        self.order = {node: position for position, node in enumerate(graph.nodes)}

    def point(self, text: str) -> Point:
        """``"a"`` is the result of a, ``"ab"`` its use by b."""
        return Point(*(self.nodes[name] for name in text))

    def solve(self, specs: dict[str, AnyQSpec], *required: str) -> Sharing:
        """Solve for points and for tuples of points, written with spaces between."""
        return solve_sharing(
            {self.point(text): spec for text, spec in specs.items()},
            [tuple(map(self.point, texts.split())) for texts in required],
            self.order,
        )

    def names(self, points: tuple[Point, ...]) -> str:
        return " ".join(p.producer.name + (p.consumer.name if p.consumer else "") for p in points)

    def solution(self, specs: dict[str, AnyQSpec], *required: str) -> tuple[dict[str, AnyQSpec], list[str]]:
        """Groups with their specs, and conflicts, in words."""
        solved = self.solve(specs, *required)
        groups = {self.names(group): spec for group, spec in zip(solved.groups, solved.specs)}
        return groups, [self.names(group) for group in solved.conflicts]


def test_result_and_uses_of_one_tensor_are_joined() -> None:
    """One quantize serves all who want the same of a tensor; other tensors stay apart."""
    assert Graph().solution({"a": OWN, "ab": OWN, "ac": OWN, "b": OWN}) == ({"a ab ac": OWN, "b": OWN}, [])


def test_uses_that_differ_stay_apart() -> None:
    """A use that wants another range gets a quantize of its own."""
    groups, _ = Graph().solution({"a": OWN, "ab": NARROW, "ac": OWN, "ad": NARROW})
    assert groups == {"a ac": OWN, "ab ad": NARROW}


def test_required_points_are_one_group() -> None:
    """What a kernel needs equal is joined across tensors, and takes along what was joined to it."""
    groups, conflicts = Graph().solution({"a": OWN, "ab": OWN, "b": OWN, "bc": OWN, "c": OWN}, "ab b")
    assert groups == {"a ab b bc": OWN, "c": OWN}
    assert conflicts == []


def test_fixed_spec_wins() -> None:
    """A tensor of a fixed range has it wherever the storage is the same."""
    assert Graph().solution({"a": SOFTMAX, "ab": OWN, "b": OWN}, "ab b") == ({"a ab b": SOFTMAX}, [])


@pytest.mark.parametrize(
    "spec",
    [
        NARROW,
        QSpec(dtype=DType.UINT8),
        QSpec(dtype=DType.INT8, timing=Timing.DYNAMIC),
        QSpec(dtype=DType.INT8, granularity=Granularity.PER_CHANNEL, axis=0),
        DerivedQSpec(sources=("a",), dtype=DType.INT8),
        SharedQSpec(source="a"),
    ],
    ids=["range", "dtype", "dynamic", "channels", "derived", "shared"],
)
def test_fixed_spec_serves_only_its_own_storage(spec: AnyQSpec) -> None:
    """Another range, dtype, granularity or timing is not overruled; where it is required, it conflicts."""
    assert Graph().solution({"a": SOFTMAX, "ab": spec}) == ({"a": SOFTMAX, "ab": spec}, [])
    assert Graph().solution({"a": SOFTMAX, "ab": spec}, "a ab") == ({}, ["a ab"])


def test_two_fixed_specs_are_not_joined() -> None:
    """A mere join never brings two fixed ranges together: both stay, and so does who would be between."""
    groups, conflicts = Graph().solution({"a": SOFTMAX, "ab": OWN, "ac": TANH})
    assert groups == {"a": SOFTMAX, "ab": OWN, "ac": TANH}
    assert conflicts == []


def test_two_fixed_specs_conflict_where_required() -> None:
    """A kernel that needs two fixed ranges equal cannot have them."""
    assert Graph().solution({"ac": SOFTMAX, "bc": TANH, "c": OWN}, "ac bc c") == ({}, ["ac bc c"])


def test_specs_that_differ_conflict_where_required() -> None:
    """Without a fixed range there is none to choose."""
    assert Graph().solution({"ac": OWN, "bc": NARROW}, "ac bc") == ({}, ["ac bc"])


def test_conflict_does_not_spread() -> None:
    """Only the points that the kernel needs equal are in conflict, not those joined by their tensor."""
    groups, conflicts = Graph().solution({"a": OWN, "ac": OWN, "bc": NARROW, "b": NARROW, "ad": OWN}, "ac bc")
    assert conflicts == ["ac bc"]
    assert groups == {"a ad": OWN, "b": NARROW}


def test_chain_of_requirements() -> None:
    """Requirements add up over several kernels, given once as an iterator."""
    graph = Graph()
    specs: dict[Point, AnyQSpec] = {graph.point(text): OWN for text in ("ab", "b", "bc", "c")}
    required = ((graph.point(x), graph.point(y)) for x, y in (("ab", "b"), ("bc", "c")))
    solved = solve_sharing(specs, required, graph.order)
    assert [graph.names(group) for group in solved.groups] == ["ab b bc c"]


SPECS: list[AnyQSpec] = [OWN, NARROW, SOFTMAX, TANH, attrs.evolve(SOFTMAX, quant_min=-127, zero_point=-127)]


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, AnyQSpec], list[str]]:
    """Points of up to six tensors with their specs, and tuples of points that kernels need equal."""
    texts = st.sampled_from([a + b for a in "abcdef" for b in ("", *"abcdef") if a != b])
    points = draw(st.lists(texts, min_size=1, max_size=14, unique=True))
    specs: dict[str, AnyQSpec] = {text: draw(st.sampled_from(SPECS)) for text in points}
    groups = st.lists(st.sampled_from(points), min_size=1, max_size=3, unique=True)
    return specs, [" ".join(group) for group in draw(st.lists(groups, max_size=4))]


@given(problem=problems(), seed=st.integers(0, 1000))
@settings(max_examples=200)
def test_order_of_the_input_does_not_matter(
    problem: tuple[dict[str, AnyQSpec], list[str]], seed: int
) -> None:
    """Every order of points and requirements gives the same groups, specs and conflicts, in one order."""
    specs, required = problem
    graph, generator = Graph(), random.Random(seed)
    mixed, turned = list(specs.items()), [" ".join(texts.split()[::-1]) for texts in required]
    generator.shuffle(mixed)
    generator.shuffle(turned)
    assert graph.solve(dict(mixed), *turned) == graph.solve(specs, *required)


@given(problem=problems())
@settings(max_examples=200)
def test_every_solution_is_one(problem: tuple[dict[str, AnyQSpec], list[str]]) -> None:
    """Each point is in one group; what is required is together; each group's spec is one of its own."""
    specs, required = problem
    graph = Graph()
    solved = graph.solve(specs, *required)
    everywhere = [*solved.groups, *solved.conflicts]
    assert sorted(map(repr, (p for group in everywhere for p in group))) == sorted(
        map(repr, map(graph.point, specs))
    )
    home = {point: group for group in everywhere for point in group}
    for texts in required:
        assert len({home[graph.point(text)] for text in texts.split()}) == 1
    wishes = {graph.point(text): spec for text, spec in specs.items()}
    for group, spec in zip(solved.groups, solved.specs):
        asked = {wishes[point] for point in group}
        fixed = {wish for wish in asked if isinstance(wish, FixedQSpec)}
        assert asked == {spec} if not fixed else fixed == {spec}


def test_work_is_linear_in_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times the tensors cost about twenty times the look-ups: no group is compared with all joins."""
    lookups = 0
    plain = Point.__hash__

    def counted(point: Point) -> int:
        nonlocal lookups
        lookups += 1
        return plain(point)

    monkeypatch.setattr(Point, "__hash__", counted)
    counts = []
    for length in (21, 401):
        graph = fx.Graph()
        nodes = [graph.placeholder(f"n{i}") for i in range(length)]
        order = {node: position for position, node in enumerate(nodes)}
        specs: dict[Point, AnyQSpec] = {}
        for first, second in itertools.pairwise(nodes):
            specs.update({Point(first): OWN, Point(first, second): OWN})
        lookups = 0
        assert len(solve_sharing(specs, [], order).groups) == length - 1
        counts.append(lookups)
    assert counts[1] <= 22 * counts[0]
