"""How much of what may be wrong in a support table the suite sees: ``xnnpack_like``, changed row by row.

python benchmarks/mutation.py [--anew]   # writes results/mutation.json and docs/benchmarks/suite.md

The full set of the changed row's cases is run, up to the first that fails; what is stored already is kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import suite_page
import torch
from mutants import Mutant, mutants, refused_as_made
from pages import without_folders

from quanthost.api import QSpec, Row, SupportTable
from quanthost.errors import RequestError
from quanthost.host import discovery
from quanthost.testing import Area, CaseResult, check_backend, running
from quanthost.values import Kernel

RESULTS = Path(__file__).parent / "results" / "mutation.json"
BACKEND = "xnnpack_like"
# the areas that have cases of a row, those with most to say of a kind of change first
_AREAS = (Area.TABLE, Area.QSPECS, Area.PLACEMENT, Area.NUMBERS)
_FIRST = {"constraint deleted": Area.TABLE, "row shadowed": Area.TABLE, "operator not kept": Area.PLACEMENT}
# what is loaded already is there in each
_FORKS = multiprocessing.get_context("fork")


class _CaughtError(Exception):
    """Ends the run at the first case that fails."""

    def __init__(self, case: CaseResult) -> None:
        super().__init__(case.id)
        self.case = case


def _stopping(unchanged: Any) -> Callable[[CaseResult], None]:
    """Ends a run at a failure, but for one that the unchanged table has too: that shows no mutant."""

    def stop(case: CaseResult) -> None:
        if case.outcome.is_bad and _passes(unchanged, case):
            raise _CaughtError(case)

    return stop


def _passes(unchanged: Any, case: CaseResult) -> bool:
    try:
        conformance = check_backend(unchanged, areas=[case.area], only=case.id, full=True)
    except RequestError:
        return True  # only the mutant has the case
    return conformance.conforms


def judged_apart(plugin: Any, mutant: Mutant, seconds: float = 600.0) -> dict[str, Any]:
    """``judged`` in a process of its own: a delegate that is given what it cannot do may end the process."""
    started = time.perf_counter()
    ours, theirs = _FORKS.Pipe(duplex=False)
    child = _FORKS.Process(target=lambda: theirs.send(judged(plugin, mutant)))
    child.start()
    theirs.close()
    try:
        return dict(ours.recv()) if ours.poll(seconds) else _ended(mutant, "it does not end", started)
    except EOFError:
        child.join()
        return _ended(mutant, f"the process was ended by signal {-(child.exitcode or 0)}", started)
    finally:
        child.kill()
        child.join()


def _ended(mutant: Mutant, message: str, started: float) -> dict[str, Any]:
    return {"kind": mutant.kind, "row": mutant.row, "change": mutant.change, "area": "crash", "case": "",
            "message": message, "outcome": "caught",
            "seconds": round(time.perf_counter() - started, 1)}  # fmt: skip


def judged(plugin: Any, mutant: Mutant) -> dict[str, Any]:
    """Whether a mutant is caught, by which case, and else whether it is the same backend."""
    started = time.perf_counter()
    found = {"kind": mutant.kind, "row": mutant.row, "change": mutant.change, "area": "", "case": "",
             "message": "", "outcome": "survived"}  # fmt: skip
    refused = refused_as_made(mutant)
    if refused is not None:
        found.update(outcome="caught", area="loading", message=_short(refused))
    else:
        changed = attrs.evolve(plugin, table=mutant.table())
        case = _failing(plugin, changed, mutant)
        if case is not None:
            found.update(outcome="caught", area=case.area.value, case=case.id, message=_short(case.message))
        elif _is_equivalent(plugin, changed, mutant):
            found["outcome"] = "equivalent"
    return {**found, "seconds": round(time.perf_counter() - started, 1)}


def _short(text: str) -> str:
    """The first line, with the names of files for their paths on this machine."""
    return without_folders(text.partition("\n")[0])[:200]


def _failing(unchanged: Any, changed: Any, mutant: Mutant) -> CaseResult | None:
    first = _FIRST.get(mutant.kind, Area.QSPECS)
    own = [
        (area, f"{area.value}/*/{mutant.row}/*")
        for area in sorted(_AREAS, key=lambda area: area is not first)
    ]
    joined = [(Area.TABLE, f"table/pair/{pair}/*") for pair in (f"*+{mutant.row}", f"{mutant.row}+*")]
    for area, pattern in (*own, *joined):
        try:
            check_backend(changed, areas=[area], only=pattern, full=True, told=_stopping(unchanged))
        except _CaughtError as caught:
            return caught.case
        except RequestError:
            continue  # no case of this kind
    return None


def _is_equivalent(plugin: Any, changed: Any, mutant: Mutant) -> bool:
    """Whether nothing reads what differs.

    That is the axis of a weight that has one scale in each recipe, and an operator to keep whole that another
    row names too.
    """
    row, other = plugin.table.row(mutant.row), changed.table.row(mutant.row)
    if row.keeps != other.keeps:
        kept, left = ({name for each in t for name in each.keeps} for t in (plugin.table, changed.table))
        return kept == left
    own = dict(row.qspecs).get("weight")
    one_scale = isinstance(own, QSpec) and own.axis is None and row.kernels <= {Kernel.STATIC, Kernel.FLOAT}
    return one_scale and attrs.evolve(other, weight_axis=row.weight_axis) == row


# rows that the suite tells the author it does not reach
_NOT_REACHED = ("conv_batch_norm", "conv_batch_norm_relu", "conv_batch_norm_hardtanh", "view_of_clone")


def is_met(row: Row) -> bool:
    """Whether some case has the row: some are met only in training, or only in the edge graph."""
    return not row.converts and row.name not in _NOT_REACHED


def main() -> None:
    """Judge each mutant that is not stored yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--anew", action="store_true", help="judge those again that are stored")
    parser.add_argument("--survivors", action="store_true", help="judge those again that are not caught")
    parser.add_argument("--only", default="", help="a part of the names of the mutants to judge")
    given = parser.parse_args()
    torch.set_num_threads(1)
    # nobody reads the graphs here, and to make them small takes most of the time
    running.describe_smallest = lambda *_: ""
    plugin = discovery.load(BACKEND)
    table: SupportTable = plugin.table
    kept = {} if given.anew or not RESULTS.exists() else json.loads(RESULTS.read_text())["mutants"]
    todo = {m.name: m for m in mutants(table) if is_met(table.row(m.row))}
    again = ("survived", "equivalent") if given.survivors else ()
    kept = {name: found for name, found in kept.items() if name in todo and found["outcome"] not in again}
    for number, (name, mutant) in enumerate(todo.items()):
        if given.only in name and (given.only or name not in kept):
            kept[name] = judged_apart(plugin, mutant)
            print(
                f"{number + 1}/{len(todo)} {kept[name]['outcome']:10} {name} {kept[name]['case']}", flush=True
            )
            _store({name: kept[name] for name in todo if name in kept}, None)
    if not given.only:
        _store({name: kept[name] for name in todo}, _false_alarms(plugin, kept.values()))
    suite_page.write()


def _false_alarms(plugin: Any, found: Iterable[dict[str, Any]]) -> list[str]:
    """The cases that caught a mutant and fail for the unchanged table too: none may."""
    cases = sorted({each["case"] for each in found if each["case"]})
    conformance = check_backend(plugin, areas=_AREAS, only=cases, full=True)
    return [case.id for case in conformance.failures()]


def _store(found: dict[str, Any], alarms: list[str] | None) -> None:
    data = {"backend": BACKEND, "false_alarms": alarms, "mutants": found}
    text = json.dumps(data, indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
