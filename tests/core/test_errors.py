"""The error tree: messages, attributes, and the builtin base of each error."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from quanthost import errors
from quanthost.errors import BlockedBackendError, QuanthostError, TableError

PROMISED: dict[str, tuple[type[Exception], ...]] = {
    "ApiVersionError": (errors.DiscoveryError, RuntimeError),
    "BackendLoadError": (errors.DiscoveryError, ImportError),
    "BlockedBackendError": (errors.DiscoveryError, PermissionError),
    "CalibrationError": (ValueError,),
    "CaptureError": (RuntimeError,),
    "ConversionError": (RuntimeError,),
    "DiscoveryError": (QuanthostError,),
    "DuplicateBackendError": (errors.DiscoveryError, LookupError),
    "EmptyProgramError": (errors.LoweringError, RuntimeError),
    "HookError": (TypeError,),
    "InputError": (ValueError,),
    "LoweringError": (RuntimeError,),
    "ManifestError": (errors.DiscoveryError, ValueError),
    "NoDataError": (errors.CalibrationError, ValueError),
    "OverrideError": (errors.RequestError, ValueError),
    "ProgramError": (RuntimeError,),
    "QuanthostError": (Exception,),
    "RequestError": (ValueError,),
    "StatisticsError": (errors.CalibrationError, ValueError),
    "TableError": (ValueError,),
    "UnknownBackendError": (errors.DiscoveryError, LookupError),
    "ValueCheckError": (ValueError,),
}


def test_message_has_all_four_parts_in_order() -> None:
    """The message has what was seen, what was needed, where, and what to do."""
    error = TableError(
        "two rows named 'conv'", needed="each name once", where="row conv", remedy="rename one of them"
    )
    assert str(error) == (
        "two rows named 'conv'\n  needed: each name once\n  where:  row conv\n  to do:  rename one of them"
    )


def test_place_is_made_of_stage_backend_and_node() -> None:
    """Without a place in words, the set attributes name it."""
    parts = {"needed": "n", "remedy": "r"}
    assert QuanthostError("s", stage="prepare", plugin="npu", node="add_1", **parts).where == (
        "stage prepare, backend npu, node add_1"
    )
    assert QuanthostError("s", plugin="npu", **parts).where == "backend npu"
    assert "where" not in str(QuanthostError("s", **parts))


def test_given_place_wins() -> None:
    """A place in words replaces that of the attributes, which stay readable."""
    error = QuanthostError("s", needed="n", remedy="r", where="model.pte", stage="lower", node="add")
    assert error.where == "model.pte"
    assert (error.stage, error.node) == ("lower", "add")


@pytest.mark.parametrize("value", [0, False, "", ()], ids=repr)
def test_falsy_value_is_kept(value: object) -> None:
    """A falsy offending value is not treated as unset."""
    assert QuanthostError("s", needed="n", remedy="r", value=value).value is value


def test_attributes_are_kept() -> None:
    """Each part and attribute can be read from the error; unset ones are ``None``."""
    error = QuanthostError("seen", needed="needed", remedy="remedy", plugin="npu", value=3)
    assert (error.seen, error.needed, error.remedy) == ("seen", "needed", "remedy")
    assert (error.plugin, error.stage, error.node, error.value) == ("npu", None, None, 3)


def test_every_error_is_listed_here() -> None:
    """Each error class has an entry with its builtin below."""
    assert sorted(PROMISED) == errors.__all__


@pytest.mark.parametrize("name", errors.__all__)
def test_error_is_caught_as_its_builtin(name: str) -> None:
    """Each error is a ``QuanthostError`` and its builtin, and keeps the four-part message."""
    kind = getattr(errors, name)
    error = kind("seen", needed="needed", remedy="remedy", plugin="npu")
    assert isinstance(error, QuanthostError)
    for promised in PROMISED[name]:
        assert isinstance(error, promised)
    assert str(error) == "seen\n  needed: needed\n  where:  backend npu\n  to do:  remedy"


ROUNDS: dict[str, Callable[[QuanthostError], QuanthostError]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "oldest pickle": lambda error: pickle.loads(pickle.dumps(error, protocol=0)),
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
}


@pytest.mark.parametrize("remake", ROUNDS.values(), ids=ROUNDS.keys())
@pytest.mark.parametrize("name", errors.__all__)
def test_errors_leave_a_process_whole(name: str, remake: Callable[[QuanthostError], QuanthostError]) -> None:
    """Class, message and attributes are the same in another process, and in a copy."""
    error = getattr(errors, name)(
        "seen", needed="needed", remedy="remedy", where="there", plugin="npu", stage="lower", node="add",
        value=(1, "two"),
    )  # fmt: skip
    error.add_note("while lowering")
    copied = remake(error)
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert copied.args == error.args
    assert vars(copied) == vars(error)


class OwnError(errors.LoweringError):
    """An error of a plugin with another constructor."""

    def __init__(self, operator: str) -> None:
        super().__init__(f"the operator {operator}", needed="another", remedy="rewrite it", node=operator)


def test_errors_of_plugins_leave_a_process_whole() -> None:
    """Errors with any constructor survive pickling and copying."""
    copied = pickle.loads(pickle.dumps(OwnError("add")))
    assert type(copied) is OwnError
    assert (str(copied), copied.node) == (str(OwnError("add")), "add")


def test_blocked_backend_is_no_error_of_the_system() -> None:
    """The permission error has our message and no errno."""
    error = BlockedBackendError("the backend 'npu'", needed="an allowed one", remedy="allow it", plugin="npu")
    assert error.errno is None
    assert str(error).startswith("the backend 'npu'")
