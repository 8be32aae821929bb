"""Checks the qspecs that were planned for a sample, including those that no converted graph shows."""

from __future__ import annotations

from torch import fx

from quanthost.catalogue import entry_of
from quanthost.graph.operators import arguments, operator_name
from quanthost.graph.table import Row
from quanthost.graph.view import tensor_meta
from quanthost.testing.areas.qspecs_in_graph import channel_axes
from quanthost.testing.proving.row_checks import SamplePlan
from quanthost.values import FixedQSpec, Kernel, QSpec, Recipe, SharedQSpec

__all__ = ["check_planned_axes", "check_planned_roles", "check_planned_sharing"]


def check_planned_axes(row: Row, recipe: Recipe, plan: SamplePlan) -> str | None:
    """Scales for channels lie along the axis of the output channels: with some others no graph converts."""
    for match in plan.matches:
        specs = ((capture, spec) for capture, spec in match.qspecs.items() if isinstance(spec, QSpec))
        planned = {match.captures.get(capture): spec.axis for capture, spec in specs if spec.axis is not None}
        for node in match.nodes:
            operands, operator = arguments(node), operator_name(node)
            for name, axis in channel_axes(operator, operands).items():
                tensor = operands.get(name)
                if isinstance(tensor, fx.Node) and planned.get(tensor, axis) != axis:
                    return (
                        f"the {name} of {operator} has scales along axis {planned[tensor]}; "
                        f"its output channels lie along {axis}"
                    )
    return None


def check_planned_sharing(row: Row, recipe: Recipe, plan: SamplePlan) -> str | None:
    """A match of operators that move values has one set of parameters: equal ones by chance do not count."""
    if row.requantizes or recipe.kernel is not Kernel.STATIC:
        return None
    for planned in plan.matches:
        entries = [entry_of(operator_name(node)) for node in planned.nodes]
        is_linked = any(isinstance(spec, SharedQSpec) for spec in planned.qspecs.values())
        # sharing with nothing else is no sharing
        shares = is_linked or {"output"} < set(planned.match.shares)
        is_fixed = isinstance(planned.qspecs.get("output"), FixedQSpec)
        if all(e is not None and e.moves for e in entries) and not shares and not is_fixed:
            name = planned.match.row
            return f"the row {name} moves values, and its result need not share their parameters"
    return None


def check_planned_roles(row: Row, recipe: Recipe, plan: SamplePlan) -> str | None:
    """Each tensor has a qspec if the recipe has one for its role."""
    if recipe.kernel is not Kernel.STATIC:
        return None
    for planned in plan.matches:
        match = planned.match
        captures = [name for name, node in planned.captures.items() if _is_float(node)]
        for name in (*captures, "output"):
            if recipe.for_role(match.role(name)) is not None and name not in planned.qspecs:
                role = match.role(name).value
                return f"{name} of {match.row} has no qspec, though the recipe quantizes each {role}"
    return None


def _is_float(node: fx.Node) -> bool:
    meta = tensor_meta(node)
    return meta is not None and meta.is_floating_point()
