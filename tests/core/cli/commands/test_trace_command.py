"""``quanthost trace``: texts on stdout, or texts and pictures in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as Xml

from cli_kit import BACKEND, Cli

from quanthost.values import from_data
from quanthost.values.traced_graph import Trace

STAGES = ["captured", "transformed", "prepared", "converted", "edge", "delegated"]


def test_prints_each_stage(cli: Cli, zoo: Path) -> None:
    """One line for each node, never wrapped; the rest goes to stderr."""
    ended = cli("trace", f"{zoo / 'nets.py'}:build", "-b", BACKEND)
    assert ended.code == 0
    heads = [line.removeprefix("stage ") for line in ended.out.splitlines() if line.startswith("stage ")]
    assert heads == STAGES
    wanted = "  # quantized, float32[1, 8, 6, 6], row conv_relu, fused with 1 more"
    assert [line for line in ended.out.splitlines() if line.startswith("relu = ") and line.endswith(wanted)]
    assert "\x1b" not in ended.out


def test_writes_texts_and_pictures(cli: Cli, zoo: Path, tmp_path: Path) -> None:
    """Of the stages that were asked for; a file that exists is replaced with --force only."""
    arguments = ["trace", f"{zoo / 'nets.py'}:build", "-b", BACKEND, "-o", str(tmp_path / "t")]
    ended = cli(*arguments, "--stage", "captured", "--stage", "edge")
    assert ended.code == 0
    names = ["1-captured.svg", "1-captured.txt", "2-edge.svg", "2-edge.txt"]
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == names
    assert Xml.parse(tmp_path / "t" / "2-edge.svg").getroot().tag.endswith("svg")
    again = cli(*arguments, "--stage", "captured")
    assert (again.code, "which exists" in again.err) == (2, True)
    assert cli(*arguments, "--stage", "captured", "--force").code == 0


def test_json_is_the_record(cli: Cli, zoo: Path) -> None:
    """As the Python call gives it."""
    ended = cli("trace", f"{zoo / 'nets.py'}:build", "-b", BACKEND, "--json", "--stage", "transformed")
    found = from_data(Trace, json.loads(ended.out))
    assert [graph.stage for graph in found.graphs] == ["transformed"]


def test_an_unknown_stage_is_refused(cli: Cli, zoo: Path) -> None:
    """With those that there are."""
    ended = cli("trace", f"{zoo / 'nets.py'}:build", "-b", BACKEND, "--stage", "lowered")
    assert (ended.code, ended.out) == (2, "")
    assert "one of " + ", ".join(STAGES) in ended.err
