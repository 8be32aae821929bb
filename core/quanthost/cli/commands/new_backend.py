"""``quanthost new-backend``: an installable distribution to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quanthost.cli.options import Json
from quanthost.cli.usage import UsageError

__all__ = ["new_backend"]


def new_backend(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What users will ask for.")],
    directory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to make. [default: quanthost-NAME]")
    ] = None,
    delegate: Annotated[
        bool | None,
        typer.Option(
            "--delegate/--no-delegate",
            help="Lower to a delegate of its own, or to ExecuTorch's kernels. [default: delegate]",
        ),
    ] = None,
    wrap: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="MODULE:QUANTIZER MODULE:PARTITIONER",
            help="Adapt an existing PT2E quantizer and ExecuTorch partitioner.",
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="How the target rescales. [default: fp32_half_even]")
    ] = None,
    json: Json = False,
) -> None:
    """Make a backend to begin with: it installs, quantizes a network and passes the conformance suite."""
    from quanthost.cli.output import chatter_on_stderr, write_json
    from quanthost.scaffold.plan import Kind, make_plan
    from quanthost.scaffold.rendering import render
    from quanthost.scaffold.writing import refuse_existing, write_folder
    from quanthost.toolchain.quiet import quiet_imports

    if wrap is not None and delegate is not None:
        raise UsageError(
            "--wrap with --delegate or --no-delegate", needed="one of them", where="command line",
            remedy="leave one out: what is wrapped says itself where its programs run",
        )  # fmt: skip
    kind = Kind.WRAP if wrap is not None else Kind.PORTABLE if delegate is False else Kind.DELEGATE
    plan = make_plan(name, kind=kind, profile=profile)
    folder = directory if directory is not None else Path(plan.distribution)
    refuse_existing(folder)
    if wrap is not None:
        with quiet_imports(), chatter_on_stderr():
            from quanthost.scaffold.wraps import find_wrapped

            plan = make_plan(name, kind=kind, profile=profile, wrapped=find_wrapped(*wrap))
    content = render(plan)
    write_folder(folder, content)
    if json:
        write_json({"folder": str(folder), "distribution": plan.distribution, "files": sorted(content)})
        return
    for path in sorted(content):
        typer.echo(f"  {folder / path}")
    typer.echo(
        f"\nThe backend {name!r} is in {folder}. Next:\n"
        f"  pip install --editable '{folder}[dev]'\n"
        f"  quanthost check-backend {name}\n"
        f"Its README.md says which file to replace first."
    )
