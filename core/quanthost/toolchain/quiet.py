"""Which messages of the toolchain reach the user: those that nobody can act on do not."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]

# (category, message) of warnings that concern the toolchain's own code, not the user's
_NOISE: tuple[tuple[type[Warning], str], ...] = (
    (UserWarning, r".*(API is experimental|erase_node|is deprecated and will be removed).*"),
    (UserWarning, r".*You are using a NumPy version.*"),
    (UserWarning, r".*must run observer before calling calculate_qparams.*"),
    (FutureWarning, r".*"),
    (DeprecationWarning, r".*"),
)
_LOGGERS = (
    "root",
    "torch.ao.quantization",
    "torchao",
    "executorch",
    "torch.fx",
    "torch.export",
    "torch._export",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the toolchain's remarks about itself; errors and warnings of the user's model pass."""
    loggers = [logging.getLogger(None if name == "root" else name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for category, message in _NOISE:
            warnings.filterwarnings("ignore", message=message, category=category)
        warnings.filterwarnings("ignore", module=r"(torchao|executorch|copyreg|coremltools)(\..*)?")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
