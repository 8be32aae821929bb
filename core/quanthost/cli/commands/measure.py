"""``quanthost measure``: what a backend's operators cost on this machine, for ``--optimize-for latency``."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quanthost.cli.options import BackendName, Force, Inputs, Json, Options, ToolchainName, policy_of
from quanthost.cli.usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quanthost.values import CostTable

__all__ = ["measure"]


def measure(
    context: typer.Context,
    backend: BackendName,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:CALLABLE",
            help="Measure this model's operators at their own sizes, instead of the table's at a few.",
        ),
    ] = None,
    inputs: Inputs = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.json", help="New costs are added to those in it."),
    ] = None,
    set_: Options = None,
    toolchain: ToolchainName = None,
    force: Force = None,
    json: Json = False,
) -> None:
    """Measure here what a backend's operators take, in integers and in float."""
    import quanthost
    from quanthost.cli import settings
    from quanthost.cli.output import chatter_on_stderr
    from quanthost.cli.progress_display import show_progress
    from quanthost.cli.sources import Sources
    from quanthost.host.measured_costs import costs_path, save_costs
    from quanthost.host.target import Target

    typed = settings.merge({"toolchain": toolchain}, {})
    target = Target(
        backend=backend, options=settings.parse_options(set_ if set_ else ()), policy=policy_of(context),
        **typed,
    )  # fmt: skip
    file = costs_path(backend) if output is None else output
    earlier = None if force or not file.exists() else _earlier(file, backend)
    sources = [Sources.of(text, {"inputs": inputs}) for text in (model if model else ())]
    with chatter_on_stderr(), show_progress() as progress:
        models = [source.load(target)[:2] for source in sources]
        table = quanthost.measure_costs(target, models, progress=progress)
        table = table if earlier is None else earlier.merged(table)
        save_costs(table, file)
    _show(table, file, as_json=json)


def _earlier(file: Path, backend: str) -> CostTable:
    """The costs that the file has, which must be of this backend and machine."""
    from quanthost.host.measured_costs import load_costs
    from quanthost.stages.lowering.timing import machine

    table, here = load_costs(file), machine()
    if (table.backend, table.machine) != (backend, here):
        raise UsageError(
            f"{file} with costs of {table.backend} on {table.machine}",
            needed=f"costs of {backend} on {here}", where="--output",
            remedy="name another file, or replace it with --force", value=file,
        )  # fmt: skip
    return table


def _show(table: CostTable, file: Path, *, as_json: bool) -> None:
    from rich.console import Console

    from quanthost.cli.output import write_json
    from quanthost.report.columns import columns

    rows = list(_speedups(table))
    heads = ("row", "kernel", "sizes", "least", "mean", "most")
    if as_json:
        write_json({
            "path": str(file), "backend": table.backend, "machine": table.machine,
            "rows": [dict(zip(heads, row)) for row in rows], "skipped": dict(table.skipped),
        })  # fmt: skip
        return
    console = Console()
    numbers = ((row, kernel, str(n), *(f"{x:.2f}" for x in ratios)) for row, kernel, n, *ratios in rows)
    console.print(f"times faster than float, on {table.machine}", highlight=False)
    console.print(columns(heads, numbers, numeric=heads[2:], whole=heads[:1]))
    for row, reason in table.skipped:
        console.print(f"not measured: {row}: {reason}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"saved to {file}", highlight=False, markup=False, soft_wrap=True)


def _speedups(table: CostTable) -> Iterator[tuple[str, str, int, float, float, float]]:
    """Row, kernel, number of sizes; float over integer time: the least, the geometric mean, the most."""
    from quanthost.values import Kernel

    in_float = {(s.row, s.sizes): s.seconds for s in table.sites if s.kernel is Kernel.FLOAT}
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for site in table.sites:
        if site.kernel is not Kernel.FLOAT and (site.row, site.sizes) in in_float:
            ratio = in_float[site.row, site.sizes] / site.seconds
            ratios[site.row, site.kernel.value].append(ratio)
    for (row, kernel), each in ratios.items():
        mean = math.exp(sum(map(math.log, each)) / len(each))
        yield row, kernel, len(each), min(each), mean, max(each)
