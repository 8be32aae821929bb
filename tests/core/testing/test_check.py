"""The suite over small backends: a sound one passes, and a fault fails a case of its area."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from junitparser import JUnitXml
from toy_backends import ROWS, backend, changed
from whole import WHOLE

from quanthost.api import (
    Match,
    QSpecChoice,
    Refusal,
    Request,
    RowMiss,
    Site,
    TableBackend,
    constraint,
    hookimpl,
    is_dequantize,
    is_quantize,
    operator_name,
)
from quanthost.errors import RequestError, TableError, UnknownBackendError
from quanthost.testing import Area, Conformance, Expectation, Outcome, check_backend
from quanthost.testing.proving.selection import Selection

pytestmark = pytest.mark.slow


def list_failures(conformance: Conformance) -> set[str]:
    return {case.id for case in conformance.failures()}


class WithoutReasons(TableBackend):
    """Does not say why a row did not hold."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        items = super().quanthost_annotate(graph_module, request, open_nodes)
        return [item for item in items if not isinstance(item, RowMiss)]


class CountingBackend(TableBackend):
    """Refuses every third match, counted over its whole life."""

    calls = 0

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        CountingBackend.calls += 1
        if CountingBackend.calls % 3 == 0:
            return Refusal(reason="the third")
        return super().quanthost_choose_qspecs(match, request)


class WritingBackend(TableBackend):
    """Writes into the metadata of the graph that it only has to read."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Request, open_nodes: frozenset[str]) -> Any:
        for node in graph_module.graph.nodes:
            node.meta["seen_by_toy"] = True
        return super().quanthost_annotate(graph_module, request, open_nodes)


def test_a_sound_backend() -> None:
    """No case fails in any area, and each area has cases that passed."""
    part = ("hooks/*", "networks/*", "persistence/*", "*/*/linear*")
    conformance = check_backend(backend(), only="*" if WHOLE else part)

    assert list_failures(conformance) == set()
    assert conformance.conforms
    assert {case.area for case in conformance.cases if case.outcome is Outcome.PASSED} == set(Area) - {
        Area.PLACEMENT
    }
    assert conformance.summary.startswith("quanthost conformance | toy: ")


@pytest.mark.parametrize(
    ("faulty", "only", "case_id"),
    [
        (backend(changed("linear", weight_axis=1)), "qspecs/axis/*", "qspecs/axis/linear/int8_static"),
        (backend(changed("permute", shares=())), "qspecs/sharing/*", "qspecs/sharing/permute/int8_static"),
        (backend(kind=WithoutReasons), "table/edge/relu/*", "table/edge/relu/rank_1_to_6/int8_static"),
        (backend(kind=CountingBackend), "hooks/twice/*", "hooks/twice/int8_static"),
        (backend(kind=WritingBackend), "hooks/unchanged/*", "hooks/unchanged/int8_static"),
    ],
    ids=["axis", "sharing", "reason", "state", "mutation"],
)
def test_a_fault(faulty: TableBackend, only: str, case_id: str) -> None:
    """The case that is about it fails, with the command to repeat it."""
    conformance = check_backend(faulty, only=only)

    assert case_id in list_failures(conformance)
    (case,) = (case for case in conformance.cases if case.id == case_id)
    assert case.rerun == f"quanthost check-backend toy --only {case_id}"
    assert case.message


def test_the_smallest_graph() -> None:
    """A failure shows the operator that it is about, with its shapes."""
    conformance = check_backend(backend(changed("linear", weight_axis=1)), only="qspecs/axis/linear/*")

    (case,) = conformance.failures()
    assert "aten.linear.default" in case.graph
    assert case.graph.startswith("inputs: float32 [3, 32]")


def test_expected_failures() -> None:
    """What is expected does not fail the run; what passes, or matches nothing, does."""
    faulty = backend(changed("permute", shares=()))
    expected = [
        Expectation(case="qspecs/sharing/permute/*", reason="it requantizes", link="https://example.org/1"),
        Expectation(case="qspecs/sharing/relu/*", reason="wrong"),
    ]

    conformance = check_backend(faulty, areas=["qspecs"], expected=expected)

    outcomes = {case.id: case.outcome for case in conformance.cases}
    assert outcomes["qspecs/sharing/permute/int8_static"] is Outcome.XFAILED
    assert outcomes["qspecs/sharing/relu/int8_static"] is Outcome.XPASSED
    assert not conformance.conforms


def test_what_requantizes() -> None:
    """A row that says so may give its result parameters of its own."""
    conformance = check_backend(
        backend(changed("permute", shares=(), requantizes=True)), only="qspecs/sharing/permute/*"
    )

    assert conformance.conforms


def _before(site: Site) -> str:
    """The operator that makes the input, beyond what quantizes it."""
    node = site.tensors("input")[0]
    while is_quantize(node) or is_dequantize(node):
        node = node.all_input_nodes[0]
    return operator_name(node) if node.op == "call_function" else node.op


@constraint("a permute directly before")
def _behind_permute(site: Site) -> str | None:
    return None if "permute" in _before(site) else f"behind {_before(site)}"


@constraint("no permute directly before")
def _not_behind_permute(site: Site) -> str | None:
    return f"behind {_before(site)}" if "permute" in _before(site) else None


def test_a_row_that_needs_another_before_it() -> None:
    """It is tried behind each other row: at work there, refused elsewhere, and varied."""
    rules = next(row for row in ROWS if row.name == "relu").constraints
    conformance = check_backend(
        backend(changed("relu", constraints=(*rules, _behind_permute))), only="*/*/relu/*"
    )

    outcomes = {case.id: case.outcome for case in conformance.cases}
    assert conformance.conforms
    for case in ("single/relu", "edge/relu/a_permute_directly_before", "edge/relu/tensors_are_float32"):
        assert outcomes[f"table/{case}/int8_static"] is Outcome.PASSED
    assert outcomes["numbers/qdq/relu/int8_static"] is Outcome.PASSED
    assert outcomes["qspecs/declared/relu/int8_static"] is Outcome.PASSED


@pytest.mark.parametrize(("full", "small"), [(False, False), (True, False), (False, True)])
def test_what_a_constraint_refuses_behind_another_row(
    full: bool, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full set looks for it, and the quick one of a small table; else that says that it did not."""
    monkeypatch.setattr(Selection, "is_small", small)
    rules = next(row for row in ROWS if row.name == "relu").constraints
    constrained = backend(changed("relu", constraints=(*rules, _not_behind_permute)))
    (case,) = check_backend(constrained, only="table/edge/relu/no_permute*", full=full).cases

    looks = full or small
    assert case.outcome is (Outcome.PASSED if looks else Outcome.SKIPPED)
    assert looks or "not reached" in case.message


