"""Expected failures and stated tolerances, which a backend author writes into a TOML file."""

from __future__ import annotations

import fnmatch
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from quanthost.errors import RequestError
from quanthost.testing.results import CaseResult, Outcome
from quanthost.values import checks

__all__ = ["Expectation", "Expectations", "Tolerance"]


def _check_text(owner: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        checks.refuse(
            owner, attribute.name, f"{attribute.name}={value!r}", needed="a text",
            remedy=f"write {attribute.name} = \"…\"", value=value,
        )  # fmt: skip


@attrs.frozen(kw_only=True)
class Expectation:
    """A case, or a glob over ids, that is known to fail; the reason, and a link that explains it."""

    case: str = attrs.field(validator=_check_text)
    reason: str = attrs.field(validator=_check_text)
    link: str | None = attrs.field(default=None, validator=checks.kind(str, optional=True))

    def matches(self, case: str) -> bool:
        return fnmatch.fnmatchcase(case, self.case)


@attrs.frozen(kw_only=True)
class Tolerance:
    """How far the results of a case, or of a glob over ids, may be off.

    ``lsb`` is in steps of the result's scale, ``relative`` a share of the largest value of a float result.
    """

    case: str = attrs.field(validator=_check_text)
    reason: str = attrs.field(validator=_check_text)
    lsb: float | None = None
    relative: float | None = None

    def __attrs_post_init__(self) -> None:
        limits = [value for value in (self.lsb, self.relative) if value is not None]
        if not limits or any(isinstance(v, bool) or not isinstance(v, (int, float)) or v < 0 for v in limits):
            checks.refuse(
                self, "lsb", f"lsb={self.lsb!r}, relative={self.relative!r}",
                needed="at least one of them, a number from 0", remedy="write for example lsb = 1",
            )  # fmt: skip


@attrs.frozen(kw_only=True)
class Expectations:
    """The entries of a file; the first that matches a case is used."""

    expected: tuple[Expectation, ...] = attrs.field(default=(), converter=checks.as_tuple)
    tolerances: tuple[Tolerance, ...] = attrs.field(default=(), converter=checks.as_tuple)

    @classmethod
    def of(cls, given: Expectations | Iterable[Expectation] | str | os.PathLike[str] | None) -> Expectations:
        """From entries, from a file, or without any.

        Raises:
            RequestError: the file cannot be read, or an entry of it lacks its case or its reason.
        """
        if given is None:
            return cls()
        if isinstance(given, Expectations):
            return given
        return _read(Path(given)) if isinstance(given, (str, os.PathLike)) else cls(expected=given)

    def tolerance(self, case: str) -> Tolerance | None:
        return next((each for each in self.tolerances if fnmatch.fnmatchcase(case, each.case)), None)

    def applied(self, cases: Iterable[CaseResult], *, all_ran: bool) -> tuple[list[CaseResult], list[str]]:
        """The cases with expected failures marked, and the problems of the entries themselves.

        An entry that matches no case is a problem if ``all_ran``.
        """
        marked: list[CaseResult] = []
        unused = dict.fromkeys(self.expected if all_ran else ())
        for case in cases:
            entry = next((each for each in self.expected if each.matches(case.id)), None)
            if entry is None:
                marked.append(case)
            else:
                unused.pop(entry, None)
                marked.append(_mark(case, entry))
        return marked, [f"the entry {entry.case!r} matches no case: correct or remove it" for entry in unused]


def _mark(case: CaseResult, entry: Expectation) -> CaseResult:
    reason = entry.reason if entry.link is None else f"{entry.reason} ({entry.link})"
    if case.outcome is Outcome.FAILED:
        return attrs.evolve(case, outcome=Outcome.XFAILED, message=f"{reason}: {case.message}")
    if case.outcome is Outcome.PASSED:
        text = f"it passes, and was expected to fail: {reason}; remove the entry {entry.case!r}"
        return attrs.evolve(case, outcome=Outcome.XPASSED, message=text)
    return case


def _read(path: Path) -> Expectations:
    """The entries of a TOML file: ``[[expected]]`` and ``[[tolerance]]``."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _error(f"{path}, which cannot be read: {error}", str(path)) from error
    unknown = data.keys() - {"expected", "tolerance"}
    if unknown:
        raise _error(f"the tables {', '.join(sorted(unknown))}", str(path))
    return Expectations(
        expected=[_read_entry(Expectation, item, path) for item in data.get("expected", ())],
        tolerances=[_read_entry(Tolerance, item, path) for item in data.get("tolerance", ())],
    )


def _read_entry(kind: Any, item: Any, path: Path) -> Any:
    fields = attrs.fields_dict(kind)
    if not isinstance(item, dict) or item.keys() - fields.keys():
        raise _error(f"the entry {item!r}", str(path))
    missing = [name for name, field in fields.items() if field.default is attrs.NOTHING and name not in item]
    if missing:
        raise _error(f"the entry {item!r} without {' and '.join(missing)}", str(path))
    return kind(**item)


def _error(problem: str, where: str) -> RequestError:
    return RequestError(
        problem, where=where, stage="check-backend",
        needed="[[expected]] entries with case, reason and perhaps link; [[tolerance]] entries with case,"
        " reason, and lsb or relative",
        remedy="correct the file",
    )  # fmt: skip
