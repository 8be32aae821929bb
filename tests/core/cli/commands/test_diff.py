"""``quanthost decisions`` and ``quanthost diff``: files, exit codes and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_kit import BACKEND, Cli


@pytest.fixture
def kept(cli: Cli, zoo: Path, tmp_path: Path) -> Path:
    """The decisions on the network, by the command."""
    target = tmp_path / "old.json"
    ended = cli("decisions", f"{zoo / 'nets.py'}:build", "-b", BACKEND, "-o", str(target))
    assert ended.code == 0
    assert "float because of: 1 no row" in " ".join(ended.out.split())
    assert f"savedto{target}" in "".join(ended.out.split())
    return target


def test_nothing_differs(cli: Cli, kept: Path) -> None:
    """From what is installed, and from itself: exit code 0."""
    for arguments in ([str(kept)], [str(kept), str(kept)]):
        ended = cli("diff", *arguments)
        assert (ended.code, ended.err.count("error")) == (0, 0)
        assert ": 0 of 5 nodes differ" in " ".join(ended.out.split())


def test_what_differs_is_shown(cli: Cli, kept: Path) -> None:
    """Another backend in place of a second file: exit code 4, in 80 columns."""
    ended = cli("diff", str(kept), "-b", "int8_reference")
    assert ended.code == 4
    words = " ".join(ended.out.split())
    assert f"backends {BACKEND} → int8_reference" in words
    assert "qspec of bias float → DerivedQSpec(" in words
    assert max(map(len, ended.out.splitlines())) <= 80


def test_an_override_is_kept_and_used_again(cli: Cli, zoo: Path, kept: Path, tmp_path: Path) -> None:
    """What was asked for is part of the file; beside the plain one, the row that lost nodes is counted."""
    target, model = tmp_path / "new.json", f"{zoo / 'nets.py'}:build"
    options = ["--override", "module_name=stem,keep_float=true", "--json"]
    ended = cli("decisions", model, "-b", BACKEND, "-o", str(target), *options)
    assert json.loads(ended.out)["models"] == {model: {"nodes": 5, "quantized": 2, "float": 3, "folded": 0}}
    assert cli("diff", str(target)).code == 0
    ended = cli("diff", str(kept), str(target), "--json")
    document = json.loads(ended.out)
    assert (ended.code, document["equal"]) == (4, False)
    assert document["models"][0]["rows"] == [["conv_relu", 2, 0]]


def test_records_of_programs_are_compared(cli: Cli, program: Path, kept: Path) -> None:
    """A record with a record, and with decisions; alone it does not say where its model is."""
    record = str(program.with_suffix(".json"))
    assert cli("diff", record, record).code == 0
    assert cli("diff", record, str(kept)).code == 0
    ended = cli("diff", record)
    assert (ended.code, ended.out) == (2, "")
    assert "a record does not say where its model is" in ended.err


def test_bad_input(cli: Cli, kept: Path, zoo: Path) -> None:
    """A missing file, two second sides, a model that is gone, and a file that exists."""
    assert cli("diff", str(kept), "nix.json").code == 1
    ended = cli("diff", str(kept), str(kept), "-b", BACKEND)
    assert (ended.code, "--backend beside" in ended.err) == (2, True)
    ended = cli("decisions", f"{zoo / 'nets.py'}:build", "-b", BACKEND, "-o", str(kept))
    assert (ended.code, "which exists" in ended.err) == (2, True)
    data = json.loads(kept.read_text())
    data["models"][0]["name"] = "gone.py:build"
    kept.write_text(json.dumps(data))
    ended = cli("diff", str(kept))
    assert (ended.code, "no file gone.py" in ended.err) == (2, True)
