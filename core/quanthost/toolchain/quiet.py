"""Hides messages of the toolchain that users cannot act on."""

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

__all__ = [
    "error_logs_disabled",
    "import_quietly",
    "native_messages",
    "quiet",
    "quiet_imports",
    "unloadable_kernels_hidden",
]

# modules whose warnings concern the toolchain's own code, not the user's
_TOOLCHAIN_MODULES = r"(torch|torchao|executorch|functorch|copyreg|coremltools|quanthost)(\..*)?$"
# (category, message, module)
_NOISE: tuple[tuple[type[Warning], str, str], ...] = (
    (UserWarning, r".*(API is experimental|erase_node|is deprecated and will be removed).*", ""),
    (UserWarning, r".*must run observer before calling calculate_qparams.*", ""),
    (FutureWarning, "", _TOOLCHAIN_MODULES),
    (DeprecationWarning, "", _TOOLCHAIN_MODULES),
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
_ERROR_LOGGERS = ("torch._subclasses.fake_tensor", "torch.export._trace")
# lines about the machine that the runtime's libraries write each time they start
_STARTUP_LINE = re.compile(r"^\[cpuinfo_utils\.cpp:\d+\]")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the toolchain's messages about itself, but no errors, and no warnings about the user's model."""
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
def error_logs_disabled() -> Iterator[None]:
    """Disable the loggers that log, with a stack, errors that torch also raises."""
    loggers = [logging.getLogger(name) for name in _ERROR_LOGGERS]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before):
            logger.disabled = disabled


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Hide what torch, torchao and executorch log on import, such as kernels for other machines."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet():
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def unloadable_kernels_hidden() -> Iterator[None]:
    """Hide that torchao cannot load its kernels for other machines, whoever imports it."""
    logger = logging.getLogger("torchao")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def import_quietly(module: str) -> None:
    """Import a module and its dependencies, to warm up a worker process."""
    with quiet_imports():
        importlib.import_module(module)


@contextlib.contextmanager
def native_messages() -> Iterator[Callable[[], str]]:
    """Collect what native libraries write to the process's standard error, or to Python's.

    Yields a function that returns the text so far, without startup lines. If nobody calls it, the text is
    written to standard error at the end.
    """
    sys.stderr.flush()
    was_read = False
    with tempfile.TemporaryFile() as stream:

        def read() -> str:
            stream.seek(0)
            lines = stream.read().decode(errors="replace").splitlines()
            return "\n".join(line for line in lines if not _STARTUP_LINE.match(line))

        def read_and_note() -> str:
            nonlocal was_read
            was_read = True
            return read()

        before = os.dup(2)
        os.dup2(stream.fileno(), 2)
        # the runtime writes a part to sys.stderr, which in notebooks and tests is not the process's
        wrapper = os.fdopen(os.dup(stream.fileno()), "w", buffering=1, errors="replace")
        try:
            with wrapper, contextlib.redirect_stderr(wrapper):
                yield read_and_note
        finally:
            os.dup2(before, 2)
            os.close(before)
            if not was_read and (rest := read()):
                sys.stderr.write(rest + "\n")
