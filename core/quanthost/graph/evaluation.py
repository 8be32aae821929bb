"""Evaluates rows of a support table: the sites of a row's pattern, and the rules that refuse a site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
from torch import fx

from quanthost.errors import QuanthostError, TableError
from quanthost.graph.pattern import Mismatch, bind
from quanthost.graph.provenance import locations
from quanthost.graph.table import Constraint, Row, Site
from quanthost.graph.view import GraphView
from quanthost.values import Kernel, Recipe, Role

__all__ = ["RowEvaluator", "RuleRefusal"]


@attrs.frozen(kw_only=True)
class RuleRefusal:
    """A rule that does not hold, with its text from the documentation, and the reason."""

    rule: str
    reason: str


@attrs.frozen(kw_only=True)
class RowEvaluator:
    """Evaluates rows on one graph, for one kernel.

    ``accept`` is a rule for all rows: what surrounds a site must fit the kernel.
    """

    view: GraphView
    kernel: Kernel
    recipe: Recipe | None = None
    accept: Constraint | None = None

    def kernel_refusal(self, row: Row) -> RuleRefusal | None:
        """Set if the row does not have the kernel."""
        if self.kernel in row.kernels:
            return None
        kernels = ", ".join(sorted(kernel.value for kernel in row.kernels))
        return RuleRefusal(rule=f"a {self.kernel.value} kernel", reason=kernels)

    def site_at(self, row: Row, node: fx.Node) -> Site | Mismatch:
        """The site of the row whose output is ``node``, or the mismatch that stopped the pattern."""
        binding = bind(row.pattern, node)
        if isinstance(binding, Mismatch):
            return binding
        return Site(
            row=row, kernel=self.kernel, view=self.view, nodes=binding.nodes, captures=binding.captures,
            recipe=self.recipe,
        )  # fmt: skip

    def refusals(self, site: Site) -> Iterator[RuleRefusal]:
        """Every rule that refuses the site: constants first, then the row's constraints, ``accept`` last.

        ``accept`` is asked only where all of the row's own rules hold. Rules are evaluated one by one, as
        the iterator advances.

        Raises:
            TableError: a constraint raised, or returned neither a text nor ``None``.
        """
        own = False
        for capture, role in site.row.roles:
            if role in (Role.WEIGHT, Role.BIAS) and not site.is_constant(capture):
                own = True
                reason = f"{capture} is computed, not a constant of the model"
                yield RuleRefusal(rule=f"{capture} is a constant", reason=reason)
        for rule in site.row.constraints:
            answer = _answer(rule, site) if rule.applies_to(self.kernel) else None
            if answer is not None:
                own = True
                yield RuleRefusal(rule=rule.text, reason=answer)
        answer = None if own or self.accept is None else self.accept.check(site)
        if self.accept is not None and answer is not None:
            yield RuleRefusal(rule=self.accept.text, reason=answer)

    def refusal(self, site: Site) -> RuleRefusal | None:
        """The first of ``refusals``; ``None`` if the row holds."""
        return next(self.refusals(site), None)


def _answer(rule: Constraint, site: Site) -> str | None:
    try:
        reason = rule.check(site)
    except QuanthostError:
        raise
    except Exception as error:
        cause = f"it raised {type(error).__name__}: {error}"
        raise _wrong_constraint(rule, site, cause, _line_of(error, rule)) from error
    if reason is None or isinstance(reason, str):
        return reason
    raise _wrong_constraint(rule, site, f"it returned {reason!r}", _line_of(None, rule))


def _wrong_constraint(rule: Constraint, site: Site, cause: str, line: str) -> TableError:
    return TableError(
        f"the constraint {rule.text!r} of the row {site.row.name!r} gave no answer: {cause}",
        needed="None where the kernel exists, else the reason as text", node=site.anchor.name,
        where=", ".join(filter(None, (line, f"asked of node {site.anchor.name}"))),
        remedy="correct it; check first for what a site may lack, such as a dimension or the recipe",
    )  # fmt: skip


def _line_of(error: Exception | None, rule: Constraint) -> str:
    """File and line in the constraint: of the error, else where the constraint begins."""
    code = getattr(rule.check, "__code__", None)
    lines = [] if error is None else locations(error.__traceback__)
    own = [line for line in lines if code is not None and line.file == code.co_filename] or lines
    if own:
        return f"{Path(own[-1].file).name}, line {own[-1].line}"
    return "" if code is None else f"{Path(code.co_filename).name}, line {code.co_firstlineno}"
