"""Why an operator became what it is: each row that was tried, in the captured graph and in the edge graph."""

from __future__ import annotations

import enum

import attrs

from quanthost.values import checks
from quanthost.values.decision import Decision
from quanthost.values.recipe import Kernel

__all__ = ["Explanation", "Outcome", "RowTrial", "Search", "Why"]

_TEXT = checks.kind(str)
_TEXTS = checks.each(_TEXT)


class Outcome(enum.Enum):
    """How far a row came at an operator.

    ``TAKEN``: it holds, and the operator is its. ``PATTERN``: an operator or operand is not the pattern's.
    ``CONSTRAINT``: the pattern holds, and a rule refused. ``KERNEL``: the row is not for this arithmetic.
    ``CLOSED``: an override, a backend of higher priority or another kernel had one of its operators.
    ``OUTDONE``: another row, mostly a longer one, has it. ``DROPPED``: it held, and was given up: by cost, by
    a refusal of qspecs, or since tensors that must share parameters could not.
    """

    TAKEN = "taken"
    PATTERN = "pattern"
    CONSTRAINT = "constraint"
    KERNEL = "kernel"
    CLOSED = "closed"
    OUTDONE = "outdone"
    DROPPED = "dropped"


@attrs.frozen(kw_only=True)
class RowTrial:
    """One row at one place: ``nodes`` are the operators that it would cover, or where its pattern stopped.

    ``found`` and ``expected`` say what stood in the way; of what was taken, ``found`` is empty or says by
    whom. ``facts`` are the shapes, dtypes and arguments that a constraint saw.
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
    """The rows that were tried for one operator of one graph, by one backend.

    ``node`` and ``operator`` are those of the graph that was searched. ``others`` counts the rows that do
    not mention the operator, and were not tried. ``partition`` is the piece of a delegate that the
    operator went to, of an edge graph. ``note`` says what was searched otherwise than by a table.
    """

    backend: str = attrs.field(validator=_TEXT)
    node: str = attrs.field(validator=_TEXT)
    operator: str = attrs.field(validator=_TEXT)
    recipe: str | None = attrs.field(default=None, validator=checks.kind(str, optional=True))
    trials: tuple[RowTrial, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.kind(RowTrial))
    )
    others: int = attrs.field(default=0, validator=checks.kind(int))
    partition: str | None = attrs.field(default=None, validator=checks.kind(str, optional=True))
    note: str = attrs.field(default="", validator=_TEXT)


_SEARCHES = checks.each(checks.kind(Search))


@attrs.frozen(kw_only=True)
class Why:
    """One operator of the captured graph: what was decided, and the searches that led to it.

    ``captured`` are those of ``prepare``, in the order of backends; ``edge`` those of the partitioners.
    """

    decision: Decision = attrs.field(validator=checks.kind(Decision))
    captured: tuple[Search, ...] = attrs.field(converter=checks.as_tuple, validator=_SEARCHES)
    edge: tuple[Search, ...] = attrs.field(default=(), converter=checks.as_tuple, validator=_SEARCHES)


@attrs.frozen(kw_only=True)
class Explanation:
    """The answer to ``why``: one entry for each operator that was asked for, in graph order.

    ``lowered`` is false where the edge graph was not looked at, and ``note`` says why.
    """

    model: str = attrs.field(validator=_TEXT)
    backends: tuple[str, ...] = attrs.field(converter=checks.as_tuple, validator=_TEXTS)
    recipe: str = attrs.field(validator=_TEXT)
    asked: str = attrs.field(validator=_TEXT)
    operators: tuple[Why, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.kind(Why))
    )
    lowered: bool = attrs.field(default=False, validator=checks.kind(bool))
    note: str = attrs.field(default="", validator=_TEXT)
