"""Writes the results of the suite as JUnit XML, which CI systems show."""

from __future__ import annotations

from collections.abc import Sequence

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from quanthost.testing.results import Area, CaseResult, Outcome

__all__ = ["write_junit"]


def write_junit(backend: str, cases: Sequence[CaseResult], problems: Sequence[str]) -> str:
    """The whole document, declared as UTF-8; ``problems`` are wrong expectations."""
    xml = JUnitXml(f"quanthost conformance of {backend}")
    for area in Area:
        tests = [_build_test(backend, case) for case in cases if case.area is area]
        if tests:
            suite = TestSuite(f"{backend}.{area.value}")
            suite.add_testcases(tests)
            xml.add_testsuite(suite)
    if problems:
        suite = TestSuite(f"{backend}.expectations")
        for problem in problems:
            test = TestCase(problem, classname=f"{backend}.expectations")
            test.result = [Failure(problem)]
            suite.add_testcase(test)
        xml.add_testsuite(suite)
    text: bytes = xml.tostring()  # type: ignore[no-untyped-call]  # junitparser is partly typed
    return text.decode("utf-8")


def _build_test(backend: str, case: CaseResult) -> TestCase:
    test = TestCase(case.id, classname=f"{backend}.{case.area.value}", time=case.seconds)
    if case.outcome.is_bad:
        failure = Failure(f"{case.outcome.value}: {case.must}", type_=case.area.value)
        failure.text = _drop_control("\n\n".join(filter(None, (case.message, case.graph, case.rerun))))
        test.result = [failure]
    elif case.outcome in (Outcome.SKIPPED, Outcome.XFAILED):
        test.result = [Skipped(_drop_control(f"{case.outcome.value}: {case.message}"))]
    return test


def _drop_control(text: str) -> str:
    """The text without the control characters that XML cannot hold."""
    return "".join(c for c in text if c in "\t\n" or ord(c) >= 32)
