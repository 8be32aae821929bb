"""``quanthost measure``: what a backend's operators take on this machine, kept for ``--optimize-for``."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from quanthost.cli.commands.quantize import Sources
from quanthost.cli.exits import UsageError
from quanthost.cli.output import chatter_on_stderr
from quanthost.cli.progress_display import shown
from quanthost.host.discovery import Policy
from quanthost.host.measured_costs import costs_path, load_costs, save_costs
from quanthost.host.measuring import measure_costs
from quanthost.report.columns import columns
from quanthost.stages.lowering.timing import machine
from quanthost.values import CostTable, Kernel

__all__ = ["measure"]


def measure(
    backend: str, models: Sequence[str], output: Path | None, policy: Policy, *, force: bool, as_json: bool
) -> None:
    """Measure, merge with what the file has, save, and show the rows.

    Raises:
        UsageError: the file holds costs of another machine or backend.
    """
    target = costs_path(backend) if output is None else output
    held = None if force or not target.exists() else _held(target, backend)
    sources = [Sources.of(text, None, None) for text in models]
    with chatter_on_stderr(), shown() as progress:
        loaded = [source.load((backend,), policy)[:2] for source in sources]
        table = measure_costs(backend, loaded, policy=policy, progress=progress)
        table = table if held is None else held.merged(table)
        save_costs(table, target)
    _show(table, target, as_json=as_json)


def _held(target: Path, backend: str) -> CostTable:
    held = load_costs(target)
    here = machine()
    if (held.backend, held.machine) != (backend, here):
        raise UsageError(
            f"{target} with costs of {held.backend} on {held.machine}",
            needed=f"costs of {backend} on {here}", where="--output",
            remedy="name another file, or replace it with --force", value=target,
        )  # fmt: skip
    return held


def _show(table: CostTable, target: Path, *, as_json: bool) -> None:
    rows = list(_speedups(table))
    if as_json:
        document = {
            "path": str(target), "backend": table.backend, "machine": table.machine,
            "rows": [dict(zip(("row", "kernel", "sizes", "least", "mean", "most"), row)) for row in rows],
            "skipped": dict(table.skipped),
        }  # fmt: skip
        print(json.dumps(document, indent=2))
        return
    from rich.console import Console

    console = Console()
    heads = ("row", "kernel", "sizes", "least", "mean", "most")
    numbers = ((row, kernel, str(n), *(f"{x:.2f}" for x in ratios)) for row, kernel, n, *ratios in rows)
    console.print(f"times faster than float, on {table.machine}", highlight=False)
    console.print(columns(heads, numbers, numeric=heads[2:], whole=heads[:1]))
    for row, reason in table.skipped:
        console.print(f"not measured: {row}: {reason}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"kept in {target}", highlight=False, markup=False, soft_wrap=True)


def _speedups(table: CostTable) -> Iterator[tuple[str, str, int, float, float, float]]:
    """Row, kernel, number of sizes; float over integer time: the least, the geometric mean, the most."""
    in_float = {(s.row, s.sizes): s.seconds for s in table.sites if s.kernel is Kernel.FLOAT}
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for site in table.sites:
        if site.kernel is not Kernel.FLOAT and (site.row, site.sizes) in in_float:
            ratio = in_float[site.row, site.sizes] / site.seconds
            ratios[site.row, site.kernel.value].append(ratio)
    for (row, kernel), each in ratios.items():
        mean = math.exp(sum(map(math.log, each)) / len(each))
        yield row, kernel, len(each), min(each), mean, max(each)
