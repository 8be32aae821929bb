"""``quanthost calibrate`` and ``quanthost merge-stats``: shards by hand, and the mistakes one makes."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from cli_kit import BACKEND, Cli

import quanthost
from quanthost import Statistics

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture(scope="module")
def asked(zoo: Path) -> list[str]:
    """A model, its backend, and batches to calibrate with."""
    nets = f"{zoo / 'nets.py'}"
    return ["calibrate", f"{nets}:build", "-b", BACKEND, "-c", f"{nets}:batches"]


def test_shards_by_hand(cli: Cli, asked: list[str]) -> None:
    """Collected one by one and merged, they are the file of one process, and make its program."""
    for number in (2, 1, 3):
        ended = cli(*asked, "--shard", f"{number}/3", "-o", f"{number}.safetensors")
        assert ended.code == 0
        assert (
            f"{number}.safetensors: {2 if number == 3 else 3} batches, 3 tensors, shard {number}/3"
            in ended.out
        )
        assert "batches, " in ended.err
    ended = cli("merge-stats", "3.safetensors", "1.safetensors", "2.safetensors", "-o", "all.safetensors")
    assert (ended.code, ended.out) == (0, "all.safetensors: 8 batches, 3 tensors\n")
    whole = cli(*asked, "-o", "whole.safetensors", "--json")
    assert json.loads(whole.out) == {
        "statistics": "whole.safetensors", "batches": 8, "tensors": 3, "shards": [], "missing": [],
        "data": Statistics.load("whole.safetensors").data_digest,
    }  # fmt: skip
    assert Path("whole.safetensors").read_bytes() == Path("all.safetensors").read_bytes()

    made = cli("quantize", *asked[1:4], "--statistics", "all.safetensors", "-o", "net.pte", "--json")
    assert made.code == 0
    assert quanthost.load("net.pte").record.data_digest == Statistics.load("all.safetensors").data_digest


def test_a_stopped_run_goes_on(cli: Cli, asked: list[str]) -> None:
    """What is there and incomplete is no reason to refuse; what is complete is not replaced."""
    assert cli(*asked, "-o", "whole.safetensors").code == 0
    whole = Statistics.load("whole.safetensors")
    attrs.evolve(whole, complete=False).save("whole.safetensors")
    assert cli(*asked, "-o", "whole.safetensors").code == 0
    assert Statistics.load("whole.safetensors").to_bytes() == whole.to_bytes()

    ended = cli(*asked, "-o", "whole.safetensors")
    assert ended.code == 2
    assert "whole.safetensors, which exists" in ended.err
    assert cli(*asked, "-o", "whole.safetensors", "--force").code == 0


@pytest.fixture
def one(cli: Cli, asked: list[str]) -> str:
    """The file of the first of two shards."""
    assert cli(*asked, "--shard", "1/2", "-o", "one.safetensors").code == 0
    return "one.safetensors"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["merge-stats", "one.safetensors"], 2, "error: 1 parts without 2/2\n"),
        (["merge-stats", "one.safetensors", "one.safetensors"], 1, "error: the shard 1/2 twice\n"),
        (["merge-stats", "one.safetensors", "none.safetensors"], 1, "error: no file none.safetensors\n"),
        (["merge-stats", "broken.safetensors"], 1, "error: a file that is damaged or holds no statistics"),
        (["quantize", "--statistics", "one.safetensors"], 1, "error: statistics without the shards 2/2\n"),
        (
            ["quantize", "--statistics", "one.safetensors", "-c", "nets:batches"], 2,
            "error: --statistics beside --calibration\n",
        ),
        (["calibrate", "--shard", "3/2"], 1, "error: the shard 3/2\n"),
        (["calibrate", "--shard", "two"], 1, "error: the shard 'two'\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_mistakes(cli: Cli, asked: list[str], one: str, arguments: list[str], code: int, said: str) -> None:
    """Each with what was seen, and without an output."""
    Path("broken.safetensors").write_bytes(b"what is this")
    output = "out.pte" if arguments[0] == "quantize" else "out.safetensors"
    common = {"calibrate": asked[1:], "quantize": asked[1:4], "merge-stats": []}[arguments[0]]
    ended = cli(arguments[0], *common, *arguments[1:], "-o", output)
    assert ended.code == code
    assert said in ended.err
    assert "to do:" in ended.err
    assert not Path(output).exists()


def test_the_name_of_the_output(cli: Cli, asked: list[str]) -> None:
    """Statistics end in .safetensors."""
    ended = cli(*asked, "-o", "net.npz")
    assert ended.code == 2
    assert "needed: a name that ends in .safetensors" in ended.err


def test_twice_names_the_file(cli: Cli, one: str) -> None:
    """The second of the two."""
    Path("again.safetensors").write_bytes(Path(one).read_bytes())
    assert (
        "where:  again.safetensors" in cli("merge-stats", one, "again.safetensors", "-o", "x.safetensors").err
    )


def test_a_cache_on_the_command_line(
    cli: Cli, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned on by the option, in the folder of the variable; what was reused is said."""
    monkeypatch.setenv("QUANTHOST_CACHE", str(tmp_path / "cache"))
    command = ["quantize", *asked[1:], "--report", "none"]
    assert cli(*command, "--no-cache", "-o", "a.pte").code == 0
    assert not (tmp_path / "cache").exists()
    assert cli(*command, "--cache", "-o", "b.pte").code == 0
    ended = cli(*command, "--cache", "-o", "c.pte")
    assert "8 batches from the cache" in ended.err
    assert "lower" in ended.err
    assert "convert" not in ended.err
    assert Path("a.pte").read_bytes() == Path("b.pte").read_bytes() == Path("c.pte").read_bytes()
