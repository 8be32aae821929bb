"""Tests of the plugin API's version range."""

import pytest
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from quanthost.host import api_range
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


@pytest.mark.parametrize("version", ["0.9", "1.0", "1.1", "1.10", "2.0", "10.2"])
@pytest.mark.parametrize("low", ["0.9", "1", "1.1", "1.9", "2"])
@pytest.mark.parametrize("high", ["1", "1.1", " 1.2 ", "2", "11"])
def test_plain_ranges_are_those_of_packaging(
    low: str, high: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranges that are read here contain what ``packaging`` says they contain."""
    monkeypatch.setattr(api_range, "API_VERSION", version)
    assert admits(f">={low},<{high}") is SpecifierSet(f">={low},<{high}").contains(version)


def test_text_that_is_no_range() -> None:
    """A bare number is not a PEP 440 range."""
    with pytest.raises(InvalidSpecifier):
        admits("1")
