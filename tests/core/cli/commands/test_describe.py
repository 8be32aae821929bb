"""``quanthost describe``: what a backend says of itself."""

from __future__ import annotations

import json

import pytest
from cli_kit import BACKEND, Cli

from quanthost.api import BackendInfo, Kernel, Recipe, hookimpl
from quanthost.hooks.manager import Plugins
from quanthost.host.discovery import Group, Installed
from quanthost.values import Manifest


def test_shows_recipes_and_rows(cli: Cli) -> None:
    """The default recipe is marked; each row has its pattern, its constraints and what it runs as."""
    ended = cli("describe", BACKEND)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"{BACKEND} ")
    assert any(line.startswith("int8_static (default) ") for line in lines)
    row = lines.index("linear  dynamic, float, static")
    assert lines[row + 1].split(maxsplit=1) == ["pattern", "linear(input, weight, bias?)"]
    assert lines[row + 2].strip().startswith("must hold")
    assert any(line.strip().startswith("runs as ") for line in lines[row : row + 8])
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in ended.out


def test_json_has_the_whole_table(cli: Cli) -> None:
    """Recipes in full, and each row with the kernels that a constraint is for."""
    document = json.loads(cli("describe", BACKEND, "--json").out)
    assert document["default_recipe"] == document["recipes"][0]["name"] == "int8_static"
    assert document["recipes"][0]["weight"]["granularity"] == "per_channel"
    rows = {row["name"]: row for row in document["rows"]}
    assert rows["linear"]["kernels"] == ["dynamic", "float", "static"]
    for row in rows.values():
        for rule in row["constraints"]:
            assert rule["text"]
            assert set(rule["kernels"]) <= {kernel.value for kernel in Kernel}


def test_an_unknown_backend_is_refused(cli: Cli) -> None:
    """With the nearest name."""
    ended = cli("describe", "xnnpack_lik", "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["error"]["to_do"] == f"ask for {BACKEND!r}"


class _Hooks:
    """A backend that decides in its hooks."""

    @hookimpl
    def quanthost_backend_info(self) -> BackendInfo:
        recipe = Recipe(name="fp32", kernel=Kernel.FLOAT, summary="nothing is quantized")
        return BackendInfo(name="npu", recipes=[recipe], options=("cores",))


@pytest.fixture
def _npu(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(name="npu", summary="a neural processor", api=">=1,<2", recipes=("fp32",))
    found = Installed(
        name="npu", group=Group.BACKENDS, distribution="d", version="1", entry_point="a:b", manifest=manifest
    )
    plugins = Plugins([("npu", _Hooks())])
    monkeypatch.setattr("quanthost.host.requests.resolve", lambda target: (plugins, None))
    monkeypatch.setattr("quanthost.host.discovery.installed", lambda _: (found,))


@pytest.mark.usefixtures("_npu")
def test_a_backend_without_a_table(cli: Cli) -> None:
    """It is said; options are listed, and portable kernels where there is no delegate."""
    words = " ".join(cli("describe", "npu").out.split())
    assert "no support table: its hooks decide" in words
    assert "runtime portable kernels options cores training no" in words
    assert "fp32 (default) nothing is quantized" in words
    assert json.loads(cli("describe", "npu", "--json").out)["rows"] is None
