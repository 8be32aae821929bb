"""The options that commands share: one list, one target, and the same decisions from every command."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path

import attrs
import pytest
from cli_kit import BACKEND, Cli
from typer.main import get_group

import quanthost
from quanthost.cli.app import app
from quanthost.host.measured_costs import save_costs
from quanthost.host.snapshots import load_snapshot
from quanthost.values import Decision, Kernel, SiteCost, from_data
from quanthost.values.explanation import Explanation
from quanthost.values.traced_graph import Trace

WHEEL = Path(__file__).parents[2] / "plugins" / "frozen" / "quanthost_frozen-0.1.0-py3-none-any.whl"
SHARED = {
    "--backend", "--recipe", "--override", "--set", "--placement", "--optimize-for", "--costs", "--toolchain",
    "--config",
}  # fmt: skip
TAKING = ["quantize", "why", "trace", "golden", "decisions", "calibrate"]

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture
def nets(zoo: Path) -> str:
    """The file of the network, as a reference begins."""
    return str(zoo / "nets.py")


@pytest.mark.parametrize("command", TAKING)
def test_each_command_has_all_of_them(command: str) -> None:
    """And no other spelling of one."""
    names = [name for each in get_group(app).commands[command].params for name in each.opts]
    assert set(names) >= SHARED
    assert len(names) == len(set(names))


def placed(decisions: tuple[Decision, ...]) -> list[tuple[str, object, object, object]]:
    """What is decided before lowering; the reason has the times of a cost."""
    return [(d.node, d.verdict, d.cause, d.reason) for d in decisions]


def explained(cli: Cli, nets: str, *options: str) -> list[tuple[str, object, object, object]]:
    ended = cli("why", f"{nets}:build", "*", "--no-lower", "--json", *options)
    assert ended.code == 0, ended.err
    explanation = from_data(Explanation, json.loads(ended.out))
    return placed(tuple(why.decision for why in explanation.operators))


def quantized(cli: Cli, nets: str, *options: str) -> list[tuple[str, object, object, object]]:
    ended = cli(
        "quantize", f"{nets}:build", "-c", f"{nets}:batches", "-o", "net.pte", "--force", "--report", "none",
        *options,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return placed(quanthost.load("net.pte").decisions)


@pytest.fixture
def costs(zoo: Path) -> Path:
    """Measured costs of the network, with times that leave no doubt: its linear layer is faster in float."""
    spec = importlib.util.spec_from_file_location("measured_nets", zoo / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = quanthost.measure_costs(BACKEND, [module.build()])

    def seconds(site: SiteCost) -> float:
        return 1e-3 if (site.kernel is Kernel.FLOAT) == (site.row == "linear") else 5e-3

    sites = [attrs.evolve(site, seconds=seconds(site)) for site in table.sites]
    free = [attrs.evolve(cost, seconds=0.0) for cost in table.conversions]
    save_costs(attrs.evolve(table, sites=sites, conversions=free), "costs.json")
    return Path("costs.json")


def test_why_explains_a_run_for_latency(cli: Cli, nets: str, costs: Path) -> None:
    """The options of the run give its decisions, from the line or from the file; without them they differ."""
    options = ["-b", BACKEND, "--optimize-for", "latency", "--costs", str(costs)]
    run = quantized(cli, nets, *options)
    assert [cause.value for node, _, cause, _ in run if node == "linear"] == ["cost"]  # type: ignore[attr-defined]
    assert explained(cli, nets, *options) == run
    assert explained(cli, nets, "-b", BACKEND) != run

    Path("quant.toml").write_text(
        f'[quantize]\nbackend = "{BACKEND}"\noptimize_for = "latency"\ncosts = "{costs}"\noutput = "a.pte"\n'
    )
    assert explained(cli, nets, "--config", "quant.toml") == run

    ended = cli("trace", f"{nets}:build", *options, "--stage", "captured", "--json")
    (graph,) = from_data(Trace, json.loads(ended.out)).graphs
    assert {node.name: node.mark.value for node in graph.nodes}["linear"] == "float"
    assert cli("decisions", f"{nets}:build", *options, "-o", "kept.json").code == 0
    assert placed(load_snapshot("kept.json").models[0].decisions) == run
    # the file has the costs: it is decided again as it was
    assert cli("diff", "kept.json").code == 0


def test_why_explains_a_run_with_options(
    cli: Cli, nets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--set`` reaches the backend from each command."""
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    options = ["-b", "frozen", "--placement", "all", "--set", "keep=linear"]
    run = quantized(cli, nets, *options, "--toolchain", "upstream")
    assert [reason for node, _, _, reason in run if node == "linear"] == ["the option keeps linear in float"]
    assert explained(cli, nets, *options) == run
    assert explained(cli, nets, *options[:4]) != run


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["-b", BACKEND, "--placement", "al"], 2, "where:  --placement\n  to do:  write all"),
        (["-b", BACKEND, "--optimize-for", "speed"], 2, "accuracy, latency\n  where:  --optimize-for"),
        (["-b", BACKEND, "--toolchain", "upsteam"], 2, "where:  --toolchain\n  to do:  write upstream"),
        (["-b", BACKEND, "--override", "module=lat"], 2, "to do:  write module_name\n"),
        (["-b", BACKEND, "--override", "module_name=lat keep_float=true"], 2, "write module_name=lat,"),
        (["-b", BACKEND, "--set", "cores"], 2, "needed: name=value\n  where:  --set 'cores'"),
        (["-b", BACKEND, "--costs", "c.json"], 1, "costs without optimize_for='latency'"),
        (["-b", BACKEND, "-b", BACKEND], 1, "at least one backend, each once"),
        (["-b", BACKEND, "--set", "cores=2"], 1, "the option 'cores', which xnnpack_like does not have"),
        ([], 2, "no backend\n  needed: --backend"),
        (["--config", "nix.toml"], 2, "nix.toml: No such file or directory"),
    ],
)  # fmt: skip
def test_mistakes(cli: Cli, nets: str, options: list[str], code: int, said: str) -> None:
    """Each is named with what to write instead, and nothing is on stdout."""
    ended = cli("why", f"{nets}:build", "linear", *options)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
