"""Backends by name and as plugin objects that nobody installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import quanthost
from quanthost.api import BackendInfo, TableBackend
from quanthost.errors import QuanthostError, RequestError
from quanthost.host.requests import resolve
from quanthost.host.target import Target
from quanthost_int8_reference.backend import backend as installed


@pytest.fixture(scope="module")
def own() -> TableBackend:
    """A backend of a name that no distribution has."""
    info = BackendInfo(name="my_own", recipes=installed.info.recipes)
    return TableBackend(info=info, table=installed.table, lowering=installed.lowering)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()


BATCHES = [torch.linspace(-1, 1, 16).reshape(2, 8)]


def test_an_object_is_a_backend(own: TableBackend, model: nn.Module, tmp_path: Path) -> None:
    """It quantizes as the installed one of its table does; the record names no distribution for it."""
    made = quanthost.quantize(model, (BATCHES[0],), own, calibration=BATCHES, cache=tmp_path)
    wanted = quanthost.quantize(model, (BATCHES[0],), "int8_reference", calibration=BATCHES)

    assert torch.equal(made.run(BATCHES[0]), wanted.run(BATCHES[0]))
    assert {decision.backend for decision in made.decisions} == {"my_own"}
    assert made.record.plugins == ()
    # its code may have changed by the next time
    assert list(tmp_path.rglob("*.pte")) == []


def test_an_object_stands_beside_names(own: TableBackend) -> None:
    """Names and objects together, in order of priority; the object is none of the installed."""
    plugins, _ = resolve(Target(backend=["xnnpack_like", own]))

    assert plugins.backends == ("xnnpack_like", "my_own")
    assert plugins.unregistered == {"my_own"}


def test_an_object_of_an_installed_name_is_not_taken_for_it(model: nn.Module) -> None:
    """What is not yet installed may have the name of its last release; the record does not confuse them."""
    made = quanthost.quantize(model, (BATCHES[0],), installed, calibration=BATCHES)

    assert made.record.backends == ("int8_reference",)
    assert made.record.plugins == ()


@pytest.mark.parametrize("given", [5, TableBackend, object()], ids=["number", "class", "no hooks"])
def test_what_has_no_hooks_is_refused(given: object) -> None:
    """The error says what may stand there."""
    with pytest.raises(RequestError, match=r"the name of one, or a plugin object with its hooks"):
        Target(backend=given)


def test_two_of_one_name_are_refused(own: TableBackend) -> None:
    """A name and an object that has it are one backend twice."""
    with pytest.raises(QuanthostError, match="each once"):
        resolve(Target(backend=[installed, "int8_reference"]))
