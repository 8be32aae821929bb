"""What the conformance suite says of the backends here, and of ExecuTorch's own for XNNPACK, wrapped.

python benchmarks/conformance.py [NAME …] [--quick]   # runs, stores, writes docs/benchmarks/conformance.md
python benchmarks/conformance.py --page               # writes the page from the stored results

The page is made of benchmarks/results/conformance.json; what is known of a finding stands in FINDINGS.
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import functools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import attrs
import incumbent
from executorch.backends.xnnpack.quantizer import xnnpack_quantizer_utils
from pages import table, without_folders

from quanthost.catalogue import CATALOGUE
from quanthost.testing import Area, CaseResult, Conformance, Outcome, check_backend

_ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "conformance.json"
PAGE = _ROOT / "docs" / "benchmarks" / "conformance.md"
WRAPPED = "executorch_xnnpack"
BACKENDS = ("int8_reference", "xnnpack_like", WRAPPED)

# by backend and ids: what is behind a failure
FINDINGS: dict[str, dict[str, str]] = {
    WRAPPED: {
        "networks/*/int8_static": (
            "The quantizer quantizes the first use of a shared weight and leaves the second in float. The"
            " delegate makes the bias of the first use int32; the second use reads the same constant, and"
            " fails."
        ),
        "numbers/*/mul.Tensor/*": (
            "The partitioner takes a product whose scale is more than 2^8 times that of its result."
            " XNNPACK's kernel then computes wrong integers, off by up to the whole range."
        ),
        "table/operator/*/rank=7/*": (
            "The partitioner takes elementwise operators of any rank. XNNPACK supports at most six"
            " dimensions, so the program does not load."
        ),
        "table/operator/*/computed_weight": (
            "The quantizer and the partitioner take a layer whose weight the model computes, and the"
            " runtime ends the whole process."
        ),
        "table/operator/a*.default/batch=0": (
            "The partitioner takes the reduction of an empty tensor, and the runtime ends the whole process."
        ),
        "table/operator/*/float64/*": (
            "The quantizer takes float64, and inserts a quantize operator that supports only float32."
        ),
        "table/operator/*/float16*": (
            "The quantizer and the partitioner take float16. Results are wrong or NaN, or the program does"
            " not load, or it ends the process."
        ),
        "table/operator/*/batch=0/int8_dynamic": (
            "The quantizer takes an empty tensor whose range is computed at run time, and tracing tries to"
            " compute its extremes."
        ),
        "table/operator/prelu.default/*": (
            "The partitioner takes a PReLU of any rank. A pass of the delegate needs channels-last"
            " tensors, which must have four dimensions."
        ),
        "table/operator/*_pool2d.default/unbatched/*": (
            "The partitioner takes a pool of an image without a batch, which the same pass cannot convert"
            " to channels-last."
        ),
        "table/operator/*/*rank*0/int8_static": (
            "The quantizer takes a tensor without dimensions, and a pass of the delegate reads its first"
            " dimension."
        ),
        "table/operator/slice.Tensor/from_-5/*": (
            "The partitioner takes a slice that starts before the first element, and the delegate stores"
            " this negative index as an unsigned number."
        ),
        "table/operator/gelu.default/tanh/*": (
            "The partitioner takes the tanh approximation; the delegate has only the exact function."
        ),
        "table/operator/conv_transpose2d.input/input_read_twice/*": (
            "The delegate's program reads a tensor twice, and one of the two results is wrong."
        ),
    }
}


def record(name: str, *, full: bool) -> dict[str, Any]:
    """Run a set over a backend; counts by area, reasons of what was skipped, and failures in full."""
    if name != WRAPPED:
        return kept(check_backend(name, full=full, jobs=None))
    started = time.perf_counter()
    parts = list(_piecewise(full))
    cases = [case for part in parts for case in part.cases]
    whole = attrs.evolve(
        parts[0], cases=tuple(cases), figures=parts[0].figures, seconds=time.perf_counter() - started
    )
    return kept(whole)


def _piecewise(full: bool) -> Iterator[Conformance]:
    """All but the operators, and these in processes that may end with them."""
    yield _in_process(["hooks/*", "persistence/*", "networks/*"], full)
    yield from _halved(list(CATALOGUE), full)


def _halved(names: list[str], full: bool) -> Iterator[Conformance]:
    """Operators in one process; where they end it, each half again, and at last one's samples alone."""
    areas = ("table", "qspecs", "placement", "numbers")
    try:
        yield _in_process([f"{area}/*/{name}/*" for name in names for area in areas], full)
        return
    except BrokenProcessPool:
        middle = len(names) // 2
    if middle:
        yield from _halved(names[:middle], full)
        yield from _halved(names[middle:], full)
        return
    variations = [each.name for each in CATALOGUE[names[0]].variations()] if full else ["plain"]
    for variation in variations:
        yield _alone(f"{names[0]}/{variation}", full)


