"""``quanthost golden``: what it says of equal and of differing sides, how it ends, and its mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_kit import BACKEND, Cli

import quanthost
from quanthost.debugging.tensor_files import read_tensors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked(zoo: Path) -> list[str]:
    """A model, its backend, and batches to calibrate with and to compare on."""
    nets = f"{zoo / 'nets.py'}"
    return [f"{nets}:build", "-b", BACKEND, "-c", f"{nets}:batches", "-s", f"{nets}:batches"]


@pytest.fixture(scope="module")
def recording(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a device might have stored: one integer of one operator is another."""
    generator = torch.Generator().manual_seed(2)
    batches = [(torch.randn(1, 3, 8, 8, generator=generator),) for _ in range(8)]
    scope: dict[str, object] = {}
    exec((zoo / "nets.py").read_text(), scope)
    captured = quanthost.capture(scope["net"](), batches[0])  # type: ignore[operator]
    calibrated = quanthost.calibrate(quanthost.prepare(captured, BACKEND), batches)
    program = quanthost.lower(quanthost.convert(calibrated), intermediates=True)
    each = [program.intermediates(*batch) for batch in batches]
    held = {name: np.concatenate([made[name].numpy() for made in each]) for name in each[0]}
    held["relu"][0, 0, 0, 0] += 2
    path = tmp_path_factory.mktemp("device") / "seen.npz"
    np.savez(path, **held)
    return path


def test_the_delegate_is_equal(cli: Cli, asked: list[str]) -> None:
    """One line, and the end with 0."""
    ended = cli("golden", *asked)

    assert ended.code == 0, ended.err
    assert "equal" in ended.out.splitlines()[-1]
    assert max(map(len, ended.out.splitlines())) <= 80


def test_each_operator_on_request(cli: Cli, asked: list[str]) -> None:
    """As a table in 80 columns."""
    ended = cli("golden", *asked, "--all")

    assert {"relu", "mean", "linear"} <= {
        line.split()[1] for line in ended.out.splitlines() if line.startswith("operator")
    }
    assert max(map(len, ended.out.splitlines())) <= 80


def test_another_arithmetic_differs(cli: Cli, asked: list[str]) -> None:
    """The document names the first operator, and the command ends with 4."""
    ended = cli("golden", *asked, "--arithmetic", "power_of_two", "--json")

    document = json.loads(ended.out)
    assert ended.code == 4
    assert document["equal"] is False
    differing = [each["name"] for each in document["operators"] if each["differing"]]
    assert differing[0] == "relu"
    assert "relu" in document["verdict"]


def test_a_recording(cli: Cli, asked: list[str], recording: Path) -> None:
    """One integer that a device has otherwise: its operator, how far it is off, and the end with 4."""
    ended = cli("golden", *asked, "--against", str(recording), "--json")

    document = json.loads(ended.out)
    assert ended.code == 4
    found = [(o["name"], o["differing"], o["largest"]) for o in document["operators"] if o["differing"]]
    assert found == [("relu", 1, 2.0)]


def test_a_program_without_intermediates(cli: Cli, asked: list[str], program: Path) -> None:
    """A stored program is compared by its outputs."""
    ended = cli("golden", *asked, "--against", str(program), "--json")

    document = json.loads(ended.out)
    assert ended.code == 0, ended.err
    assert [output["name"] for output in document["outputs"]] == ["output['scores']", "output['order']"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--arithmetic", "gemlowp"], "the arithmetic profile 'gemlowp'"),
        (["--against", "nowhere.npz"], "nowhere.npz"),
        (["--against", "nowhere.pte"], "nowhere.pte"),
    ],
)
def test_mistakes(cli: Cli, asked: list[str], changed: list[str], message: str) -> None:
    """What was seen, on stderr, nothing on stdout, and no trace of Python."""
    ended = cli("golden", *asked, *changed)

    assert ended.code == 1
    assert message in ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err


def test_nothing_to_compare_with(cli: Cli, asked: list[str], tmp_path: Path) -> None:
    """A file that holds other names."""
    np.savez(tmp_path / "other.npz", somewhere=np.zeros(3, np.int8))

    ended = cli("golden", *asked, "--against", str(tmp_path / "other.npz"))

    assert ended.code == 1
    assert "somewhere" in ended.err
    assert read_tensors(tmp_path / "other.npz").keys() == {"somewhere"}
