"""``quanthost inspect``: what is known of a program, from its file and the record beside it."""

from __future__ import annotations

from pathlib import Path

from quanthost.cli.output import write, write_json
from quanthost.errors import ProgramError
from quanthost.report.program_text import method_facts, program_document, record_facts
from quanthost.report.pte_file import read_pte
from quanthost.stages.lowering.files import read_program

__all__ = ["inspect", "show_program"]


def inspect(path: Path, *, as_json: bool, decisions: bool) -> None:
    """Show a program; without a record, what its file alone tells.

    Raises:
        ProgramError: no such file, no program, or a record that belongs to another one.
    """
    if not path.is_file():
        raise ProgramError(
            f"no file {path}", needed="a .pte file", where="inspect", remedy="correct the path", value=path
        )
    show_program(path, as_json=as_json, decisions=decisions)


def show_program(path: Path, *, as_json: bool, decisions: bool = False) -> None:
    """The document of a program, or its facts with the summary or the list of decisions."""
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
    known = facts([("program", str(path)), *record_facts(record), *method_facts(methods, len(buffer))])
    write(known, Text(), listing(record.decisions) if decisions else summary(record.decisions))
