"""Tests of the plugin API's version range."""

import pytest
from packaging.specifiers import InvalidSpecifier

from quanthost.host.api_range import API_VERSION, admits


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        (">=1,<2", True),
        (f"=={API_VERSION}", True),
        (">=1.1", True),
        ("<=1.0", False),
        (">=1.2", False),
        (">=2,<3", False),
        ("<1", False),
    ],
)
def test_range_decides(api: str, expected: bool) -> None:
    """A range admits the host exactly where it contains the host's version."""
    assert admits(api) is expected


def test_text_that_is_no_range() -> None:
    """A bare number is not a PEP 440 range."""
    with pytest.raises(InvalidSpecifier):
        admits("1")
