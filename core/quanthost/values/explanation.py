"""The records of ``why``: for an operator, each row that was tried in the captured and the edge graph."""

from __future__ import annotations

import enum

import attrs

from quanthost.values import checks
from quanthost.values.decision import Decision
from quanthost.values.recipe import Kernel

__all__ = ["Explanation", "Outcome", "RowAttempt", "Search", "Why"]

_TEXT = checks.kind(str)
_TEXTS = checks.each(_TEXT)


class Outcome(enum.Enum):
    """How far a row came at an operator.

    ``TAKEN``: the row has the operator. ``PATTERN``: the pattern does not hold. ``CONSTRAINT``: the pattern
    holds, but a constraint refused. ``KERNEL``: the row is not for this arithmetic. ``CLOSED``: an override,
    a backend of higher priority or another kernel had one of its operators. ``OUTDONE``: another row, usually
    a longer one, has the operator. ``DROPPED``: the row matched, and was dropped because of cost, because no
    qspecs were chosen, or because tensors that must share parameters could not.
    """

    TAKEN = "taken"
    PATTERN = "pattern"
    CONSTRAINT = "constraint"
    KERNEL = "kernel"
    CLOSED = "closed"
    OUTDONE = "outdone"
    DROPPED = "dropped"


@attrs.frozen(kw_only=True)
class RowAttempt:
    """One row at one place: ``nodes`` are the operators that it would cover, or where its pattern stopped.

    ``found`` and ``expected`` are the obstacle and what was needed instead; ``found`` is empty for a row
    that was taken. ``facts`` are the shapes, dtypes and arguments that a constraint saw.
    """

    row: str = attrs.field(validator=_TEXT)
    pattern: str = attrs.field(validator=_TEXT)
    kernel: Kernel = attrs.field(validator=checks.kind(Kernel))
    outcome: Outcome = attrs.field(validator=checks.kind(Outcome))
    nodes: tuple[str, ...] = attrs.field(default=(), converter=checks.as_tuple, validator=_TEXTS)
    found: str = attrs.field(default="", validator=_TEXT)
    expected: str = attrs.field(default="", validator=_TEXT)
    facts: tuple[tuple[str, str], ...] = attrs.field(
        default=(), converter=checks.as_pairs, validator=checks.each(checks.pair(_TEXT))
    )


@attrs.frozen(kw_only=True)
class Search:
    """The rows that one backend tried for one operator of one graph.

    ``node`` and ``operator`` are those of the searched graph. ``others`` is the number of rows that do not
    mention the operator and were not tried. ``partition`` is the delegated piece that the operator of an
    edge graph lies in. ``note`` says who decided where there is no table to search.
    """

    backend: str = attrs.field(validator=_TEXT)
    node: str = attrs.field(validator=_TEXT)
    operator: str = attrs.field(validator=_TEXT)
    recipe: str | None = attrs.field(default=None, validator=checks.kind(str, optional=True))
    attempts: tuple[RowAttempt, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.kind(RowAttempt))
    )
    others: int = attrs.field(default=0, validator=checks.kind(int))
    partition: str | None = attrs.field(default=None, validator=checks.kind(str, optional=True))
    note: str = attrs.field(default="", validator=_TEXT)


_SEARCHES = checks.each(checks.kind(Search))


@attrs.frozen(kw_only=True)
class Why:
    """One operator of the captured graph: the decision, and the searches that led to it.

    ``captured`` has the searches of ``prepare``, in the order of backends; ``edge`` those of partitioners.
    """

    decision: Decision = attrs.field(validator=checks.kind(Decision))
    captured: tuple[Search, ...] = attrs.field(converter=checks.as_tuple, validator=_SEARCHES)
    edge: tuple[Search, ...] = attrs.field(default=(), converter=checks.as_tuple, validator=_SEARCHES)


@attrs.frozen(kw_only=True)
class Explanation:
    """The result of ``why``: one entry for each operator that ``selector`` selects, in graph order.

    ``lowered`` is false if the edge graph was not searched; ``note`` then says why.
    """

    model: str = attrs.field(validator=_TEXT)
    backends: tuple[str, ...] = attrs.field(converter=checks.as_tuple, validator=_TEXTS)
    recipe: str = attrs.field(validator=_TEXT)
    selector: str = attrs.field(validator=_TEXT)
    operators: tuple[Why, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.kind(Why))
    )
    lowered: bool = attrs.field(default=False, validator=checks.kind(bool))
    note: str = attrs.field(default="", validator=_TEXT)
