"""What plugins import: every name that is exported exists, once."""

from __future__ import annotations

import quanthost.api


def test_each_exported_name_exists() -> None:
    """No name is listed twice, and each is there."""
    names = quanthost.api.__all__

    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(quanthost.api, name)] == []
    assert {"TableBackend", "SupportTable", "hookimpl", "compile_portable"} <= set(names)
