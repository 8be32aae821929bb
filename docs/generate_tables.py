"""Writes docs/backends from the plugins' manifests, recipes and support tables; also a mkdocs hook."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from quanthost.api import (
    AnyQSpec,
    BackendInfo,
    Constraint,
    DerivedQSpec,
    FixedQSpec,
    Granularity,
    Kernel,
    QSpec,
    Row,
    SharedQSpec,
    TableBackend,
    Timing,
)
from quanthost.host import discovery
from quanthost.host.discovery import Installed
from quanthost.values import Manifest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "backends"
BENCHMARKS = ROOT / "docs" / "benchmarks"
NOTE = "<!-- Written by docs/generate_tables.py: change the plugin, then run `make tables`. -->"
# a rule that so many rows share is said once, above the table
COMMON = 6


def pages() -> dict[Path, str]:
    """Each page of docs/backends with its text, from the plugins of this checkout."""
    names = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
    found = {item.name: item for item in discovery.installed()}
    missing = [name for name in names if name not in found]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; run 'make setup'")
    texts = {FOLDER / f"{name}.md": backend_page(found[name], discovery.load(name)) for name in names}
    texts[FOLDER / "index.md"] = index_page(found[name] for name in names)
    return texts


def index_page(found: Iterable[Installed]) -> str:
    rows = [
        (f"[{item.name}]({item.name}.md)", _manifest(item).summary, _code(item.distribution))
        for item in found
    ]
    return _page(
        "Backends",
        "This page lists the backends of this repository. The page of each backend is generated from its "
        "support table, which its quantizer and its partitioner use too. `quanthost backends` lists all "
        "backends that are installed on your machine, including those from elsewhere.",
        _table(("Backend", "What it makes", "Distribution"), rows),
    )


def backend_page(item: Installed, backend: object) -> str:
    assert isinstance(backend, TableBackend), f"{item.name} has no support table to show"
    manifest, info = _manifest(item), backend.info
    runtime = f"ExecuTorch's `{info.runtime}`" if info.runtime else "ExecuTorch's portable kernels"
    facts = [
        f"- Distribution: `{item.distribution}`",
        f"- Runs in: {runtime}",
        f"- Needs: {', '.join(map(_code, manifest.requires)) or 'nothing beside quanthost'}",
        f"- Training with quantization (`qat=True`): {'yes' if info.qat else 'no'}",
        f"- Options: {', '.join(map(_code, info.options)) or 'none'}",
    ]
    rows = list(backend.table)
    letters = _letters(rows)
    return _page(
        info.name,
        f"{manifest.summary}.",
        "\n".join(facts),
        "## Recipes",
        f"The first recipe is the default. If you combine backends, each one must have the recipe.\n\n"
        f"{_recipes(info)}",
        "## Operators",
        _explanation(rows, letters),
        _table(
            ("Row", "Operators", "Kernels", "Holds where", "Runs as"),
            ((f"`{r.name}`", _pattern(r), _kernels(r), _rules(r, letters), _target(r)) for r in rows),
        ),
    )


def _manifest(item: Installed) -> Manifest:
    assert item.manifest is not None, f"{item.name}: {item.problem}"
    return item.manifest


def _recipes(info: BackendInfo) -> str:
    return _table(
        ("Recipe", "Kernel", "Activations", "Weights", "Biases", "Summary"),
        (
            (f"`{r.name}`", r.kernel.value, *(_spec(s) for s in (r.activation, r.weight, r.bias)), r.summary)
            for r in info.recipes
        ),
    )


def _spec(spec: AnyQSpec | None) -> str:
    if spec is None:
        return "float"
    if isinstance(spec, SharedQSpec):
        return f"as {spec.source}"
    limits = f"{spec.dtype.value} {spec.quant_min}..{spec.quant_max}"
    if isinstance(spec, FixedQSpec):
        return f"{limits}, scale {spec.scale:.6g}, zero point {spec.zero_point}"
    if isinstance(spec, DerivedQSpec):
        return f"{limits}, scale {' × '.join(spec.sources)}"
    return f"{limits}, {_scheme(spec)}"


def _scheme(spec: QSpec) -> str:
    scales = spec.granularity.value.replace("_", " ")
    if spec.granularity is Granularity.PER_GROUP:
        scales = f"per group of {spec.group_size}"
    source = "at run time" if spec.timing is Timing.DYNAMIC else spec.estimator.kind.value
    return f"{scales}, {spec.symmetry.value}, {source}"


def _letters(rows: Iterable[Row]) -> dict[Constraint, str]:
    counts = Counter(rule for row in rows for rule in row.constraints)
    common = [rule for rule, count in counts.items() if count >= COMMON]
    return {rule: chr(ord("A") + number) for number, rule in enumerate(common)}


def _explanation(rows: list[Row], letters: dict[Constraint, str]) -> str:
    parts = [
        f"{len(rows)} rows. An operator is quantized, or delegated, if a row matches it. If several rows "
        "match, the one with the most operators wins. The names after an operator are the row's captures: a "
        "capture with `?` may be absent, one with `*` is a list.",
    ]
    if letters:
        parts.append("Rules that many rows share:")
        parts.append("\n".join(f"- **{letter}**: {_rule(rule)}" for rule, letter in letters.items()))
    return "\n\n".join(parts)


def _rule(rule: Constraint) -> str:
    if rule.kernels is None:
        return escape(rule.text)
    return f"{escape(rule.text)} ({', '.join(_in_order(rule.kernels))} only)"


def _rules(row: Row, letters: dict[Constraint, str]) -> str:
    said = [f"**{letters[rule]}**" if rule in letters else _rule(rule) for rule in row.constraints]
    said += [f"{' and '.join(row.shares)} share parameters"] if row.shares else []
    said += [f"{name}: {_spec(spec)}" for name, spec in row.qspecs]
    return "; ".join(said)


def _pattern(row: Row) -> str:
    return _code(str(row.pattern))


def _kernels(row: Row) -> str:
    return ", ".join(_in_order(row.kernels))


def _in_order(kernels: Iterable[Kernel]) -> Iterator[str]:
    chosen = set(kernels)
    return (kernel.value for kernel in Kernel if kernel in chosen)


def _target(row: Row) -> str:
    return escape(row.lowers_to) if row.delegated else f"{escape(row.lowers_to)} (not delegated)"


def _code(text: str) -> str:
    # a pipe would end the table's cell, even inside backticks
    return f"<code>{escape(text).replace('|', '&#124;')}</code>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", NOTE, *parts)) + "\n"


def stale(texts: dict[Path, str]) -> list[Path]:
    """Pages that are missing, differ, or belong to no plugin."""
    differing = [p for p, text in texts.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    return sorted([*differing, *(path for path in FOLDER.glob("*.md") if path not in texts)])


def write(texts: dict[Path, str]) -> None:
    """Bring the stored pages up to date; what did not change is not touched."""
    FOLDER.mkdir(exist_ok=True)
    for path in stale(texts):
        if path in texts:
            path.write_text(texts[path], encoding="utf-8")
        else:
            path.unlink()


def on_config(config: Any) -> Any:
    """Called by mkdocs first: bring the stored pages up to date, and list the pages that scripts write."""
    write(pages())
    for title, folder in (("Backends", FOLDER), ("Benchmarks", BENCHMARKS)):
        section = next(entry for entry in config["nav"] if title in entry)
        names = sorted(path.name for path in folder.glob("*.md"))
        section[title] = [f"{folder.name}/{name}" for name in sorted(names, key="index.md".__ne__)]
    config["nav"] = [entry for entry in config["nav"] if list(entry.values()) != [[]]]
    return config


def main(arguments: list[str]) -> int:
    texts = pages()
    if arguments != ["--check"]:
        write(texts)
        return 0
    old = stale(texts)
    for path in old:
        print(f"{path.relative_to(ROOT)} differs from the support table: run 'make tables'", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
