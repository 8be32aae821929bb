"""Owns the sweep: every operator and module that PyTorch lists, through this host and the documented script.

python benchmarks/sweep.py               # all of it, on two cores; goes on where it was stopped
python benchmarks/sweep.py --only 'op/nn.functional.*' --samples 1
python benchmarks/sweep.py --page        # writes docs/benchmarks/sweep.md from what there is
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import io
import json
import math
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pages import table, without_folders
from sweep_cases import Place, Sample, subjects
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["FLOWS", "Outcome", "main", "outcomes"]

ROOT = Path(__file__).resolve().parents[1]
_JOURNAL = Path(__file__).parent / "out" / "sweep.jsonl"
_SUMMARY = Path(__file__).parent / "results" / "sweep.json"
_PAGE = ROOT / "docs" / "benchmarks" / "sweep.md"
# a subject whose worker says nothing for so long is ended
_SECONDS = 300

Outcome = tuple[str, str]
"""How a case ended: ``"runs"``, ``"refused"``, ``"wrong"``, …; and what was said."""
# (backend, recipe, place)
FLOWS: tuple[tuple[str, str, Place], ...] = (
    ("xnnpack_like", "fp32", Place.ALONE), ("int8_reference", "fp32", Place.ALONE),
    ("xnnpack_like", "int8_static", Place.BEHIND), ("xnnpack_like", "int8_static", Place.BEFORE),
    ("xnnpack_like", "int8_dynamic", Place.BEHIND), ("int8_reference", "int8_static", Place.BEHIND),
    ("int8_reference", "int8_static", Place.BEFORE),
)  # fmt: skip
# the largest distance from the result that is expected, in relation to its norm
_FLOAT = {torch.float32: 1e-3, torch.float16: 1e-2}
_QUANTIZED = {torch.float32: 0.1}
# what must not happen; the rest is "runs", "refused", "not captured" or "no fixed values"
BAD = (
    "fails at run time",
    "wrong",
    "exception",
    "ended",
    "too slow",
    "names nothing",
    "differs from upstream",
)


def outcomes(sample: Sample, flows: str = "*") -> Iterator[tuple[str, Outcome]]:
    """The outcome of each flow on a sample, this host's and the script's, by the name of the flow."""
    captures: dict[Place, Any] = {}
    for backend, recipe, place in FLOWS:
        names = {t: f"{backend} {recipe} {place.value} {t}" for t in ("fast", "upstream")}
        names = {toolchain: name for toolchain, name in names.items() if fnmatch.fnmatch(name, flows)}
        model = sample.at(place) if names else None
        if model is None:
            continue
        if place not in captures:
            captures[place] = _captured(model, sample.inputs)
        results: dict[str, Any] = {}
        for toolchain, name in names.items():
            outcome, result = _host(captures[place], model, sample, backend, recipe, toolchain)
            if outcome[0] == "runs" and results and not _same(result, next(iter(results.values()))):
                outcome = "differs from upstream", ""
            results[toolchain] = result
            yield name, outcome
    for recipe, place in (("fp32", Place.ALONE), ("int8_static", Place.BEHIND)):
        name = f"script {recipe} {place.value}"
        model = sample.at(place) if fnmatch.fnmatch(name, flows) else None
        if model is not None:
            yield name, _script(model, sample, recipe)


def _captured(model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    import quanthost

    with contextlib.redirect_stderr(io.StringIO()):
        try:
            return quanthost.capture(model, inputs)
        except Exception as error:
            return error


def _host(
    captured: Any, model: nn.Module, sample: Sample, backend: str, recipe: str, toolchain: str
) -> tuple[Outcome, Any]:
    import quanthost
    from quanthost.errors import CaptureError, QuanthostError

    try:
        if isinstance(captured, Exception):
            raise captured
        prepared = quanthost.prepare(captured, backend, recipe, toolchain=toolchain)
        data = None if recipe == "fp32" else [sample.inputs]
        converted = quanthost.convert(quanthost.calibrate(prepared, data))
        program = quanthost.lower(converted)
    except CaptureError as error:
        return ("not captured", str(error).splitlines()[0]), None
    except QuanthostError as error:
        lines = str(error).splitlines()
        is_named = any(
            mark in str(error)
            for mark in ("node ", ".py:", "kernel", "empty", "outputs are", "in the tensor", "model fails")
        )
        return ("refused" if is_named else "names nothing", " | ".join(lines[:3])), None
    except Exception as error:
        return ("exception", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"), None
    try:
        result = program.run(*sample.inputs)
    except QuanthostError as error:
        return ("fails at run time", str(error).splitlines()[0]), None
    if not sample.has_values or _draws(captured):
        return ("no fixed values", ""), None
    inputs = sample.cloned()
    wanted = model(*inputs) if recipe == "fp32" else converted.module(*inputs)
    if sample.has_ties:
        result, wanted = _without_indices(result), _without_indices(wanted)
    return _judge(result, wanted, _FLOAT if recipe == "fp32" else _QUANTIZED), result


def _without_indices(result: Any) -> list[Any]:
    """Without the places of elements, of which equal ones may have any order."""
    return [leaf for leaf in pytree.tree_leaves(result) if not _is_index(leaf)]


def _is_index(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dtype is torch.int64


def _draws(captured: Any) -> bool:
    from quanthost.graph.operators import draws

    return any(draws(node) for node in captured.exported.graph.nodes if node.op == "call_function")


def _judge(result: Any, wanted: Any, most: Mapping[torch.dtype, float]) -> Outcome:
    """Whether the leaves are alike: shapes, and the distance in relation to the size of the values."""
    ours, theirs = pytree.tree_leaves(result), pytree.tree_leaves(wanted)
    if len(ours) != len(theirs):
        return "wrong", f"{len(ours)} results, {len(theirs)} expected"
    for number, (one, other) in enumerate(zip(ours, theirs)):
        if not isinstance(other, Tensor):
            if one != other:
                return "wrong", f"result {number} is {one}, {other} expected"
            continue
        if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
            return "wrong", f"result {number} is {getattr(one, 'shape', one)}, {other.shape} expected"
        distance = _distance(one, other)
        if distance > most.get(other.dtype, most[torch.float32]):
            return "wrong", f"result {number} is {distance:.2g} off"
    return "runs", ""


def _distance(one: Tensor, other: Tensor) -> float:
    """``‖a - b‖ / ‖b‖`` of what is finite in both; infinite where one is finite and the other is not."""
    a, b = one.detach().double(), other.detach().double()
    # where the eager result is NaN, nothing is asked
    a, b = a[~b.isnan()], b[~b.isnan()]
    if bool(a.isnan().any()) or not torch.equal(a.isinf(), b.isinf()):
        return math.inf
    finite = b.isfinite()
    a, b = a[finite], b[finite]
    return float((a - b).norm() / max(float(b.norm()), 1e-3)) if b.numel() else 0.0


def _same(one: Any, other: Any) -> bool:
    pairs = zip(pytree.tree_leaves(one), pytree.tree_leaves(other))
    return all(not isinstance(a, Tensor) or torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def _script(model: nn.Module, sample: Sample, recipe: str) -> Outcome:
    """The documented script of ExecuTorch, run in its runtime."""
    from executorch.extension.pybindings import portable_lib
    from incumbent import lower_incumbent

    inputs = sample.inputs
    try:
        torch.export.export(model, inputs)
    except Exception as error:
        return "not captured", (str(error).splitlines() or [""])[0]
    try:
        buffer = lower_incumbent(model, inputs, [inputs], quantize=recipe != "fp32")
    except Exception as error:
        return "refused", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    try:
        result = portable_lib._load_for_executorch_from_buffer(buffer).forward(list(inputs))
    except Exception as error:
        return "fails at run time", (str(error).splitlines() or [""])[0]
    if not sample.has_values:
        return "no fixed values", ""
    # against the model: the script keeps no quantized graph in eager torch
    most = _FLOAT if recipe == "fp32" else dict.fromkeys(_QUANTIZED, 0.3)
    return _judge(result, pytree.tree_leaves(model(*sample.cloned())), most)


# -- workers ----------------------------------------------------------------------------------------------


def _work(names: Sequence[str], samples: int, flows: str) -> None:
    """Do the subjects one after the other, and write a line before and after each sample."""
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    known = subjects()
    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    for name in names:
        lines.write(json.dumps({"begun": name}) + "\n")
        by_sample: dict[str, dict[str, Outcome]] = {}
        try:
            for sample in known[name](samples):
                by_sample[sample.name] = dict(outcomes(sample, flows))
        except Exception as error:
            by_sample[f"{name}/samples"] = {
                "samples": ("no samples", f"{type(error).__name__}: {error}"[:200])
            }
        lines.write(json.dumps({"done": name, "found": by_sample}) + "\n")


class _Journal:
    """The lines of finished subjects, by which a stopped sweep goes on."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        path.parent.mkdir(exist_ok=True)

    def entries(self) -> Iterator[dict[str, Any]]:
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    yield json.loads(line)

    def add(self, entry: dict[str, Any]) -> None:
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _run_worker(names: list[str], samples: int, flows: str, journal: _Journal) -> None:
    """Run workers until all names are done; one that ends or hangs costs the subject that it was at."""
    while names:
        command = [sys.executable, __file__, "--worker", "--samples", str(samples), "--flows", flows]
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(names))
        worker.stdin.close()
        begun, last = None, [time.monotonic()]
        watch = threading.Thread(target=_end_if_silent, args=(worker, last), daemon=True)
        watch.start()
        for line in worker.stdout:
            last[0] = time.monotonic()
            entry = json.loads(line)
            begun = entry.get("begun", begun)
            if "done" in entry:
                journal.add({**entry, "flows": flows})
                names.remove(entry["done"])
                print(entry["done"], dict(_counts(entry)), flush=True)
        code = worker.wait()
        if names:
            kind = "too slow" if code == -9 else "ended"
            lost = begun if begun in names else names[0]
            found = {f"{lost}/-/-": {flows: (kind, f"exit code {code}")}}
            journal.add({"done": lost, "found": found, "flows": flows})
            names.remove(lost)
            print(lost, kind, code, flush=True)


