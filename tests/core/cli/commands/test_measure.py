"""``quanthost measure``, and what ``quantize`` makes of its file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli_kit import BACKEND, Cli

import quanthost

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture(scope="module")
def model(zoo: Path) -> str:
    return f"{zoo / 'nets.py'}:build"


def test_measure_and_quantize(cli: Cli, model: str) -> None:
    """Measured, kept, and used; the report tells what was expected and what a call takes."""
    ended = cli("measure", BACKEND, "--model", model, "-o", "costs.json")
    assert ended.code == 0, ended.err
    assert "times faster than float, on " in ended.out
    assert re.search(r"^conv_relu +static +1 ", ended.out, re.MULTILINE)
    assert ended.out.endswith("saved to costs.json\n")
    assert max(map(len, ended.out.splitlines()[1:])) <= 80

    data = model.replace(":build", ":batches")
    asked = ["quantize", model, "-b", BACKEND, "-c", data, "-o", "net.pte", "--optimize-for", "latency"]
    made = cli(*asked, "--costs", "costs.json")
    assert made.code == 0, made.err
    assert "expected 0." in made.out
    assert "measured 0." in made.out
    assert quanthost.load("net.pte").record.latency is not None


def test_again_adds(cli: Cli, model: str) -> None:
    """What the file has is kept; as JSON the same rows."""
    first = cli("measure", BACKEND, "--model", model, "-o", "costs.json", "--json")
    held = json.loads(Path("costs.json").read_text())
    held["sites"][0]["row"] = "from_before"
    Path("costs.json").write_text(json.dumps(held))
    again = cli("measure", BACKEND, "--model", model, "-o", "costs.json", "--json")
    assert first.code == again.code == 0
    rows = {site["row"] for site in json.loads(Path("costs.json").read_text())["sites"]}
    assert "from_before" in rows
    shown = json.loads(again.out)
    assert shown["backend"] == BACKEND
    assert {row["row"] for row in shown["rows"]} >= {"conv_relu", "linear"}


def test_another_machine(cli: Cli, model: str) -> None:
    assert cli("measure", BACKEND, "--model", model, "-o", "costs.json").code == 0
    held = json.loads(Path("costs.json").read_text())
    Path("costs.json").write_text(json.dumps({**held, "machine": "a phone"}))
    refused = cli("measure", BACKEND, "--model", model, "-o", "costs.json")
    assert refused.code == 2
    assert "costs of xnnpack_like on a phone" in refused.err
    assert json.loads(Path("costs.json").read_text())["machine"] == "a phone"
    assert cli("measure", BACKEND, "--model", model, "-o", "costs.json", "--force").code == 0


def test_without_costs(cli: Cli, model: str) -> None:
    ended = cli(
        "quantize", model, "-b", BACKEND, "-o", "net.pte", "--optimize-for", "latency", "--costs", "none.json"
    )
    assert ended.code == 1
    assert "none.json that cannot be read" in ended.err
    assert not Path("net.pte").exists()
