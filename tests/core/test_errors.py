"""The error tree: message, attributes, and the builtin that each error is caught as."""

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
    """What was seen comes first, then what was needed, where, and what to do."""
    error = TableError(
        "two rows named 'conv'", needed="each name once", where="row conv", remedy="rename one of them"
    )
    assert str(error) == (
        "two rows named 'conv'\n  needed: each name once\n  where:  row conv\n  to do:  rename one of them"
    )


def test_place_is_made_of_stage_backend_and_node() -> None:
    """Without a place in words, the attributes name it; unset ones are left out."""
    parts = {"needed": "n", "remedy": "r"}
    assert QuanthostError("s", stage="prepare", plugin="npu", node="add_1", **parts).where == (
        "stage prepare, backend npu, node add_1"
    )
    assert QuanthostError("s", plugin="npu", **parts).where == "backend npu"
    assert "where" not in str(QuanthostError("s", **parts))


def test_given_place_wins() -> None:
    """A place in words replaces the one made of the attributes, which stay readable."""
    error = QuanthostError("s", needed="n", remedy="r", where="model.pte", stage="lower", node="add")
    assert error.where == "model.pte"
    assert (error.stage, error.node) == ("lower", "add")


@pytest.mark.parametrize("value", [0, False, "", ()], ids=repr)
def test_falsy_value_is_kept(value: object) -> None:
    """An offending value that is falsy is not taken for an unset one."""
    assert QuanthostError("s", needed="n", remedy="r", value=value).value is value


def test_attributes_are_kept() -> None:
    """Each part and each attribute can be read from the error; what was not given is ``None``."""
    error = QuanthostError("seen", needed="needed", remedy="remedy", plugin="npu", value=3)
    assert (error.seen, error.needed, error.remedy) == ("seen", "needed", "remedy")
    assert (error.plugin, error.stage, error.node, error.value) == ("npu", None, None, 3)


def test_every_error_is_listed_here() -> None:
    """A new error has to say below which builtin it is caught as."""
    assert sorted(PROMISED) == errors.__all__


@pytest.mark.parametrize("name", errors.__all__)
def test_error_is_caught_as_its_builtin(name: str) -> None:
    """Each error is a ``QuanthostError`` and what its class promises, and keeps the four-part message."""
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
    made = remake(error)
    assert type(made) is type(error)
    assert str(made) == str(error)
    assert made.args == error.args
    assert vars(made) == vars(error)


class OwnError(errors.LoweringError):
    """An error of a plugin, made of other arguments."""

    def __init__(self, operator: str) -> None:
        super().__init__(f"the operator {operator}", needed="another", remedy="rewrite it", node=operator)


def test_errors_of_plugins_leave_a_process_whole() -> None:
    """Whatever their constructor takes."""
    made = pickle.loads(pickle.dumps(OwnError("add")))
    assert type(made) is OwnError
    assert (str(made), made.node) == (str(OwnError("add")), "add")


def test_blocked_backend_is_no_error_of_the_system() -> None:
    """The permission error carries our message and no number of the operating system."""
    error = BlockedBackendError("the backend 'npu'", needed="an allowed one", remedy="allow it", plugin="npu")
    assert error.errno is None
    assert str(error).startswith("the backend 'npu'")
