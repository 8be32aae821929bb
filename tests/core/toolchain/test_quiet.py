"""What the toolchain says of itself is hidden; what concerns the user's model is not."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import quanthost
from quanthost.toolchain.quiet import native_messages, quiet, quiet_imports

LOGGERS = (None, "torchao", "executorch", "torch.export", "torch.ao.quantization")


def warn_from(module: str, message: str, category: type[Warning]) -> None:
    """A warning that is attributed to a module."""
    warnings.warn_explicit(message, category, f"{module}.py", 1, module=module)


@pytest.mark.parametrize(
    ("module", "message", "category", "passes"),
    [
        ("users.model", "sizes differ", UserWarning, True),
        ("users.model", "will change", FutureWarning, True),
        ("users.model", "is old", DeprecationWarning, True),
        ("users.model", "overflow", RuntimeWarning, True),
        ("torches", "will change", FutureWarning, True),
        ("torch.functional", "casting complex values", UserWarning, True),
        ("torch.export.unflatten", "will change", FutureWarning, False),
        ("copyreg", "LeafSpec", FutureWarning, False),
        ("torchao.quantization", "anything", UserWarning, False),
        ("executorch.exir", "anything", RuntimeWarning, False),
        ("users.model", "This API is experimental and may change", UserWarning, False),
        ("torch.ao", "must run observer before calling calculate_qparams", UserWarning, False),
    ],
)
def test_warnings(module: str, message: str, category: type[Warning], passes: bool) -> None:
    """By who gives it and what it says."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with quiet():
            warn_from(module, message, category)
    assert [str(each.message) for each in heard] == ([message] if passes else [])


def test_filters_are_put_back() -> None:
    """Outside, the same warning is heard again, also after an error inside."""
    before = list(warnings.filters)
    with pytest.raises(KeyError), quiet():
        raise KeyError
    assert warnings.filters == before


@pytest.mark.parametrize("name", LOGGERS, ids=str)
def test_loggers(name: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """Remarks are not logged, errors are; levels are what they were afterwards."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with quiet():
            logger.warning("a remark")
            logger.error("an error")
        assert logger.level == logging.INFO
        logger.warning("after")
    finally:
        logger.setLevel(level)
    assert [record.message for record in caplog.records] == ["an error", "after"]


def test_a_model_s_own_warning_reaches_the_user() -> None:
    """Of each category, while it is traced."""

    class Warns(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for category in (UserWarning, FutureWarning, DeprecationWarning):
                warnings.warn(f"a {category.__name__}", category, stacklevel=1)
            return x * 2

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        quanthost.capture(Warns(), torch.ones(2))
    assert {str(each.message) for each in heard} >= {
        "a UserWarning",
        "a FutureWarning",
        "a DeprecationWarning",
    }


def test_imports_are_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged while a library is imported is not heard, whichever logger it has."""
    before = logging.root.manager.disable
    with quiet_imports():
        logging.getLogger("some.library").warning("no such GPU")
    logging.getLogger("some.library").warning("after")
    assert [record.message for record in caplog.records] == ["after"]
    assert logging.root.manager.disable == before


def test_a_limit_that_was_set_stays(caplog: pytest.LogCaptureFixture) -> None:
    """Who has disabled logging finds it disabled afterwards."""
    logging.disable(logging.ERROR)
    try:
        with quiet_imports():
            pass
        assert logging.root.manager.disable == logging.ERROR
    finally:
        logging.disable(logging.NOTSET)


CHATTER = b"[cpuinfo_utils.cpp:71] Reading file /sys/devices/soc0/image_version\n"


def say(text: bytes) -> None:
    """As a native library does, past Python's streams."""
    os.write(2, text)


def test_messages_of_native_libraries_are_collected(capfd: pytest.CaptureFixture[str]) -> None:
    """They are handed over instead of shown, without what a library always says."""
    with native_messages() as messages:
        say(CHATTER + b"kernel missing\n")
        assert messages() == "kernel missing"
        say(b"more\n")
        assert messages() == "kernel missing\nmore"
    assert capfd.readouterr().err == ""


def test_messages_that_nobody_asked_for_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost but the chatter."""
    with native_messages():
        say(CHATTER + b"careful\n")
    assert capfd.readouterr().err == "careful\n"


def test_messages_on_python_s_stream_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook ``sys.stderr`` is not the process's; a library may write to either, in turn."""
    notebook = io.StringIO()
    monkeypatch.setattr(sys, "stderr", notebook)
    with native_messages() as messages:
        say(b"one\n")
        print("two", file=sys.stderr)
        say(b"three\n")
        assert messages() == "one\ntwo\nthree"
    assert notebook.getvalue() == ""
    assert sys.stderr is notebook


def test_standard_error_is_put_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """What was said before the error is shown, and so is what is said after it."""

    def fail() -> None:
        with native_messages():
            say(b"before\n")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    sys.stderr.write("after\n")
    say(b"native\n")
    assert sorted(capfd.readouterr().err.split()) == ["after", "before", "native"]


def test_bytes_that_are_no_text(capfd: pytest.CaptureFixture[str]) -> None:
    """A library may write anything."""
    with native_messages() as messages:
        say(b"\xff\xfe\n")
        said: Any = messages()
    assert said == "\ufffd\ufffd"
    assert capfd.readouterr().err == ""
