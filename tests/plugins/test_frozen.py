"""A plugin of an earlier minor version of the API: a wheel that is never built again, loaded by this host.

A new minor version of the API gets a wheel of its own beside it; one that fails here is a break.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from sites import TESTS, ask, install

from quanthost.host.api_range import API_VERSION

WHEEL = TESTS / "frozen" / "quanthost_frozen-0.1.0-py3-none-any.whl"
# the bytes that were built for the plugin API 1.0
DIGEST = "9617982644b7659bcac9ff6070da80f8c81611bccc3976af3e721f730fa986ca"
LISTING = """
import json, sys, warnings
warnings.simplefilter("error", DeprecationWarning)
import quanthost
listed = {b.name: (b.manifest.api, b.problem is None) for b in quanthost.installed()}
print(json.dumps({"listed": listed["frozen"], "lazy": "torch" not in sys.modules}))
"""
SCRIPT = """
import json, warnings
import quanthost
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.wide, self.last = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 80, 1), nn.Linear(80 * 36, 3)
    def forward(self, x):
        y = nn.functional.relu6(self.wide(torch.relu(self.first(x))))
        return torch.sigmoid(self.last(y.flatten(1)))

model = Net().eval()
batches = [torch.randn(1, 2, 8, 8) for _ in range(4)]
captured = quanthost.capture(model, (batches[0],))

with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    from quanthost import QuanthostDeprecationWarning
    prepared = quanthost.prepare(captured, "frozen", placement="all")
    warned = [str(w.message) for w in seen if issubclass(w.category, QuanthostDeprecationWarning)]
converted = quanthost.convert(quanthost.calibrate(prepared, batches))
program = quanthost.lower(converted)
made, wanted = program.run(batches[0]), converted.module(batches[0])
kept = quanthost.prepare(captured, "frozen", options={"keep": "linear"})
print(json.dumps({
    "warned": warned,
    "decisions": {d.node: (d.verdict.value, d.row, d.reason) for d in program.decisions},
    "kept": {d.node: d.reason for d in kept.decisions}["linear"],
    "difference": float((made - wanted).abs().max()),
    "error": float((made - model(batches[0])).abs().max()),
}))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a process that has the wheel installed says of it."""
    return ask(install([WHEEL], tmp_path_factory.mktemp("frozen")), SCRIPT, anew=LISTING)


def test_the_wheel_is_the_one_that_was_frozen() -> None:
    """The same bytes as ever, and no code of the host in it."""
    assert hashlib.sha256(WHEEL.read_bytes()).hexdigest() == DIGEST
    packages = {Path(name).parts[0] for name in zipfile.ZipFile(WHEEL).namelist()}
    assert packages == {"quanthost_frozen", "quanthost_frozen_guard", "quanthost_frozen-0.1.0.dist-info"}


def test_it_is_listed_and_admitted(said: Any) -> None:
    """Made for 1.0, by a host of a later minor version; without importing it or torch."""
    assert said["listed"] == [">=1.0,<2", True]
    assert said["lazy"]
    assert Version("1.0") < Version(API_VERSION) < Version("2")


def test_its_table_hooks_and_rewrite_work(said: Any) -> None:
    """Rows and constraint, the rewritten relu6, the option, and the wrapper of its extension."""
    found = said["decisions"]
    assert found["conv2d"] == ["quantized", "conv_relu", "row conv_relu, fused with 1 more"]
    assert found["conv2d_1"] == ["float", None, "row conv of frozen: 80 output channels"]
    assert found["linear"][:2] == ["quantized", "linear"]
    assert found["sigmoid"] == ["float", None, "the guard keeps sigmoid in float"]
    assert said["kept"] == "the option keeps linear in float"


def test_its_program_runs(said: Any) -> None:
    """The runtime gives what the q/dq form gives (1e-6), which is not the float model's result."""
    assert said["difference"] <= 1e-6
    assert 1e-6 < said["error"] < 0.1


def test_nothing_that_it_uses_is_deprecated_yet(said: Any) -> None:
    """Once something is, the warning names it, and this test says which."""
    assert said["warned"] == []
