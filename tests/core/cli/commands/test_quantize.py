"""``quanthost quantize`` from a reference to a program that runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_kit import BACKEND, Cli

import quanthost
from quanthost.arith.affine import sqnr_db
from quanthost.values import Cause, Verdict

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture
def nets(zoo: Path) -> str:
    """The file of the network, as a reference begins."""
    return str(zoo / "nets.py")


def _module(nets: str) -> object:
    return next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == nets)


def test_the_program_computes_what_the_model_does(program: Path, nets: str) -> None:
    """Executed on inputs that calibration did not see, it is near the float model; the head is int8 too."""
    made = quanthost.load(program)
    net, (image,) = _module(nets).build()  # type: ignore[attr-defined]  # a module of functions
    expected, actual = net(image), made.run(image)
    assert actual.keys() == expected.keys()
    assert 20.0 < sqnr_db(expected["scores"], actual["scores"]) < 80.0
    verdicts = {decision.operator: decision.verdict for decision in made.decisions}
    assert verdicts["aten.conv2d.default"] is verdicts["aten.linear.default"] is Verdict.QUANTIZED


def test_a_file_of_data_is_the_same_as_a_function(
    cli: Cli, program: Path, nets: str, workplace: Path
) -> None:
    """The digest of the data is equal; steps are on stderr, the JSON document alone on stdout."""
    data = torch.cat([batch for (batch,) in _module(nets).batches()])  # type: ignore[attr-defined]  # functions
    np.savez(workplace / "data.npz", image=data.numpy())
    ended = cli(
        "quantize", f"{nets}:net", "--inputs", f"{nets}:inputs", "-b", BACKEND, "-c", "data.npz",
        "-o", "net.pte", "--json",
    )  # fmt: skip
    assert ended.code == 0
    document = json.loads(ended.out)
    assert document["program"]["path"] == "net.pte"
    assert document["record"]["digests"]["data"] == quanthost.load(program).record.data_digest
    assert document["record"]["recipe"] == "int8_static"
    assert "this goes to stderr" in ended.err
    steps = [line.split()[0] for line in ended.err.splitlines() if re.match(r"\w+ +\d+\.\d s", line)]
    assert steps == ["load", "capture", "prepare", "calibrate", "convert", "lower"]
    assert "8 batches" in ended.err


def test_a_configuration_file_with_overrides(cli: Cli, nets: str, workplace: Path) -> None:
    """Settings and overrides of the file hold; a typed override is matched before them."""
    (workplace / "quant.toml").write_text(
        f'[quantize]\nmodel = "{nets}:build"\nbackend = "{BACKEND}"\noutput = "net.pte"\n'
        f'calibration = "{nets}:batches"\n[[override]]\nmodule_name = "*"\nkeep_float = true\n'
    )
    ended = cli("quantize", "--config", "quant.toml", "--override", "module_name=stem,recipe=int8_static")
    assert ended.code == 0
    made = {decision.operator: decision for decision in quanthost.load("net.pte").decisions}
    assert made["aten.conv2d.default"].verdict is Verdict.QUANTIZED
    assert (made["aten.linear.default"].verdict, made["aten.linear.default"].cause) == (
        Verdict.FLOAT, Cause.OVERRIDE,
    )  # fmt: skip
    assert "float because of:" in ended.out
    assert "override(module_name='*', keep_float=True)" in " ".join(ended.out.split())
    assert max(map(len, ended.out.splitlines())) <= 80


def test_data_that_is_not_needed_is_said(cli: Cli, nets: str, workplace: Path) -> None:
    """A float recipe has no use for data; with ``--report none`` stdout is empty."""
    (workplace / "net.pte").write_bytes(b"old")
    ended = cli(
        "quantize", f"{nets}:build", "-b", BACKEND, "-r", "fp32", "-c", f"{nets}:batches", "-o", "net.pte",
        "--report", "none", "--force",
    )  # fmt: skip
    assert (ended.code, ended.out) == (0, "")
    assert f"note: the recipe fp32 needs no data; {nets}:batches was not used\n" in ended.err
    assert quanthost.load("net.pte").record.recipe == "fp32"


def test_a_refusal_of_a_stage_leaves_no_file(cli: Cli, nets: str, workplace: Path) -> None:
    """An override that matches nothing: its message, exit code 1, and an empty folder."""
    ended = cli(
        "quantize", f"{nets}:build", "-b", BACKEND, "-o", "net.pte", "--override",
        "module_name=haed,keep_float=true",
    )  # fmt: skip
    assert (ended.code, ended.out) == (1, "")
    assert "override(module_name='haed', keep_float=True) matches no node" in ended.err
    assert "Traceback" not in ended.err
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{nets}:build", "-o", "there.pte"), "error: there.pte, which exists"),
        (("{nets}:build", "-o", "beside.pte"), "error: beside.json, which exists"),
        (("{nets}:build", "-o", "net.json"), "needed: a name that ends in .pte"),
        (("nets", "-o", "net.pte"), "needed: MODULE:CALLABLE"),
        (("{nets}:build", "-o", "net.pte", "-c", "nix.npz"), "error: no file or folder nix.npz"),
        (("{nets}:build", "-o", "net.pte", "--inputs", "x"), "where:  --inputs"),
        (("{nets}:build", "-o", "net.pte", "--report", "xml"), "report='xml'"),
        (("{nets}:build",), "error: no output"),
    ],
)  # fmt: skip
def test_mistakes_on_the_line_are_found_before_anything_is_loaded(
    cli: Cli, nets: str, workplace: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2; the backend, which does not exist, was not looked for."""
    for name in ("there.pte", "beside.json"):
        (workplace / name).touch()
    ended = cli("quantize", "-b", "no_such_backend", *(a.format(nets=nets) for a in arguments))
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_json_and_another_report_exclude_each_other(cli: Cli, nets: str) -> None:
    """``--report json`` is the same as ``--json``; the refusal is JSON too."""
    ended = cli("quantize", f"{nets}:build", "-b", BACKEND, "-o", "net.pte", "--report", "none", "--json")
    assert ended.code == 2
    assert json.loads(ended.out)["error"]["seen"] == "--json with --report none"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{nets}:nothing",), "nothing with a result of type NoneType"),
        (("{nets}:net",), "net without example inputs"),
        (("{nets}:build", "-c", "{nets}:nothing"), "nothing with a result of type NoneType"),
    ],
)
def test_functions_that_return_the_wrong_thing(
    cli: Cli, nets: str, arguments: tuple[str, ...], said: str
) -> None:
    """Each is named with what it returned, or with what is missing."""
    ended = cli("quantize", "-b", BACKEND, "-o", "net.pte", *(a.format(nets=nets) for a in arguments))
    assert ended.code == 2
    assert said in ended.err


