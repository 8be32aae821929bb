"""Compares two programs on the same data: error per output, agreement of classes, latency and size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from rich.table import Table
from torch import Tensor

from quanthost.arith.affine import sqnr_db
from quanthost.errors import InputError
from quanthost.report.columns import byte_size, columns
from quanthost.report.named_tensors import named_tensors

__all__ = [
    "Comparison",
    "Contestant",
    "Measures",
    "compare",
    "comparison_table",
    "measure_latency",
    "top_agreement",
]

Sample = Sequence[Any]


@attrs.frozen(kw_only=True)
class Contestant:
    """A model or program: its name, a callable that takes a sample's arguments, and its file size."""

    name: str
    run: Callable[..., Any] = attrs.field(repr=False)
    size: int | None = None


@attrs.frozen(kw_only=True)
class Measures:
    """The measurements of one contestant: file size in bytes and median milliseconds per call."""

    name: str
    size: int | None
    latency_ms: float | None


@attrs.frozen(kw_only=True)
class Comparison:
    """How close a candidate comes to its reference.

    ``sqnr_db`` pairs each output with its signal to quantization noise ratio in dB over all samples.
    ``top1`` and ``top5`` are shares of rows, 0 to 1, see ``top_agreement``; they are ``None`` without class
    scores (``top5`` also with five classes or fewer).
    """

    reference: Measures
    candidate: Measures
    samples: int
    sqnr_db: tuple[tuple[str, float], ...]
    top1: float | None = None
    top5: float | None = None


def compare(
    reference: Contestant,
    candidate: Contestant,
    samples: Sequence[Sample],
    *,
    scores: str | None = None,
    repeats: int = 20,
) -> Comparison:
    """Run both on every sample, then time them on the first.

    Args:
        reference: What to compare with, usually the float program.
        candidate: What to measure.
        samples: The positional arguments of one call each.
        scores: Name of the output with class scores ``[rows, classes]``, as in ``named_leaves``
            (``"output"`` if the model returns one tensor).
        repeats: Timed calls of each; 0 measures no latency.

    Raises:
        InputError: there is no sample, or the outputs of the two have different names.
    """
    if not samples:
        raise InputError(
            "no sample to compare on", needed="at least one", where="compare", value=samples,
            remedy="pass inputs that were not used for calibration",
        )  # fmt: skip
    expected, actual = _collect(reference, samples), _collect(candidate, samples)
    if expected.keys() != actual.keys():
        raise InputError(
            f"outputs {', '.join(actual)} of {candidate.name}", needed=", ".join(expected),
            where=f"compare with {reference.name}", remedy="compare programs of one model",
        )  # fmt: skip
    runners = {side: _call(c, samples[0]) for side, c in (("r", reference), ("c", candidate))}
    latency = measure_latency(runners, repeats=repeats) if repeats else {}
    return Comparison(
        reference=Measures(name=reference.name, size=reference.size, latency_ms=latency.get("r")),
        candidate=Measures(name=candidate.name, size=candidate.size, latency_ms=latency.get("c")),
        samples=len(samples),
        sqnr_db=tuple((name, sqnr_db(expected[name], actual[name])) for name in expected),
        top1=None if scores is None else _agreement(expected, actual, scores, 1),
        top5=None if scores is None else _agreement(expected, actual, scores, 5),
    )


def measure_latency(
    runners: Mapping[str, Callable[[], Any]], *, repeats: int = 20, warmup: int = 3
) -> dict[str, float]:
    """The median milliseconds per call.

    All are called once per round, in an order that is reversed every time. What slows the machine down for a
    while then slows all of them down, and none always runs after the same other one.
    """
    names = list(runners)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, repeats):
        for name in names if number % 2 else reversed(names):
            start = time.perf_counter()
            runners[name]()
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) * 1e3 for name, times in seconds.items()}


def top_agreement(reference: Tensor, candidate: Tensor, k: int) -> float:
    """The share of rows in which the reference's best class is among the candidate's best ``k``.

    Both are class scores ``[rows, classes]`` of any float dtype; the result is between 0 and 1.
    """
    best = reference.argmax(dim=-1, keepdim=True)
    among = candidate.topk(k, dim=-1).indices
    return float((among == best).any(dim=-1).to(torch.float64).mean())


def comparison_table(comparison: Comparison) -> Table:
    """The measurements of both side by side, then how close the candidate comes."""
    one, two = comparison.reference, comparison.candidate
    rows: list[list[str]] = []
    if one.size is not None and two.size is not None:
        rows.append(["size", byte_size(one.size), byte_size(two.size), f"{two.size / one.size:.2f} ×"])
    if one.latency_ms is not None and two.latency_ms is not None:
        ratio = two.latency_ms / one.latency_ms
        times = [f"{one.latency_ms:.3g} ms", f"{two.latency_ms:.3g} ms"]
        rows.append(["latency, median", *times, f"{ratio:.2f} × ({'slower' if ratio > 1 else 'faster'})"])
    rows += [[f"SQNR of {name}", "", f"{value:.1f} dB", ""] for name, value in comparison.sqnr_db]
    for label, share in (("top-1 agreement", comparison.top1), ("top-5 agreement", comparison.top5)):
        if share is not None:
            rows.append([label, "", f"{share:.1%}", ""])
    headers = [f"{comparison.samples} samples", one.name, two.name, "ratio"]
    return columns(headers, rows, numeric=[one.name, two.name])


def _call(contestant: Contestant, sample: Sample) -> Callable[[], Any]:
    return lambda: contestant.run(*sample)


def _collect(contestant: Contestant, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """All samples' outputs by name, joined along the first axis; a scalar counts as one row."""
    outputs: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for sample in samples:
            for name, tensor in named_tensors(contestant.run(*sample)).items():
                outputs.setdefault(name, []).append(torch.atleast_1d(tensor.detach()))
    return {name: torch.cat(tensors) for name, tensors in outputs.items()}


def _agreement(
    expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], scores: str, k: int
) -> float | None:
    if scores not in expected:
        raise InputError(
            f"class scores in {scores!r}", needed=f"one of {', '.join(expected)}", where="compare",
            remedy="correct or remove the name", value=scores,
        )  # fmt: skip
    if k > 1 and expected[scores].shape[-1] <= k:
        return None
    return top_agreement(expected[scores], actual[scores], k)
