"""The pytest plugin: ``pytest --quanthost-backend NAME`` runs each conformance case as a test.

Every pytest run in an environment with quanthost loads it. Without the option it does nothing, and imports
nothing of the toolchain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from quanthost.testing.conformance import Conformance
    from quanthost.testing.results import CaseResult

__all__ = ["pytest_addoption", "pytest_configure"]

_NAME = "quanthost-conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("quanthost", "conformance of a quanthost backend")
    group.addoption(
        "--quanthost-backend", metavar="NAME", help="run the conformance suite of quanthost over this backend"
    )
    group.addoption(
        "--quanthost-full", action="store_true", help="the full set of cases instead of the quick one"
    )
    group.addoption(
        "--quanthost-expected", metavar="FILE.toml", help="failures that are expected, each with its reason"
    )
    group.addoption(
        "--quanthost-only", metavar="ID", action="append", help="only this case, or glob over ids; repeatable"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--quanthost-backend"):
        config.pluginmanager.register(_ConformancePlugin(), _NAME)


class _ConformancePlugin:
    """Adds the cases to the collected tests; one call of the suite runs all before the first is reported."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        backend = config.getoption("--quanthost-backend")
        if hasattr(config, "workerinput"):
            raise pytest.UsageError(
                "--quanthost-backend with -n: the cases share programs, run them in one process"
            )
        collector: Any = _CaseCollector.from_parent(session, name=f"conformance[{backend}]", nodeid=_NAME)
        items.extend(collector.collect())


class _CaseCollector(pytest.Collector):
    def collect(self) -> Iterator[pytest.Item]:
        from quanthost.errors import QuanthostError

        try:
            conformance = self._check()
        except QuanthostError as error:
            raise pytest.UsageError(str(error)) from error
        for case in conformance.cases:
            yield _CaseItem.from_parent(self, name=case.id, case=case)
        for problem in conformance.problems:
            yield _CaseItem.from_parent(self, name=problem, case=None, problem=problem)

    def _check(self) -> Conformance:
        from quanthost.host.discovery import find

        option = self.config.getoption
        # before the toolchain is imported, which takes seconds
        find(option("--quanthost-backend"))
        from quanthost.testing.check import check_backend

        return check_backend(
            option("--quanthost-backend"), full=option("--quanthost-full"),
            expected=option("--quanthost-expected"), only=option("--quanthost-only"), jobs=None,
        )  # fmt: skip


class _CaseItem(pytest.Item):
    def __init__(self, *, case: CaseResult | None, problem: str = "", **more: Any) -> None:
        super().__init__(**more)
        self._case, self._problem = case, problem

    def runtest(self) -> None:
        from quanthost.testing.results import Outcome
        from quanthost.testing.results_text import describe_failure

        if self._case is None:
            raise _CaseFailure(self._problem)
        if self._case.outcome is Outcome.SKIPPED:
            pytest.skip(self._case.message)
        if self._case.outcome is Outcome.XFAILED:
            pytest.xfail(self._case.message)
        if self._case.outcome.is_bad:
            raise _CaseFailure(describe_failure(self._case))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        return (
            str(excinfo.value) if isinstance(excinfo.value, _CaseFailure) else super().repr_failure(excinfo)
        )

    def reportinfo(self) -> tuple[str, None, str]:
        return _NAME, None, self.name


class _CaseFailure(Exception):
    """A case that failed; its text is all that pytest shows."""