def test_an_unknown_backend_is_said_before_the_model_is_built(cli: Cli, nets: str) -> None:
    """Building may take long."""
    ended = cli("quantize", f"{nets}:build", "-b", "xnnpack_lik", "-o", "net.pte")
    assert ended.code == 1
    assert f"ask for {BACKEND!r}" in ended.err
    assert "this goes to stderr" not in ended.err


def test_a_blocked_backend_is_refused(cli: Cli, nets: str) -> None:
    """By the option, wherever it stands."""
    ended = cli("quantize", f"{nets}:build", "-b", BACKEND, "-o", "net.pte", "--backends-allowed", "other")
    assert ended.code == 1
    assert "installed but may not be imported" in ended.err


def test_sizes_that_vary(cli: Cli, nets: str) -> None:
    """A function says which; the program takes other numbers of rows, and its record has the range."""
    ended = cli(
        "quantize", f"{nets}:build", "-b", BACKEND, "-c", f"{nets}:batches", "-o", "net.pte",
        "--inputs", f"{nets}:rows", "--dynamic-shapes", f"{nets}:shapes", "--report", "none",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert quanthost.load("net.pte").run(torch.rand(5, 3, 8, 8))["scores"].shape == (5, 4)

    ended = cli("quantize", f"{nets}:build", "-b", BACKEND, "--dynamic-shapes", "5", "-o", "other.pte")
    assert ended.code == 2
    assert "where:  --dynamic-shapes" in ended.err


def test_what_torchao_says_of_itself(
    cli: Cli, nets: str, workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Kernels for other machines are not the user's concern, whoever imports torchao first."""
    text = Path(nets).read_text(encoding="utf-8")
    noise = 'import logging; logging.getLogger("torchao").warning("Failed to load kernels")\n'
    (workplace / "noisy.py").write_text(noise + text, encoding="utf-8")
    ended = cli(
        "quantize", "noisy.py:build", "-b", BACKEND, "-r", "fp32", "-o", "net.pte", "--report", "none"
    )

    assert ended.code == 0, ended.err
    assert "Failed to load" not in ended.err + capfd.readouterr().err
