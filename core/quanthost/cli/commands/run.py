"""``quanthost run``: execute a saved program, and show its outputs and how long a call takes."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quanthost.cli.options import Force, Json
from quanthost.cli.usage import refuse_existing

if TYPE_CHECKING:
    from quanthost import LoweredProgram
    from quanthost.cli.program_tensors import OutputSummary

__all__ = ["run"]


def run(
    program: Annotated[Path, typer.Argument(metavar="FILE.pte")],
    inputs: Annotated[
        str,
        typer.Option(
            "--inputs", "-i", metavar="FILE|random", help="An .npz or .safetensors, named as the inputs."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.npz", help="Store the outputs.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=0, help="Timed calls.")] = 10,
    force: Force = None,
    json: Json = False,
) -> None:
    """Execute a program in the ExecuTorch runtime of this machine.

    One call warms up and gives the outputs; the timed ones follow.
    """
    import quanthost
    from quanthost.cli.output import chatter_on_stderr, write_json

    if output is not None:
        refuse_existing(output, force=bool(force))
    loaded = quanthost.load(program)
    from quanthost.cli.program_tensors import program_arguments, summarize
    from quanthost.debugging.tensor_files import write_npz
    from quanthost.graph.signature import Signature
    from quanthost.report.named_tensors import named_leaves, named_tensors
    from quanthost.values import to_data

    with chatter_on_stderr():
        args, kwargs = program_arguments(Signature.from_json(loaded.record.signature), inputs)
        outputs = loaded.run(*args, **kwargs)
        seconds = [_time(loaded, args, kwargs) for _ in range(repeat)]
    if output is not None:
        write_npz(output, named_tensors(outputs))
    median = statistics.median(seconds) * 1e3 if seconds else None
    summaries = [summarize(name, leaf) for name, leaf in named_leaves(outputs)]
    if json:
        write_json(
            {"program": str(program), "outputs": to_data(summaries), "latency_ms": median, "runs": repeat}
        )
    else:
        _show(summaries, median, repeat)


def _time(program: LoweredProgram, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    start = time.perf_counter()
    program.run(*args, **kwargs)
    return time.perf_counter() - start


def _show(summaries: list[OutputSummary], median: float | None, runs: int) -> None:
    from quanthost.cli.output import write
    from quanthost.report.columns import columns, facts

    numeric = ["min", "max", "mean", *(["not finite"] if any(s.not_finite for s in summaries) else [])]
    rows = (
        [
            summary.name, f"{summary.kind} {list(summary.shape)}",
            *(_number(value) for value in (summary.minimum, summary.maximum, summary.mean)),
            *([str(summary.not_finite)] if "not finite" in numeric else []),
        ]
        for summary in summaries
    )  # fmt: skip
    write(columns(["output", "tensor", *numeric], rows, numeric=numeric))
    if median is not None:
        write(facts([("\nlatency", f"\n{median:.3g} ms, median of {runs}")]))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
