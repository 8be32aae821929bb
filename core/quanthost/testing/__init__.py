"""The conformance suite for backends, as the tests of a plugin import it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quanthost.exports import lazy_exports

if TYPE_CHECKING:
    from quanthost.testing.cases.samples import Branches as Branches
    from quanthost.testing.check import check_backend as check_backend
    from quanthost.testing.conformance import Conformance as Conformance
    from quanthost.testing.expectations import Expectation as Expectation
    from quanthost.testing.expectations import Expectations as Expectations
    from quanthost.testing.expectations import Tolerance as Tolerance
    from quanthost.testing.results import Area as Area
    from quanthost.testing.results import CaseResult as CaseResult
    from quanthost.testing.results import Outcome as Outcome
else:
    __getattr__, __dir__ = lazy_exports(__name__)
