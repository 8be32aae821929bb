"""The user's functions are found by module and by file, and their faults are told from ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from quanthost.cli.references import Reference, is_reference
from quanthost.cli.usage import UsageError
from quanthost.errors import QuanthostError, RequestError

_CODE = """
import helper
import dataclasses

@dataclasses.dataclass
class Settings:
    size: int = 3

count = 0
def build():
    global count
    count += 1
    return helper.value, count, Settings()
number = 7
def fail():
    return {}["lost"]
def leave():
    raise SystemExit("bye")
def refuse():
    from quanthost.errors import RequestError
    raise RequestError("a cat", needed="a dog", remedy="bark")
"""


@pytest.fixture
def nets(workplace: Path) -> Path:
    """A file with functions, in a folder below the current one, and a module beside it."""
    folder = workplace / "zoo"
    folder.mkdir()
    (folder / "helper.py").write_text("value = 'helped'\n")
    (folder / "nets.py").write_text(_CODE)
    return folder / "nets.py"


def _call(text: str) -> object:
    return Reference.parse(text, where="MODEL").call(where="MODEL")


def test_a_file_is_run_once_with_its_folder_first(nets: Path) -> None:
    """Modules beside it are found, and a second option that names the file sees the same module."""
    assert _call("zoo/nets.py:build")[:2] == ("helped", 1)  # type: ignore[index]  # a tuple
    assert _call(f"{nets}:build")[:2] == ("helped", 2)  # type: ignore[index]  # a tuple


def test_a_module_is_found_from_the_current_folder(workplace: Path) -> None:
    """As Python finds it when a script is run there."""
    (workplace / "by_name_module.py").write_text("def build(): return 42\n")
    assert _call("by_name_module:build") == 42


@pytest.mark.parametrize("text", ["nets", "nets:", ":build", "nets:a b", "nets:a.b", ""])
def test_other_forms_are_refused(text: str) -> None:
    """The error shows the form by example."""
    with pytest.raises(UsageError, match=r"needed: MODULE:CALLABLE, for example zoo\.nets:build"):
        Reference.parse(text, where="MODEL")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zoo/nix.py:build", r"no file zoo/nix\.py\n"),
        ("no_such_module_here:build", "no module 'no_such_module_here'\n"),
        ("zoo/nets.py:buld", r"zoo/nets\.py without 'buld'\n.*\n.*\n  to do:  write zoo/nets\.py:build"),
        ("zoo/nets.py:number", r"zoo/nets\.py:number, a int\n  needed: something to call"),
    ],
    ids=["file", "module", "function", "no function"],
)
@pytest.mark.usefixtures("nets")
def test_what_is_not_there_is_a_usage_error(text: str, said: str) -> None:
    """Each names what is missing, and the place on the command line."""
    with pytest.raises(UsageError, match=said) as raised:
        _call(text)
    assert raised.value.where == "MODEL"


@pytest.mark.parametrize(
    ("name", "said"), [("fail", "raised KeyError: 'lost'"), ("leave", "raised SystemExit: bye")]
)
def test_faults_of_the_function_name_its_line(nets: Path, name: str, said: str) -> None:
    """No usage error: the line of the user's code is the place, the exception the cause."""
    with pytest.raises(RequestError, match=rf"nets\.py:{name}\(\) {said}") as raised:
        _call(f"zoo/nets.py:{name}")
    assert not isinstance(raised.value, UsageError)
    line = next(n for n, text in enumerate(_CODE.splitlines(), 1) if f"def {name}" in text) + 1
    assert f"{nets.resolve()}:{line}: " in raised.value.where
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize(
    ("code", "said"),
    [("import no_such_module_here\n", "ModuleNotFoundError"), ("1 / 0\n", "ZeroDivisionError")],
)
def test_faults_of_the_module_are_not_taken_for_a_wrong_name(workplace: Path, code: str, said: str) -> None:
    """A module that exists and fails to import says why, by file and by name."""
    (workplace / "broken_module.py").write_text(code)
    for text in ("broken_module.py:build", "broken_module:build"):
        with pytest.raises(RequestError, match=rf"import of broken_module.* raised {said}") as raised:
            _call(text)
        assert not isinstance(raised.value, UsageError)


@pytest.mark.usefixtures("nets")
def test_refusals_of_quanthost_pass() -> None:
    """A function that uses quanthost itself has its error shown as it is."""
    with pytest.raises(QuanthostError, match=r"^a cat\n  needed: a dog"):
        _call("zoo/nets.py:refuse")


def test_a_path_that_exists_is_no_reference(workplace: Path) -> None:
    """Even with a colon in its name."""
    assert is_reference("zoo.data:batches")
    assert not is_reference("data.npz")
    (workplace / "odd:name").mkdir()
    assert not is_reference("odd:name")
