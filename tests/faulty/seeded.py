"""A backend with one realistic fault, and the area of the suite that must report it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from quanthost.testing import Area

__all__ = ["SeededFault"]


@attrs.frozen(kw_only=True)
class SeededFault:
    """``fault`` is one sentence. ``make`` returns the plugin, or the name of one that it writes to a folder.

    ``only`` selects some of the area's cases, so that a test is quick.
    """

    name: str
    fault: str
    area: Area
    make: Callable[[Path], object]
    only: tuple[str, ...]
