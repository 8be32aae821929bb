"""``quanthost --version``: the version of the installed distribution."""

from __future__ import annotations

from quanthost.cli.output import write_text
from quanthost.host.dist_info import version

__all__ = ["show_version"]


def show_version() -> None:
    """Write the name and the version."""
    write_text(f"quanthost {version('quanthost')}")
