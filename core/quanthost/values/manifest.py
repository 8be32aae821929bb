"""``Manifest``: the static description of a backend, which is read without importing its plugin."""

from __future__ import annotations

import attrs

from quanthost.values import checks

__all__ = ["Manifest"]

_TEXT = checks.kind(str)


@attrs.frozen(kw_only=True)
class Manifest:
    """The static manifest, ``quanthost.toml`` in the plugin's package.

    ``api`` is a version range of the host's plugin API (``">=1,<2"``). ``requires`` are the importable
    modules that the backend needs. ``runtime`` is the ExecuTorch backend that executes its programs
    (empty: portable kernels).
    """

    name: str = attrs.field(validator=checks.identifier())
    summary: str = attrs.field(validator=_TEXT)
    api: str = attrs.field(validator=_TEXT)
    recipes: tuple[str, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.identifier())
    )
    requires: tuple[str, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(_TEXT)
    )
    runtime: str = attrs.field(default="", validator=_TEXT)
