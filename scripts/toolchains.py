"""Runs the smoke tests with each supported release of the toolchain, and writes the table of the guide.

Each release gets an environment below ``.toolchains``: the packages of this one, linked, with its own
torch, torchao and executorch if they differ. Releases of executorch on the command line run alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import attrs
from environments import ROOT, Environment

__all__ = ["DATA", "PAGE", "ROWS", "Result", "Row", "page", "table"]

FOLDER = ROOT / ".toolchains"
DATA = ROOT / "docs" / "guide" / "toolchains.json"
PAGE = ROOT / "docs" / "guide" / "toolchains.md"
_PYTEST = ("-m", "pytest", "-m", "smoke", "tests/flow/test_smoke.py", "-q", "-p", "no:cacheprovider")
START, END = "<!-- written by scripts/toolchains.py -->", "<!-- end -->"
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
# the import packages of each distribution
_PACKAGES = {
    "torch": ("torch", "torchgen", "functorch"),
    "torchao": ("torchao",),
    "executorch": ("executorch",),
}


@attrs.frozen(kw_only=True)
class Row:
    """One combination of packages."""

    torch: str = "2.13.0"
    torchao: str = "0.18.0"
    executorch: str

    @property
    def name(self) -> str:
        return f"executorch-{self.executorch}-torch-{self.torch}"

    def own(self) -> dict[str, str]:
        """The packages, with their versions, that are not those of this environment."""
        versions: dict[str, str] = attrs.asdict(self)
        return {name: version for name, version in versions.items() if _installed(name) != version}

    def environment(self) -> Environment:
        """A new environment with the row's packages, the host and its plugins."""
        own = self.own()
        packages = [package for name in own for package in _PACKAGES[name]]
        environment = Environment.make(FOLDER / self.name, clear=True, without=packages)
        if own:
            pins = [f"{name}=={version}" for name, version in own.items()]
            environment.run([environment.python, *_PIP, *pins])
        sources = (ROOT, *(path.parent for path in ROOT.glob("plugins/*/pyproject.toml")))
        editable = [word for source in sources for word in ("--editable", str(source))]
        environment.install("--no-deps", *editable)
        return environment

    def prove(self) -> Result:
        """Run the smoke tests with the row's packages."""
        environment = self.environment()
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "smoke.xml"
            command = [environment.python, *_PYTEST, f"--junit-xml={report}"]
            done = environment.run(command, folder=ROOT, check=False)
            if not report.exists():
                raise RuntimeError(f"{self.name}: no test ran\n{done.stdout}{done.stderr}")
            result = Result.read(self, report)
        if result.failed:
            print(done.stdout)
        return result


ROWS = tuple(Row(executorch=version) for version in ("1.5.1", "1.5.0", "1.4.1"))


@attrs.frozen(kw_only=True)
class Result:
    """What the smoke tests gave for a row; ``notes`` are those of its programs on shortcuts left out."""

    row: Row
    python: str
    passed: int
    failed: int
    notes: tuple[str, ...]

    @classmethod
    def read(cls, row: Row, report: Path) -> Result:
        """The result in a JUnit report."""
        root = ElementTree.parse(report).getroot()
        cases = list(root.iter("testcase"))
        failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
        notes = {each.get("value", "") for each in root.iter("property") if each.get("name") == "note"}
        return cls(
            row=row, python=platform.python_version(), passed=len(cases) - failed, failed=failed,
            notes=tuple(sorted(notes)),
        )  # fmt: skip

    @property
    def shortcuts(self) -> str:
        """Which shortcuts were in use."""
        if not self.notes:
            return "all"
        none = any(note.startswith("no shortcuts with") for note in self.notes)
        return "none" if none else "all but some, see below"


def _installed(distribution: str) -> str:
    return importlib.metadata.version(distribution).partition("+")[0]


def load() -> list[Result]:
    """The recorded results, in the order of the rows."""
    if not DATA.exists():
        return []
    results = [_result(each) for each in json.loads(DATA.read_text(encoding="utf-8"))]
    return sorted((each for each in results if each.row in ROWS), key=lambda each: ROWS.index(each.row))


def _result(data: dict[str, Any]) -> Result:
    return Result(**{**data, "row": Row(**data["row"]), "notes": tuple(data["notes"])})


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table, and what each row does without."""
    head = ("executorch", "torch", "torchao", "Python", "passed", "failed", "shortcuts")
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for each in results:
        row = each.row
        cells = (
            row.executorch,
            row.torch,
            row.torchao,
            each.python,
            each.passed,
            each.failed,
            each.shortcuts,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for each in results:
        if each.notes:
            lines += ["", f"With executorch {each.row.executorch}:", ""]
            lines += [f"- {note}" for note in each.notes]
    return "\n".join(lines)


def page(results: Sequence[Result]) -> str:
    """The page of the guide with the table of these results."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    return f"{before}{START}\n\n{table(results)}\n\n{END}{rest.partition(END)[2]}"


def write(results: Sequence[Result]) -> None:
    """Record the results, and bring the page up to date."""
    data = [attrs.asdict(each) for each in results]
    DATA.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("releases", nargs="*", help="executorch releases, all if none is named")
    parser.add_argument("--write", action="store_true", help="record the results and write the guide's table")
    options = parser.parse_args()
    if unknown := set(options.releases) - {row.executorch for row in ROWS}:
        parser.error(f"no row for executorch {', '.join(sorted(unknown))}")
    rows = [row for row in ROWS if not options.releases or row.executorch in options.releases]
    results = []
    for row in rows:
        print(f"toolchains: {row.name}", flush=True)
        results.append(row.prove())
    print(table(results))
    if options.write:
        others = [each for each in load() if each.row not in rows]
        write(sorted((*others, *results), key=lambda each: ROWS.index(each.row)))
    return 1 if any(each.failed for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
