"""Writes docs/benchmarks/suite.md from the stored results of faulty.py and mutation.py.

python benchmarks/suite_page.py
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import table

_RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "suite.md"
_CHAIN = "seen only with several readers of a chain before a convolution with ranges at run time"
_PASSES = "all cases of the row pass"
# by a part of the row and the change, where more is known of a survivor than that nothing failed
REASONS = {
    "without “the input is one of the model's": _CHAIN,
    "clone: without “nothing else reads": "the delegate refuses one tensor as two results; no case does",
    "with an integer kernel": f"{_PASSES}; left out of the table: a rounded argument can become zero",
    "linear_weight_only: bias": "the recipe quantizes only weights: the bias stays float either way",
}

_HEAD = """\
# What the conformance suite finds

Two measurements of the suite itself: backends with a seeded fault, and changes of a support table.
`python benchmarks/suite_page.py` writes this page from stored results."""
_FAULTY = """\
## Seeded faults

Each backend under `tests/faulty` is a sound backend with one realistic fault. `python benchmarks/faulty.py`
runs the quick set of all areas on it, as an author would. A fault is caught if a case fails in the area that
the fault belongs to, which is stated beforehand. The last column lists other areas in which cases fail. The
two sound backends, one with a delegate and one on portable kernels, have {alarms}."""
_MUTATION = """\
## Changes of a support table

`python benchmarks/mutation.py` changes one thing in one row of the table of `xnnpack_like`, and runs the
full set of that row's cases until the first one fails. Four rows are left out, because the suite reports
that it does not reach them: three with batch norms, which only occur in training, and a view of a clone,
which only occurs in the edge graph. A change is equivalent if all decisions stay the same, because nothing
reads what was changed (the axis of a weight that has one scale). Equivalent changes are not counted. Some
changes make the delegate end the process: such a change counts as caught, in the area `crash`. The area
`loading` is for tables that are refused when they are created."""


def write() -> None:
    """Write the page; a part without results is left out."""
    parts = [_HEAD]
    faulty, mutation = (_read(name) for name in ("faulty.json", "mutation.json"))
    if faulty is not None:
        parts += _of_faulty(faulty)
    if mutation is not None:
        parts += _of_mutation(list(mutation["mutants"].values()), mutation["false_alarms"])
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _read(name: str) -> Any:
    path = _RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _of_faulty(data: dict[str, Any]) -> Iterator[str]:
    found = data["faulty"]
    alarms = sum(data["false_alarms"].values())
    yield _FAULTY.format(alarms="no case that fails" if not alarms else f"{alarms} cases that fail")
    seeded = Counter(each["area"] for each in found.values())
    caught = Counter(each["area"] for each in found.values() if each["caught"])
    rows = [(f"`{area}`", caught[area], number) for area, number in seeded.items()]
    rows.append(("all", sum(caught.values()), len(found)))
    yield table(("area", "caught", "seeded"), rows)
    yield table(
        ("backend", "fault", "found in", "first case", "other areas"),
        [
            (f"`{name}`", each["fault"], f"`{each['area']}`" if each["caught"] else "**not found**",
             f"`{each['case']}`" if each["case"] else "",
             _others(each))
            for name, each in found.items()
        ],
    )  # fmt: skip


def _others(each: dict[str, Any]) -> str:
    if not each.get("all_areas", True):
        return "not run"
    return ", ".join(f"`{area}`" for area in each["failures"] if area != each["area"])


def _of_mutation(found: list[dict[str, Any]], alarms: list[str] | None) -> Iterator[str]:
    yield _MUTATION
    if alarms is not None:
        told = ", ".join(f"`{case}`" for case in alarms) or "none"
        yield f"Cases that caught a change and fail for the table as it is, too: {told}."
    kinds = list(dict.fromkeys(each["kind"] for each in found))
    rows = [_counted(kind, [each for each in found if each["kind"] == kind]) for kind in kinds]
    rows.append(_counted("the first four", [each for each in found if each["kind"] in kinds[:4]]))
    yield table(("change", "caught", "of", "share", "equivalent"), [*rows, _counted("all", found)])
    where = Counter(each["area"] for each in found if each["outcome"] == "caught")
    yield "Found in: " + ", ".join(f"`{area}` {number}" for area, number in where.most_common()) + "."
    for outcome, title in (("survived", "Not caught"), ("equivalent", "Equivalent")):
        chosen = [each for each in found if each["outcome"] == outcome]
        if chosen:
            yield f"### {title}"
            yield table(("row", "change", "why"), [(f"`{e['row']}`", e["change"], _why(e)) for e in chosen])


def _counted(name: str, found: list[dict[str, Any]]) -> tuple[Any, ...]:
    counts = Counter(each["outcome"] for each in found)
    judged = counts["caught"] + counts["survived"]
    share = f"{100 * counts['caught'] / judged:.1f} %" if judged else "–"
    return name, counts["caught"], judged, share, counts["equivalent"] or ""


def _why(mutant: dict[str, Any]) -> str:
    if mutant["outcome"] == "equivalent":
        kept = mutant["kind"] == "operator not kept"
        return "another row keeps it whole" if kept else "the weight has one scale: nothing reads its axis"
    name = f"{mutant['row']}: {mutant['change']}"
    return next((reason for part, reason in REASONS.items() if part in name), _PASSES)


if __name__ == "__main__":
    write()