def _end_if_silent(worker: subprocess.Popen[str], last: list[float]) -> None:
    while worker.poll() is None:
        if time.monotonic() - last[0] > _SECONDS:
            worker.kill()
        time.sleep(1)


def _counts(entry: dict[str, Any]) -> Counter[str]:
    return Counter(outcome[0] for flows in entry["found"].values() for outcome in flows.values())


# -- the page ---------------------------------------------------------------------------------------------


def _merged(entries: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One entry a subject, of what several runs with other flows found."""
    by_subject: dict[str, dict[str, dict[str, Outcome]]] = {}
    for entry in entries:
        samples = by_subject.setdefault(entry["done"], {})
        for sample, flows in entry["found"].items():
            samples.setdefault(sample, {}).update(flows)
    for name in sorted(by_subject):
        yield {"done": name, "found": by_subject[name]}


def _summary(entries: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Counts by flow and outcome, the operators that run in each, and each case that does not run."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, dict[str, str]] = defaultdict(dict)
    runs: dict[str, dict[str, bool]] = defaultdict(dict)
    worse: list[str] = []
    for entry in _merged(entries):
        for sample, flows in entry["found"].items():
            for flow, (outcome, said) in flows.items():
                counts[flow][outcome] += 1
                ran = outcome in ("runs", "no fixed values")
                runs[flow][entry["done"]] = runs[flow].get(entry["done"], True) and ran
                if not ran and not flow.startswith("script"):
                    reasons[entry["done"]][f"{sample.rpartition('/')[0].rpartition('/')[2]}: {outcome}"] = (
                        said
                    )
                if flow.startswith("xnnpack_like") and flow.endswith("fast") and not ran:
                    twins = (f"script {flow.split(' ', 1)[1][:-5]}", f"{flow[:-4]}upstream")
                    if any(flows.get(twin, ("",))[0] == "runs" for twin in twins):
                        worse.append(f"{sample} {flow}: {outcome}, {said}")
    return {
        "counts": {flow: dict(count) for flow, count in sorted(counts.items())},
        "operators": {flow: sum(each.values()) for flow, each in sorted(runs.items())},
        "of": {flow: len(each) for flow, each in sorted(runs.items())},
        "worse": worse, "reasons": dict(sorted(reasons.items())),
    }  # fmt: skip


def _page(summary: dict[str, Any]) -> str:
    kinds = sorted({kind for count in summary["counts"].values() for kind in count})
    rows = [
        (
            flow,
            f"{summary['operators'][flow]} of {summary['of'][flow]}",
            *(count.get(kind, 0) for kind in kinds),
        )
        for flow, count in summary["counts"].items()
    ]
    lines = [
        "# Every operator that PyTorch lists", "",
        "`make sweep` takes the sample inputs of PyTorch's own databases of operators and modules",
        "(`op_db`, `module_db`) through both backends, with fast lowering and with upstream's, and through",
        "ExecuTorch's documented script for XNNPACK. In float a result must be within 0.1 % of the eager",
        "one (float16: 1 %), in integers within 10 % of the quantized graph in eager torch.", "",
        "## Samples by outcome", "", table(("flow", "operators", *kinds), rows), "",
        "## Where the script runs, or upstream's lowering", "",
        *([f"- {without_folders(each)[:160]}" for each in summary["worse"]] or ["Nowhere else."]), "",
        "## What does not run", "",
        table(("operator", "outcome", "reason"), [
            (name, outcome, without_folders(said)[:160])
            for name, each in summary["reasons"].items() for outcome, said in each.items()
        ]), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="*", help="a glob over subjects, as 'op/nn.functional.*'")
    parser.add_argument("--flows", default="*", help="a glob over flows, as 'xnnpack_like fp32 * fast'")
    parser.add_argument("--samples", type=int, default=2, help="samples of each dtype")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--anew", action="store_true", help="forget what was done")
    parser.add_argument("--page", action="store_true", help="write the page only")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(json.loads(sys.stdin.read()), options.samples, options.flows)
        return 0
    journal = _Journal(_JOURNAL)
    if options.anew:
        _JOURNAL.unlink(missing_ok=True)
    if not options.page:
        done = {entry["done"] for entry in journal.entries() if entry.get("flows") == options.flows}
        names = [n for n in subjects() if fnmatch.fnmatch(n, options.only) and n not in done]
        shares = [names[number :: options.jobs] for number in range(options.jobs)]
        threads = [
            threading.Thread(target=_run_worker, args=(share, options.samples, options.flows, journal))
            for share in shares
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    summary = _summary(journal.entries())
    _SUMMARY.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    _PAGE.write_text(_page(summary), encoding="utf-8")
    bad = {flow: {kind: n for kind, n in c.items() if kind in BAD} for flow, c in summary["counts"].items()}
    print(json.dumps({flow: each for flow, each in bad.items() if each and not flow.startswith("script")}))
    print(f"worse than upstream or the script: {len(summary['worse'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
