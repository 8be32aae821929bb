"""The conformance suite for backends, as the tests of a plugin import it."""

from __future__ import annotations

from quanthost.testing.cases.samples import Branches
from quanthost.testing.check import check_backend
from quanthost.testing.conformance import Conformance
from quanthost.testing.expectations import Expectation, Expectations, Tolerance
from quanthost.testing.results import Area, CaseResult, Outcome

__all__ = [
    "Area",
    "Branches",
    "CaseResult",
    "Conformance",
    "Expectation",
    "Expectations",
    "Outcome",
    "Tolerance",
    "check_backend",
]
