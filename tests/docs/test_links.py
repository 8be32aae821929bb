"""Links of the documentation: what they point to exists, and no file names a place on somebody's machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("plugins/*/*.md"), *(ROOT / "docs").rglob("*.md")])
_INLINE = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
_MACHINE = re.compile(r"(?<![\w.:/-])/(?:home|Users|root|work|workspace|mnt|opt)/\w")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _targets(text: str) -> Iterator[str]:
    prose = _CODE.sub("", _FENCE.sub("", text))
    for found in (*_INLINE.findall(prose), *_REFERENCE.findall(prose)):
        if not re.match(r"[a-z]+:", found):
            yield found


def _anchors(text: str) -> set[str]:
    titles = (
        re.sub(r"[^\w\s-]", "", title).strip().lower() for title in _HEADING.findall(_FENCE.sub("", text))
    )
    return {re.sub(r"\s+", "-", title) for title in titles}


def _dead(page: Path) -> list[str]:
    dead = []
    for target in _targets(page.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        aim = page if not file else page.parent / file
        if not aim.exists() or (anchor and anchor not in _anchors(aim.read_text(encoding="utf-8"))):
            dead.append(target)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_have_a_target(page: Path) -> None:
    """Each relative link of a page leads to a file of the repository, and its anchor to a heading there."""
    assert _dead(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    """A missing file and a missing anchor are reported; links in code and to other sites are not."""
    page = tmp_path / "page.md"
    page.write_text(
        "# One title\n[a](gone.md) [b](#one-title) [c](#other) [d](https://example.org/x) `[e](f)`\n"
        "```text\n[g](h)\n```\n"
    )
    assert _dead(page) == ["gone.md", "#other"]


def test_navigation_names_each_page_once() -> None:
    """What lies in docs/ can be reached from the site's navigation; a hook lists what scripts write."""
    docs = ROOT / "docs"
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [page.relative_to(docs).as_posix() for page in PAGES if docs in page.parents]
    listed = [page for page in pages if not page.startswith(("backends/", "benchmarks/"))]
    assert sorted(_leaves(site["nav"])) == sorted(listed)


def _leaves(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        yield from _leaves(list(entry.values()))
    elif isinstance(entry, list):
        for item in entry:
            yield from _leaves(item)


def _texts() -> list[Path]:
    folders = ("docs", "examples", "scripts", "core", "plugins", "benchmarks", ".ci")
    kinds = {".md", ".svg", ".yml", ".yaml", ".toml", ".py", ".json", ""}
    top = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".git")]
    deep = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(p for p in (*top, *deep) if p.suffix in kinds and "__pycache__" not in p.parts)


def test_no_file_names_a_machine() -> None:
    """Absolute paths of the machine where something was written are in no file."""
    found = {_name(path): _MACHINE.findall(path.read_text(encoding="utf-8")) for path in _texts()}
    assert {name: hits for name, hits in found.items() if hits} == {}


@pytest.mark.parametrize("text", ["see /home/me/x.py", "(/Users/me/y)", "'/work/z'"])
def test_a_machine_path_is_found(text: str) -> None:
    """Home and work folders count, in prose and in quotes."""
    assert _MACHINE.search(text)


@pytest.mark.parametrize("text", ["docs/home/x", "https://example.org/home/x", "and/or/work"])
def test_what_is_no_machine_path_passes(text: str) -> None:
    """Relative paths and addresses are no machine's."""
    assert not _MACHINE.search(text)
