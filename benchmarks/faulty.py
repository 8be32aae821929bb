"""What the quick set says of each backend under tests/faulty, which have one seeded fault each.

python benchmarks/faulty.py [--anew] [--own]   # writes results/faulty.json and docs/benchmarks/suite.md

All areas run, as an author would run them; what is stored already is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import suite_page
import torch

from quanthost.testing import check_backend, running

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "faulty.json"


def judged(seeded: Any, *, own: bool) -> dict[str, Any]:
    """Cases that failed by area, whether the named area is among them, and its first one.

    With ``own`` that area alone runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        try:
            areas = [seeded.area] if own else None
            conformance = check_backend(seeded.make(Path(folder)), areas=areas)
        finally:
            sys.path.remove(folder)
    failures = list(conformance.failures())
    named = [case for case in failures if case.area is seeded.area]
    return {
        "fault": seeded.fault, "area": seeded.area.value, "caught": bool(named), "all_areas": not own,
        "case": named[0].id if named else "", "message": named[0].message.partition("\n")[0] if named else "",
        "failures": dict(Counter(case.area.value for case in failures)),
        "cases": len(conformance.cases), "seconds": round(conformance.seconds, 1),
    }  # fmt: skip


def main() -> None:
    """Judge each that is not stored yet, and the sound ones, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--anew", action="store_true", help="judge those again that are stored")
    parser.add_argument("--own", action="store_true", help="run the fault's own area alone: much quicker")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "faulty"))
    # late: they lie with the tests
    from chip_backends import delegating, portable
    from faulty_backends import FAULTY

    torch.set_num_threads(1)
    # nobody reads the graphs here, and to make them small takes most of the time
    running.describe_smallest = lambda *_: ""
    kept = {} if given.anew or not RESULTS.exists() else json.loads(RESULTS.read_text())["faulty"]
    for seeded in FAULTY:
        if kept.get(seeded.name, {}).get("fault") != seeded.fault:
            kept[seeded.name] = judged(seeded, own=given.own)
            print(seeded.name, kept[seeded.name]["failures"], flush=True)
            _store({each.name: kept[each.name] for each in FAULTY if each.name in kept}, {})
    sound = {
        name: len(list(check_backend(made()).failures()))
        for name, made in (("delegate", delegating), ("portable", portable))
    }
    _store({each.name: kept[each.name] for each in FAULTY}, sound)
    suite_page.write()


def _store(faulty: dict[str, Any], sound: dict[str, int]) -> None:
    text = json.dumps({"faulty": faulty, "false_alarms": sound}, indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