def test_documents() -> None:
    """JSON and JUnit hold each case; the failure's text is in both."""
    conformance = check_backend(backend(changed("linear", weight_axis=1)), only="qspecs/*/linear/*")
    data = json.loads(conformance.to_json())
    suites = list(JUnitXml.fromstring(conformance.to_junit().encode()))

    failed = [case for case in data["cases"] if case["outcome"] == "failed"]
    assert any("output channels" in case["message"] for case in failed)
    assert [suite.failures for suite in suites] == [len(failed)]
    assert suites[0].tests == len(data["cases"])


def test_rows_that_always_tie() -> None:
    """A table that contradicts itself is refused as it is loaded, with both rows."""
    twin = attrs.evolve(ROWS[1], name="relu_again")

    with pytest.raises(TableError, match="'relu' and 'relu_again' have one pattern"):
        backend((*ROWS, twin))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"areas": ["speed"]}, RequestError, "the area 'speed'\n  needed: one of hooks, table"),
        ({"only": "table/single/nothing/x"}, RequestError, "no case table/single/nothing/x"),
        ({"jobs": 0}, RequestError, "jobs=0"),
        ({"jobs": True}, RequestError, "jobs=True"),
        ({"jobs": 2}, RequestError, "jobs=2 for a plugin object"),
        ({"expected": "/no/such/file.toml"}, RequestError, "cannot be read"),
    ],
)
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """What there is, and what to do."""
    with pytest.raises(error, match=message):
        check_backend(backend(), **arguments)


def test_an_unknown_backend() -> None:
    """The nearest names."""
    with pytest.raises(UnknownBackendError, match="the backend 'xnnpack_lik'"):
        check_backend("xnnpack_lik")
