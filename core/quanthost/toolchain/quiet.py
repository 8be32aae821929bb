"""Which messages of the toolchain reach the user: those that nobody can act on do not."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

__all__ = ["import_quietly", "native_messages", "quiet", "quiet_imports"]

# (category, message, module) of warnings that concern the toolchain's own code, not the user's
_ITS_OWN = r"(torch|torchao|executorch|functorch|copyreg|coremltools|quanthost)(\..*)?$"
_NOISE: tuple[tuple[type[Warning], str, str], ...] = (
    (UserWarning, r".*(API is experimental|erase_node|is deprecated and will be removed).*", ""),
    (UserWarning, r".*must run observer before calling calculate_qparams.*", ""),
    (FutureWarning, "", _ITS_OWN),
    (DeprecationWarning, "", _ITS_OWN),
    (Warning, "", r"(torchao|executorch|copyreg|coremltools)(\..*)?$"),
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
# what the runtime's libraries say of the machine each time they start
_CHATTER = re.compile(r"^\[cpuinfo_utils\.cpp:\d+\]")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the toolchain's remarks about itself; errors and warnings of the user's model pass."""
    loggers = [logging.getLogger(None if name == "root" else name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for category, message, module in _NOISE:
            warnings.filterwarnings("ignore", message=message, category=category, module=module)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Hide what torch, torchao and executorch log while they are imported: kernels of other machines."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet():
            yield
    finally:
        logging.disable(before)


def import_quietly(module: str) -> None:
    """Import a module with all that it needs: what another process does before its first work."""
    with quiet_imports():
        importlib.import_module(module)


@contextlib.contextmanager
def native_messages() -> Iterator[Callable[[], str]]:
    """Collect what native libraries write to the process's standard error, or to Python's.

    Gives a function that returns the text so far, without chatter. Where nobody asked for it, it is
    written through at the end, so that nothing is lost.
    """
    sys.stderr.flush()
    asked = False
    with tempfile.TemporaryFile() as held:

        def read() -> str:
            held.seek(0)
            lines = held.read().decode(errors="replace").splitlines()
            return "\n".join(line for line in lines if not _CHATTER.match(line))

        def taken() -> str:
            nonlocal asked
            asked = True
            return read()

        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        # the runtime writes part of it to sys.stderr, which need not be the process's (notebooks, tests)
        python = os.fdopen(os.dup(held.fileno()), "w", buffering=1, errors="replace")
        try:
            with python, contextlib.redirect_stderr(python):
                yield taken
        finally:
            os.dup2(before, 2)
            os.close(before)
            if not asked and (rest := read()):
                sys.stderr.write(rest + "\n")
