"""Pages of docs/backends: they say what the support tables say, and stale ones are found."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from quanthost.api import (
    DerivedQSpec,
    DType,
    FixedQSpec,
    Granularity,
    Kernel,
    QSpec,
    Row,
    SharedQSpec,
    Symmetry,
    Timing,
    constraint,
    op,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The script, imported from its file as mkdocs does."""
    spec = importlib.util.spec_from_file_location("generate_tables", ROOT / "docs" / "generate_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_stored_pages_are_those_that_the_tables_give(tables: ModuleType) -> None:
    """After a change of a plugin, `make tables` was run."""
    assert tables.stale(tables.pages()) == []


def test_every_row_and_recipe_has_its_line(tables: ModuleType) -> None:
    """A backend's page has one table line for each recipe and each row."""
    from quanthost.host import discovery

    for path, text in tables.pages().items():
        if path.stem == "index":
            continue
        backend = discovery.load(path.stem)
        starts = [line.split(" | ")[0] for line in text.splitlines()]
        for name in (*(recipe.name for recipe in backend.info.recipes), *(row.name for row in backend.table)):
            assert starts.count(f"| `{name}`") == 1


def test_stale_missing_and_foreign_pages_are_named(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that differs, one that isn't there, and one of no plugin; writing mends all three."""
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    texts = {tmp_path / "a.md": "a\n", tmp_path / "b.md": "b\n", tmp_path / "c.md": "c\n"}
    (tmp_path / "a.md").write_text("old\n")
    (tmp_path / "b.md").write_text("b\n")
    (tmp_path / "gone.md").write_text("x\n")
    assert [path.name for path in tables.stale(texts)] == ["a.md", "c.md", "gone.md"]
    tables.write(texts)
    assert tables.stale(texts) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.md", "b.md", "c.md"]


def test_the_site_lists_what_scripts_wrote(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index first, then the others by name; a section without pages is left out, others stay."""
    folder = tmp_path / "backends"
    monkeypatch.setattr(tables, "FOLDER", folder)
    monkeypatch.setattr(tables, "BENCHMARKS", tmp_path / "benchmarks")
    monkeypatch.setattr(tables, "pages", lambda: {folder / f"{n}.md": n for n in ("z", "a", "index")})
    config = {"nav": [{"Home": "index.md"}, {"Backends": []}, {"Benchmarks": []}]}
    listed = ["backends/index.md", "backends/a.md", "backends/z.md"]
    assert tables.on_config(config) == {"nav": [{"Home": "index.md"}, {"Backends": listed}]}
    assert (folder / "z.md").read_text() == "z"


def test_check_says_what_to_do(
    tables: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` changes nothing, names each stale page on stderr, and fails."""
    page = ROOT / "docs" / "backends" / "nowhere.md"
    monkeypatch.setattr(tables, "pages", lambda: {page: "text"})
    monkeypatch.setattr(tables, "stale", lambda texts: list(texts))
    assert tables.main(["--check"]) == 1
    expected = "docs/backends/nowhere.md differs from the support table: run 'make tables'\n"
    assert capsys.readouterr().err == expected
    assert not page.exists()


_GROUPS = QSpec(
    dtype=DType.INT4, granularity=Granularity.PER_GROUP, axis=0, group_size=32, symmetry=Symmetry.SYMMETRIC
)
_SPECS = [
    (None, "float"),
    (QSpec(dtype=DType.INT8), "int8 -128..127, per tensor, affine, mse"),
    (_GROUPS, "int4 -8..7, per group of 32, symmetric, mse"),
    (
        QSpec(dtype=DType.INT8, granularity=Granularity.PER_TOKEN, timing=Timing.DYNAMIC),
        "int8 -128..127, per token, affine, at run time",
    ),
    (
        FixedQSpec(dtype=DType.UINT8, scale=1 / 256, zero_point=0),
        "uint8 0..255, scale 0.00390625, zero point 0",
    ),
    (
        DerivedQSpec(sources=("input", "weight"), quant_min=-9, quant_max=9),
        "int32 -9..9, scale input × weight",
    ),
    (SharedQSpec(source="input"), "as input"),
]


@pytest.mark.parametrize(("spec", "text"), _SPECS, ids=[text for _, text in _SPECS])
def test_qspecs_in_words(tables: ModuleType, spec: object, text: str) -> None:
    """Each kind of qspec says what decides its numbers."""
    assert tables._spec(spec) == text


@constraint("groups > 1", kernels=[Kernel.DYNAMIC])
def _grouped(_: object) -> str | None:
    return None


def test_what_a_row_demands(tables: ModuleType) -> None:
    """Constraints in order, with the kernels that they are for; then what is shared and what is fixed."""
    row = Row(
        name="conv", pattern=op("conv1d", "conv2d", input="input"), kernels={Kernel.DYNAMIC, Kernel.FLOAT},
        constraints=[_grouped], shares=("input", "output"), qspecs={"output": SharedQSpec(source="input")},
        lowers_to="conv<2d>",
    )  # fmt: skip
    assert tables._rules(row, {}) == (
        "groups &gt; 1 (dynamic only); input and output share parameters; output: as input"
    )
    assert tables._rules(attrs.evolve(row, shares=(), qspecs={}), {_grouped: "A"}) == "**A**"
    assert tables._pattern(row) == "<code>conv1d&#124;conv2d(input)</code>"
    assert tables._kernels(row) == "float, dynamic"
    assert tables._target(row) == "conv&lt;2d&gt;"
    assert tables._target(attrs.evolve(row, delegated=False)) == "conv&lt;2d&gt; (not delegated)"
