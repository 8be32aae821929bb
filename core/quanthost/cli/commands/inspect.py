"""``quanthost inspect``: a program as its file and the record beside it describe it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quanthost.cli.options import Json
from quanthost.errors import ProgramError

__all__ = ["inspect", "show_program"]


def inspect(
    program: Annotated[Path, typer.Argument(metavar="FILE.pte")],
    decisions: Annotated[bool, typer.Option("--decisions", help="List every node.")] = False,
    json: Json = False,
) -> None:
    """Show how a program was made, what it consists of, and what became of each node."""
    if not program.is_file():
        raise ProgramError(
            f"no file {program}", needed="a .pte file", where="inspect", remedy="correct the path",
            value=program,
        )  # fmt: skip
    show_program(program, as_json=json, decisions=decisions)


def show_program(path: Path, *, as_json: bool, decisions: bool = False) -> None:
    """Write the document of a program, or its facts with the summary or the list of decisions.

    Without a record, these are the facts that its file alone has.

    Raises:
        ProgramError: the file is no program, or the record belongs to another one.
    """
    from quanthost.cli.output import write, write_json
    from quanthost.report.program_text import method_facts, program_document, record_facts
    from quanthost.report.pte_file import read_pte
    from quanthost.stages.lowering.files import read_program

    buffer = path.read_bytes()
    methods = read_pte(buffer, str(path))
    beside = path.with_suffix(".json")
    record = None
    if beside.is_file():
        _, record = read_program(path)
    if as_json:
        write_json(program_document(str(path), len(buffer), methods, record, decisions=decisions))
        return
    from rich.text import Text

    from quanthost.report.columns import facts
    from quanthost.report.decision_table import listing, summary

    if record is None:
        missing = ("record", f"no {beside.name} beside it: backend, recipe and decisions are not known")
        write(facts([("program", str(path)), *method_facts(methods, len(buffer)), missing]))
        return
    pairs = [("program", str(path)), *record_facts(record), *method_facts(methods, len(buffer))]
    write(facts(pairs), Text(), listing(record.decisions) if decisions else summary(record.decisions))
