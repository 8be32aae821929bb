"""Explains why a model could not be captured: the line, the construct, the ExportDB case, the rewrite."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

import attrs

from quanthost.errors import CaptureError
from quanthost.graph.provenance import Location, innermost, locations
from quanthost.stages.capturing.constructs import CONSTRUCTS, UNKNOWN, Construct
from quanthost.toolchain.error_text import first_paragraph, on_one_line
from quanthost.toolchain.export import guard_lines

__all__ = ["Diagnosis", "diagnose"]


@attrs.frozen(kw_only=True)
class Diagnosis:
    """The ``value`` of a ``CaptureError``.

    ``case`` is a name in ``torch._export.db.examples``, ``None`` if no case covers the construct.
    """

    construct: str
    case: str | None
    location: Location | None


def diagnose(error: BaseException, model: object) -> CaptureError:
    """The error that explains why a model could not be traced; ``error`` becomes its cause.

    It names the innermost running line of the user's code. If none was running, it names a line that
    restricted a dynamic size, else the head of the model's ``forward``.
    """
    running = innermost(locations(error.__traceback__))
    line = running if running is not None else innermost(guard_lines(error.__traceback__))
    construct, groups = _recognize(error, line, running is not None)
    fields = _fields(error, model) | {name: on_one_line(text) for name, text in groups.items() if text}
    refusal = _refusal(construct, fields, line if line is not None else _head_of_forward(model), model)
    refusal.__cause__ = error
    return refusal


def _recognize(
    error: BaseException, line: Location | None, running: bool
) -> tuple[Construct, Mapping[str, str | None]]:
    """The first construct of the table that matches, with the named groups of its message."""
    kinds = frozenset(kind.__name__ for kind in type(error).__mro__)
    text = "" if line is None else line.text
    for construct in CONSTRUCTS:
        groups = construct.match(kinds, str(error), text, running)
        if groups is not None:
            return construct, groups
    return UNKNOWN, {}


def _fields(error: BaseException, model: object) -> dict[str, str]:
    """The fields that the texts of a construct may use."""
    return {
        "error": type(error).__name__, "said": first_paragraph(error),
        "forward": f"forward{_parameters(model)}",
    }  # fmt: skip


def _parameters(model: object) -> str:
    """``(x, mask=None)``, without annotations; empty if the signature is not available."""
    try:
        full = inspect.signature(model.forward)  # type: ignore[attr-defined]  # a module's
    except (AttributeError, TypeError, ValueError):
        return ""
    bare = [parameter.replace(annotation=full.empty) for parameter in full.parameters.values()]
    return str(full.replace(parameters=bare, return_annotation=full.empty))


def _refusal(
    construct: Construct, fields: Mapping[str, str], place: Location | None, model: object
) -> CaptureError:
    owner = type(model).__name__
    name, case = construct.construct.format_map(fields), construct.case
    example = "" if case is None else f"; see the case {case} of torch._export.db (ExportDB)"
    return CaptureError(
        name, needed=construct.needed.format_map(fields),
        where=owner if place is None else place.described(owner),
        remedy=construct.rewrite.format_map(fields) + example, stage="capture",
        value=Diagnosis(construct=name, case=case, location=place),
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
