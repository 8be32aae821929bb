"""What a faulty backend is: one realistic fault, and the area of the suite that must name it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from quanthost.testing import Area

__all__ = ["Faulty"]


@attrs.frozen(kw_only=True)
class Faulty:
    """``fault`` is one sentence; ``make`` gives the plugin, or writes one into a folder and gives its name.

    ``only`` narrows the suite to some of the area's cases, so that a test of it is quick.
    """

    name: str
    fault: str
    area: Area
    make: Callable[[Path], object]
    only: tuple[str, ...]
