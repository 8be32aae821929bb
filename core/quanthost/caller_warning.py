"""``QuanthostWarning``, given at the line of the user's code that called this package."""

from __future__ import annotations

import sys
import types
import warnings

__all__ = ["QuanthostWarning", "warn_caller"]


class QuanthostWarning(UserWarning):
    """What was asked is done, and is probably not what was meant: the message says why, and what to do."""


def warn_caller(text: str) -> None:
    """Warn at the line that called this package."""
    frame, level = sys._getframe(), 1
    # a stage may have a context manager as its decorator
    while frame.f_back is not None and _is_own(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, QuanthostWarning, stacklevel=level)


def _is_own(frame: types.FrameType) -> bool:
    name = str(frame.f_globals.get("__name__"))
    return name.startswith("quanthost.") or name == "contextlib"
