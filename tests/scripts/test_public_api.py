"""The public API is the one that is recorded, and a break of it is seen."""

from __future__ import annotations

import importlib.util
import shutil
import types
from pathlib import Path

import pytest
from whole import part

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("public_api", ROOT / "scripts" / "public_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def now(script: types.ModuleType) -> str:
    made = script.public_api()
    assert isinstance(made, str)
    return made


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the host, to break."""
    shutil.copytree(ROOT / "core" / "quanthost", tmp_path / "quanthost")
    return tmp_path


def test_the_api_is_the_recorded_one(script: types.ModuleType, now: str) -> None:
    """A difference is a decision: read docs/reference/api-policy.md, then record it with 'make api'."""
    changed = script.compare(script.FILE.read_text(encoding="utf-8"), now)
    assert not changed, changed


BREAKS = {
    "argument_gone": (
        "hooks/specs.py", "def quanthost_create_partitioners(request: Request)",
        "def quanthost_create_partitioners()",
    ),
    "field_renamed": ("graph/table.py", "    weight_axis: int = 0", "    channel_axis: int = 0"),
    "member_gone": ("values/decision.py", '    FUSED = "fused"\n', ""),
    "name_gone": ("api.py", "    from quanthost.graph.rewrite import Rewriter as Rewriter\n", ""),
    "default_changed": (
        "host/pipeline.py", "io: Io | str = Io.FLOAT,\n    allow", "io: Io | str = Io.INT8,\n    allow",
    ),
    "method_renamed": ("graph/table.py", "    def is_constant(", "    def constant("),
    "return_changed": (
        "host/discovery.py", "BACKENDS) -> tuple[Installed, ...]", "BACKENDS) -> list[Installed]",
    ),
    "made_required": ("values/recipe.py", 'summary: str = attrs.field(default="", ',
                      "summary: str = attrs.field("),
}  # fmt: skip


@pytest.mark.parametrize("name", part(list(BREAKS), 2))
def test_a_break_is_seen(script: types.ModuleType, now: str, sources: Path, name: str) -> None:
    """Of hooks, records, enums, names, defaults, methods and results; and what it asks for is told."""
    file, before, after = BREAKS[name]
    path = sources / "quanthost" / file
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    changed = script.compare(now, script.public_api(sources))
    assert "mostly a break" in changed
    assert "docs/reference/api-policy.md" in changed


def test_an_addition_asks_for_a_minor_version(script: types.ModuleType, now: str, sources: Path) -> None:
    """Lines that are only new are no break."""
    path = sources / "quanthost" / "values" / "decision.py"
    path.write_text(
        path.read_text().replace('    FUSED = "fused"\n', '    FUSED = "fused"\n    NEW = "new"\n')
    )
    changed = script.compare(now, script.public_api(sources))
    assert "raise the minor version" in changed


def test_what_is_private_may_change(script: types.ModuleType, now: str, sources: Path) -> None:
    """A docstring and a private function are no part of it."""
    path = sources / "quanthost" / "graph" / "table.py"
    text = (
        path.read_text().replace("def _meta(self", "def _tensor(self").replace("self._meta(", "self._tensor(")
    )
    path.write_text(text.replace("Make a constraint of a function", "Make one"))
    assert script.compare(now, script.public_api(sources)) == ""


def test_the_policy_tells_the_version_that_is_recorded(now: str) -> None:
    """The page has a line for it, and names it as the current one."""
    version = now.partition("plugin API ")[2].split()[0]
    page = (ROOT / "docs" / "reference" / "api-policy.md").read_text(encoding="utf-8")
    assert f"\n| {version} | " in page
    assert f"**The plugin API's version**, `{version}`" in page