def _alone(sample: str, full: bool) -> Conformance:
    pattern = f"table/operator/{sample}/*"
    try:
        return _in_process([pattern], full)
    except BrokenProcessPool:
        ended = CaseResult(
            id=f"table/operator/{sample}", area=Area.TABLE, subject=sample.partition("/")[0],
            must="the program lowers and runs", outcome=Outcome.FAILED, message="it ends the process",
        )  # fmt: skip
        return Conformance(backend=WRAPPED, version="", full=full, cases=(ended,))


_POOL: list[ProcessPoolExecutor] = []


def _in_process(patterns: list[str], full: bool) -> Conformance:
    """Run some cases in the process at hand, or in a new one where the last was ended."""
    if not _POOL:
        _POOL.append(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
    try:
        return _POOL[0].submit(_of_wrapped, patterns, full).result()
    except BrokenProcessPool:
        _POOL.clear()
        raise


def _of_wrapped(patterns: list[str], full: bool) -> Conformance:
    sys.path.insert(0, str(_ROOT / "tests" / "core" / "testing"))
    from executorch_xnnpack import backend

    _trace_patterns_once()
    return check_backend(backend, full=full, only=patterns)


@functools.cache
def _trace_patterns_once() -> None:
    """The quantizer traces the same dozen patterns at each look at a graph, for 3 s."""
    traced = xnnpack_quantizer_utils._get_aten_graph_module_for_pattern
    known: dict[Any, Any] = {}

    def remembered(pattern: Any, inputs: tuple[Any, ...], is_cuda: bool = False) -> Any:
        # a pattern is a function of its own each time, the same one where it closes over the same
        cells = tuple(cell.cell_contents for cell in pattern.fn.__closure__)
        key = (pattern.fn.__code__, cells, tuple(each.shape for each in inputs), is_cuda)
        if key not in known:
            known[key] = traced(pattern, inputs, is_cuda)
        return copy.deepcopy(known[key])

    xnnpack_quantizer_utils._get_aten_graph_module_for_pattern = remembered


def kept(conformance: Conformance) -> dict[str, Any]:
    """What is stored of a run."""
    skips = Counter(
        case.message.partition("\n")[0] for case in conformance.cases if case.outcome is Outcome.SKIPPED
    )
    return {
        "version": conformance.version,
        "summary": conformance.summary,
        "seconds": round(conformance.seconds),
        "areas": {
            area.value: {outcome.value: n for outcome, n in conformance.counts(area).items()} for area in Area
        },
        "skipped": dict(skips.most_common()),
        "figures": [list(figure) for figure in conformance.figures],
        "failures": [
            {"id": each.id, "must": each.must, "message": without_folders(each.message), "graph": each.graph}
            for each in conformance.failures()
        ],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BACKENDS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="the quick set")
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args()
    held = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"sets": {}}
    for name in () if given.page else given.names or BACKENDS:
        held.update(incumbent.provenance())
        kind = "quick" if given.quick else "full"
        held["sets"].setdefault(kind, {})[name] = record(name, full=not given.quick)
        RESULTS.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text("\n\n".join(_page(held)) + "\n", encoding="utf-8")


