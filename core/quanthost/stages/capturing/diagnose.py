"""What kept a model from being captured: the line, the construct, the matching ExportDB case, the rewrite."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

import attrs

from quanthost.errors import CaptureError
from quanthost.graph.provenance import Location, innermost, locations
from quanthost.stages.capturing.constructs import ROWS, UNKNOWN, Row
from quanthost.toolchain.export import guard_lines

__all__ = ["Diagnosis", "diagnose"]

_LONGEST = 300


@attrs.frozen(kw_only=True)
class Diagnosis:
    """What a ``CaptureError`` carries as its ``value``.

    ``case`` is a name in ``torch._export.db.examples``, ``None`` where no case is about the construct.
    """

    construct: str
    case: str | None
    location: Location | None


def diagnose(error: BaseException, model: object) -> CaptureError:
    """The refusal that explains why a model could not be traced; ``error`` is its cause.

    The line is the innermost one of the user's code that was running. Where none was, it is one that
    restricted a dynamic size, and at last the head of the model's ``forward``.
    """
    running = innermost(locations(error.__traceback__))
    line = running if running is not None else innermost(guard_lines(error.__traceback__))
    row, found = _row(error, line, running is not None)
    filled = _fillings(error, model) | {name: _flat(text) for name, text in found.items() if text}
    refusal = _refusal(row, filled, line if line is not None else _head_of_forward(model), model)
    refusal.__cause__ = error
    return refusal


def _row(error: BaseException, line: Location | None, running: bool) -> tuple[Row, Mapping[str, str | None]]:
    kinds = frozenset(kind.__name__ for kind in type(error).__mro__)
    text = "" if line is None else line.text
    for row in ROWS:
        found = row.match(kinds, str(error), text, running)
        if found is not None:
            return row, found
    return UNKNOWN, {}


def _fillings(error: BaseException, model: object) -> dict[str, str]:
    """What the texts of a row may name."""
    said = _flat(re.split(r"\n\n|\s*For more information", str(error).strip())[0])
    return {"error": type(error).__name__, "said": said, "forward": f"forward{_parameters(model)}"}


def _parameters(model: object) -> str:
    """``(x, mask=None)``, without annotations; empty where it cannot be known."""
    try:
        full = inspect.signature(model.forward)  # type: ignore[attr-defined]  # a module's
    except (AttributeError, TypeError, ValueError):
        return ""
    bare = [parameter.replace(annotation=full.empty) for parameter in full.parameters.values()]
    return str(full.replace(parameters=bare, return_annotation=full.empty))


def _flat(text: str) -> str:
    """On one line, shortened."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else flat[:_LONGEST] + " …"


def _refusal(row: Row, filled: Mapping[str, str], place: Location | None, model: object) -> CaptureError:
    owner = type(model).__name__
    construct = row.construct.format_map(filled)
    case = f"; see the case {row.case} of torch._export.db (ExportDB)" if row.case is not None else ""
    return CaptureError(
        construct, needed=row.needed.format_map(filled),
        where=owner if place is None else place.described(owner),
        remedy=row.rewrite.format_map(filled) + case, stage="capture",
        value=Diagnosis(construct=construct, case=row.case, location=place),
    )  # fmt: skip


def _head_of_forward(model: object) -> Location | None:
    forward = inspect.unwrap(getattr(type(model), "forward", lambda: None))
    try:
        lines, first = inspect.getsourcelines(forward)
    except (OSError, TypeError):
        return None
    offset = next((i for i, line in enumerate(lines) if re.match(r"\s*(async )?def ", line)), 0)
    place = Location(
        file=inspect.getsourcefile(forward) or "", line=first + offset, function="forward",
        text=lines[offset].strip(),
    )  # fmt: skip
    return place if place.is_users else None
