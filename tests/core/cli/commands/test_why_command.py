"""``quanthost why``: what it prints, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from cli_kit import BACKEND, Cli

from quanthost.values import from_data
from quanthost.values.explanation import Explanation


def test_shows_verdict_and_rows(cli: Cli, zoo: Path) -> None:
    """The verdict, what was taken, what stopped where, and how many rows were not tried; in 80 columns."""
    ended = cli("why", f"{zoo / 'nets.py'}:build", "conv2d", "-b", BACKEND)
    assert ended.code == 0
    words = " ".join(ended.out.split())
    for part in (
        "conv2d conv2d, stem, ", "nets.py:12", "verdict quantized: row conv_relu, fused with 1 more",
        "program XnnpackBackend/0: taken by the delegate",
        "captured graph, xnnpack_like, int8_static: conv2d", "taken conv_relu conv2d, relu",
        "outdone conv at conv2d: row conv_relu has conv2d, relu",
        "conv_hardtanh at conv2d: relu (aten.relu.default); needed: relu6|hardtanh behind it",
        "more rows do not mention conv2d",
        "edge graph, xnnpack_like: convolution, in partition xnnpack_like_0",
    ):  # fmt: skip
        assert part in words
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "\x1b" not in ended.out
    assert "this goes to stderr" in ended.err


def test_json_is_the_record(cli: Cli, zoo: Path) -> None:
    """As the Python call gives it."""
    ended = cli("why", f"{zoo / 'nets.py'}:build", "cumsum", "-b", BACKEND, "--no-lower", "--json")
    found = from_data(Explanation, json.loads(ended.out))
    assert [why.decision.node for why in found.operators] == ["cumsum"]
    assert not found.lowered


def test_an_unknown_node_ends_with_1(cli: Cli, zoo: Path) -> None:
    """With the nearest names."""
    ended = cli("why", f"{zoo / 'nets.py'}:build", "conv3d", "-b", BACKEND)
    assert (ended.code, ended.out) == (1, "")
    assert "ask for 'conv2d'" in ended.err