_HEAD = """\
# Conformance of the backends

This page shows the results of the [conformance suite](../guide/conformance.md) for the two backends of this
repository, and for ExecuTorch's own `XNNPACKQuantizer` and `XnnpackPartitioner`, wrapped as a plugin of sixty
lines (`tests/core/testing/executorch_xnnpack.py`). `python benchmarks/conformance.py` writes it from stored
results; {machine}, Python {python}, torch {torch}, executorch {executorch}."""
_WRAPPED = """\
## ExecuTorch's quantizer and partitioner

A wrapped quantizer has no support table. So the suite tries each operator of its catalogue, in the full set
with each variation. Whether or not the quantizer takes the operator, the following must hold: decisions have
reasons, ranges, axes and scales of biases are right, quantized operators are in the delegate, and the program
runs and computes its q/dq form."""


def _page(held: dict[str, Any]) -> Iterator[str]:
    cores = held["machine"]["cores"]
    yield _HEAD.format(machine=f"{held['machine']['cpu']}, {cores} cores", **held["versions"])
    rows = [
        (f"`{name}`", kind, *(_count(each, outcome) for outcome in ("passed", "failed", "skipped")),
         f"{each['seconds']} s")
        for name in BACKENDS for kind, runs in held["sets"].items() for each in [runs.get(name)] if each
    ]  # fmt: skip
    yield table(("backend", "set", "passed", "failed", "skipped", "time"), rows)
    for name in BACKENDS:
        found = [(kind, held["sets"].get(kind, {}).get(name)) for kind in ("full", "quick")]
        kind, best = next(((kind, each) for kind, each in found if each), ("", None))
        if best is not None:
            failures = {failure["id"]: failure for _, each in found if each for failure in each["failures"]}
            yield from _of_backend(name, kind, {**best, "failures": list(failures.values())})


def _of_backend(name: str, kind: str, found: dict[str, Any]) -> Iterator[str]:
    yield _WRAPPED if name == WRAPPED else f"## {name}"
    yield f"`{found['summary']}`"
    heads = ("area", "passed", "failed", "skipped")
    areas = [
        (f"`{area}`", *(counts.get(outcome, "") for outcome in heads[1:]))
        for area, counts in found["areas"].items() if counts
    ]  # fmt: skip
    yield table(heads, areas)
    if found["figures"]:
        yield table(("network, recipe", "share"), [tuple(figure) for figure in found["figures"]])
    if found["skipped"] and name != WRAPPED:
        yield f"Skipped in the {kind} set:"
        yield table(("cases", "reason"), [(n, reason) for reason, n in found["skipped"].items()])
    for pattern, failures in _findings(name, found["failures"]).items():
        yield from _finding(name, pattern, failures)


def _findings(name: str, failures: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Failures by what is behind them; those of which nothing is known by themselves."""
    known = FINDINGS.get(name, {})
    found: dict[str, list[dict[str, Any]]] = {}
    for failure in failures:
        pattern = next((p for p in known if fnmatch.fnmatchcase(failure["id"], p)), failure["id"])
        found.setdefault(pattern, []).append(failure)
    return found


def _finding(name: str, pattern: str, failures: list[dict[str, Any]]) -> Iterator[str]:
    smallest = min(failures, key=lambda each: len(each["graph"].splitlines()) or 1000)
    more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
    yield f"### `{smallest['id']}`{more}"
    if pattern in FINDINGS.get(name, {}):
        yield FINDINGS[name][pattern]
    yield f"Must hold: {smallest['must']}. Seen:"
    yield _block(smallest["message"])
    if smallest["graph"]:
        yield _block(smallest["graph"])


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def _count(each: dict[str, Any], outcome: str) -> int:
    return sum(counts.get(outcome, 0) for counts in each["areas"].values())


if __name__ == "__main__":
    main()
