"""A program as text and JSON: the contents of its ``.pte`` file, and of the record beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from quanthost.report.columns import byte_size
from quanthost.values import Latency, ProgramRecord, ToolchainRecord, Verdict, to_data

if TYPE_CHECKING:
    from quanthost.report.pte_file import MethodFacts, TensorFacts

__all__ = ["method_facts", "program_document", "record_facts"]

Facts = Iterator[tuple[str, str]]


def method_facts(methods: Sequence[MethodFacts], size: int) -> Facts:
    """Labels and texts from the ``.pte`` file; ``size`` is its size in bytes."""
    yield "size", byte_size(size)
    for method in methods:
        if len(methods) > 1:
            yield "method", method.name
        yield "inputs", ", ".join(map(_tensor, method.inputs)) or "none"
        yield "outputs", ", ".join(map(_tensor, method.outputs)) or "none"
        yield "memory", f"{byte_size(method.memory)} for activations"
        yield "delegate calls", _counted(Counter(method.delegates).items())
        yield "kernel calls", _counted(method.kernels)


def record_facts(record: ProgramRecord) -> Facts:
    """Labels and texts from the record, without the decisions."""
    versions = {plugin.name: f" ({plugin.distribution} {plugin.version})" for plugin in record.plugins}
    yield "backend", ", ".join(name + versions.get(name, "") for name in record.backends)
    yield "recipe", f"{record.recipe}, {record.representation}" + (", trained" if record.qat else "")
    if record.options:
        yield "options", ", ".join(f"{name}={value}" for name, value in record.options)
    for override in record.overrides:
        yield "override", str(override)
    yield "model", f"{record.model}, {_short(record.model_digest)}"
    yield "data", _short(record.data_digest) or "none"
    yield "versions", ", ".join(f"{name} {version}" for name, version in record.versions)
    if record.toolchain not in (None, ToolchainRecord()):
        yield "toolchain", "; ".join((record.toolchain.way.value, *record.toolchain.notes))
    if record.missing_kernels:
        yield "not here", f"no kernel in the runtime that made it: {', '.join(record.missing_kernels)}"
    for finding in record.findings:
        yield "warning", str(finding)
    if record.latency is not None:
        yield "latency", _latency(record.latency)
    pieces = len(record.pieces)
    yield (
        "delegated",
        f"{record.delegated_share:.1%} of the operators, in {pieces} piece{'s' * (pieces != 1)}",
    )


def program_document(
    path: str,
    size: int,
    methods: Sequence[MethodFacts],
    record: ProgramRecord | None,
    *,
    decisions: bool = False,
) -> dict[str, Any]:
    """The same as plain data for JSON; ``record`` is ``None`` if the program has none."""
    program = {"path": path, "bytes": size, "methods": to_data(tuple(methods))}
    document = {"program": program, "record": None if record is None else _record_document(record)}
    if decisions and record is not None:
        document["decisions"] = to_data(record.decisions)
    return document


def _record_document(record: ProgramRecord) -> dict[str, Any]:
    verdicts = Counter(decision.verdict for decision in record.decisions)
    return {
        "backends": list(record.backends),
        "recipe": record.recipe,
        "representation": record.representation,
        "qat": record.qat,
        "options": dict(record.options),
        "overrides": to_data(record.overrides),
        "plugins": to_data(record.plugins),
        "versions": dict(record.versions),
        "model": record.model,
        "digests": {
            "program": record.program_digest, "model": record.model_digest, "data": record.data_digest or None
        },
        "delegated_share": record.delegated_share,
        "toolchain": to_data(record.toolchain),
        "missing_kernels": list(record.missing_kernels),
        "findings": to_data(record.findings),
        "latency": to_data(record.latency),
        "pieces": to_data(record.pieces),
        "outside": dict(Counter(record.outside)),
        "nodes": {verdict.value: verdicts[verdict] for verdict in Verdict},
    }  # fmt: skip


def _latency(latency: Latency) -> str:
    """The expected time of the operators that could be integer, and the measured time of the program."""
    expected = (
        f"expected {_time(latency.expected)} for what could be integer ({_time(latency.all_integer)} all in "
        f"integers, {_time(latency.all_float)} all in float) on {latency.table_machine}"
    )
    if latency.unpriced:
        count = len(latency.unpriced)
        expected += f"; {count} operator{'s' * (count != 1)} without a measured cost left in integers"
    if latency.measured is None:
        return f"{expected}; {latency.note or 'not measured'}"
    return f"{expected}; measured {_time(latency.measured)} for the program on {latency.machine}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _tensor(tensor: TensorFacts | None) -> str:
    if tensor is None:
        return "no tensor"
    bound = "up to " if tensor.bounded else ""
    return f"{tensor.dtype} {bound}{list(tensor.shape)}"


def _short(digest: str) -> str:
    """The beginning of a digest: ``"sha256:2d65e7c39774"``."""
    name, colon, digits = digest.partition(":")
    return name + colon + digits[:12]


def _counted(names: Iterable[tuple[str, int]]) -> str:
    """``"aten.mean.out, 2 × aten.add.out"``."""
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in names) or "none"
