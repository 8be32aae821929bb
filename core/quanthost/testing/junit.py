"""A run of the suite as JUnit XML, which CI systems show."""

from __future__ import annotations

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from quanthost.testing.results import Area, CaseResult, Conformance, Outcome

__all__ = ["document"]


def document(conformance: Conformance) -> str:
    """The whole document, UTF-8 declared."""
    xml = JUnitXml(f"quanthost conformance of {conformance.backend}")
    for area in Area:
        cases = [case for case in conformance.cases if case.area is area]
        if not cases:
            continue
        suite = TestSuite(f"{conformance.backend}.{area.value}")
        suite.add_testcases([_case(conformance.backend, case) for case in cases])
        xml.add_testsuite(suite)
    if conformance.problems:
        suite = TestSuite(f"{conformance.backend}.expectations")
        for problem in conformance.problems:
            made = TestCase(problem, classname=f"{conformance.backend}.expectations")
            made.result = [Failure(problem)]
            suite.add_testcase(made)
        xml.add_testsuite(suite)
    text: bytes = xml.tostring()  # type: ignore[no-untyped-call]  # junitparser is partly typed
    return text.decode("utf-8")


def _case(backend: str, case: CaseResult) -> TestCase:
    made = TestCase(case.id, classname=f"{backend}.{case.area.value}", time=case.seconds)
    if case.outcome.is_bad:
        failure = Failure(f"{case.outcome.value}: {case.must}", type_=case.area.value)
        failure.text = _xml_text("\n\n".join(filter(None, (case.message, case.graph, case.rerun))))
        made.result = [failure]
    elif case.outcome in (Outcome.SKIPPED, Outcome.XFAILED):
        made.result = [Skipped(_xml_text(f"{case.outcome.value}: {case.message}"))]
    return made


def _xml_text(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c for c in text if c in "\t\n" or ord(c) >= 32)
