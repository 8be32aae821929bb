"""``Manifest``: checked fields and defaults."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import Manifest

MANIFEST = Manifest(name="npu", summary="An NPU", api=">=1,<2", recipes=["int8_static"])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "My NPU"}, "the name 'My NPU'\n.*\n.*where:  Manifest.name"),
        ({"summary": None}, "where:  Manifest.summary"),
        ({"api": 1}, "1 of type int\n.*needed: str"),
        ({"recipes": "int8_static"}, "needed: a tuple\n.*where:  Manifest.recipes"),
        ({"recipes": ["int8-static"]}, "the name 'int8-static'"),
        ({"requires": [3]}, "where:  Manifest.requires"),
        ({"runtime": None}, "where:  Manifest.runtime"),
    ],
)
def test_manifest_that_does_not_fit(fields: dict[str, Any], problem: str) -> None:
    """Each field is checked, in a changed copy too."""
    with pytest.raises(ValueCheckError, match=problem):
        attrs.evolve(MANIFEST, **fields)


def test_manifest_defaults() -> None:
    """Requirements and delegate are optional."""
    assert (MANIFEST.requires, MANIFEST.runtime) == ((), "")
