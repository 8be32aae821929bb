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
_CHAIN = "only other readers of a chain before a convolution with ranges at run time show it"
_PASSES = "all cases of the row pass with it"
# by a part of the row and the change, where more is known of a survivor than that nothing failed
REASONS = {
    "without “the input is one of the model's": _CHAIN,
    "clone: without “nothing else reads": "the delegate refuses one tensor as two results; no case has that",
    "with an integer kernel": f"{_PASSES}; the table leaves it out since a rounded argument can become zero",
    "linear_weight_only: bias": "the recipe quantizes weights alone: the bias stays float either way",
}

_HEAD = """\
# What the conformance suite finds

Two measurements of the suite itself: backends with a seeded fault, and changes of a support table. Both are
written from stored results by `python benchmarks/suite_page.py`."""
_FAULTY = """\
## Seeded faults

Each backend under `tests/faulty` is a sound one with one realistic fault. `python benchmarks/faulty.py`
runs the quick set of all areas on it, as an author would. A fault is caught where a case fails in the area
that the fault belongs to, which is stated beforehand; the last column has the other areas with cases that
fail. The sound backends that they are made from, one with a delegate and one on portable kernels, have
{alarms}."""
_MUTATION = """\
## Changes of a support table

`python benchmarks/mutation.py` changes one thing in one row of the table of `xnnpack_like`, and runs the
full set of that row's cases, up to the first that fails. Four rows are left out, of which the suite tells
the author that it does not reach them: those of batch norms, which only training meets, and a view of a
clone, which only the edge graph has. A change is equivalent where nothing reads what was changed (the axis
of a weight that has one scale), so that all decisions are the same; these are not counted. Some changes
hand the delegate what ends the process: such a fault is seen, and counted as caught, in the area `crash`.
`loading` is the error with which a table is refused as it is made."""


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
        return "another row keeps it whole" if kept else "the weight has one scale: its axis is not read"
    name = f"{mutant['row']}: {mutant['change']}"
    return next((reason for part, reason in REASONS.items() if part in name), _PASSES)


if __name__ == "__main__":
    write()
