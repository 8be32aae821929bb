"""The contract on both sides: what plugins import, what their wheels ship, how two unlike ones answer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sites import PLUGINS, TESTS, ask, install

SOURCES = (*(path for path in sorted(PLUGINS.iterdir()) if path.is_dir()), TESTS / "tiny")
NAMES = ("int8_reference", "xnnpack_like")
CORE = PLUGINS.parent / "core"
SCRIPT = """
import json
import quanthost
from quanthost.host.module_files import package_folders
from quanthost.host.requests import resolve
from quanthost.host.target import Target

listed = {backend.name: backend for backend in quanthost.installed()}

import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)).eval()
batches = [torch.randn(1, 2, 8, 8) for _ in range(4)]
wanted = model(batches[0])

def answers(name):
    plugins, _ = resolve(Target(backend=name))
    (folder,) = package_folders(listed[name].entry_point.partition(":")[0])
    program = quanthost.quantize(model, (batches[0],), name, "int8_static", batches)
    made = program.run(batches[0])
    return {
        "recipes": [r.name for r in plugins.info(name).recipes],
        "verdicts": [(d.operator, d.verdict.value) for d in program.decisions],
        "pieces": len(program.record.pieces),
        "noise": float((made - wanted).norm() / wanted.norm()),
        "folder": str(folder),
        "files": sorted(path.name for path in folder.iterdir()),
    }

told = {name: answers(name) for name in ("int8_reference", "xnnpack_like")}
for name, answer in told.items():
    answer["manifest"] = list(listed[name].manifest.recipes)
    answer["problem"] = listed[name].problem
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugins installed from their built distributions."""
    return install(SOURCES, tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
def said(site: Path) -> Any:
    """What both backends answer in a process of their own."""
    return ask(site, SCRIPT)


def _imports(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each module that the Python files of a folder import, at any depth of the code."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} imports relatively"
                yield path, str(node.module)


def _is_plugin(module: str) -> bool:
    return module.startswith("quanthost_")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_plugin_imports_the_public_interface_alone(source: Path) -> None:
    """Of the host only ``quanthost.api``, of plugins only itself."""
    own = {path.name for path in (source / "src").iterdir()}
    imported = [name for _, name in _imports(source / "src") if name.partition(".")[0] == "quanthost"]
    others = [
        name for _, name in _imports(source / "src") if _is_plugin(name) and name.partition(".")[0] not in own
    ]

    assert set(imported) == {"quanthost.api"}
    assert others == []


def test_the_core_imports_no_plugin() -> None:
    """The host knows plugins by entry point only."""
    assert [(path.name, name) for path, name in _imports(CORE) if _is_plugin(name)] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_package_ships_what_is_needed(said: Any, site: Path, name: str) -> None:
    """The code that ran is the installed one, with its manifest and the mark that it is typed."""
    assert said[name]["folder"].startswith(str(site))
    assert {"quanthost.toml", "py.typed", "backend.py"} <= set(said[name]["files"])


@pytest.mark.parametrize("name", NAMES)
def test_manifest_and_code_agree(said: Any, name: str) -> None:
    """The recipes are the same, in the same order; the first is the default on both sides."""
    assert said[name]["problem"] is None
    assert said[name]["manifest"] == said[name]["recipes"]


def test_two_unlike_backends_decide_alike(said: Any) -> None:
    """One delegates and one does not; what is quantized of a common network is the same."""
    first, second = (said[name] for name in NAMES)

    assert (first["pieces"], second["pieces"] > 0) == (0, True)
    assert first["verdicts"] == second["verdicts"]
    assert {verdict for _, verdict in first["verdicts"]} == {"quantized"}


@pytest.mark.parametrize("name", NAMES)
def test_both_compute_the_model(said: Any, name: str) -> None:
    """The noise of int8 is there, and below a tenth of the signal."""
    assert 1e-4 < said[name]["noise"] < 0.1
