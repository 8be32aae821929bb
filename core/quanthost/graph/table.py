"""The support table: rows of pattern, constraints, roles and kernels, the only declaration of support."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import fx

from quanthost.errors import TableError
from quanthost.graph.operators import argument
from quanthost.graph.pattern import Op
from quanthost.graph.view import GraphView, tensor_meta
from quanthost.values import AnyQSpec, Gain, Granularity, Kernel, QSpec, Recipe, Role, checks

__all__ = ["Claim", "Constraint", "Row", "Site", "SupportTable", "constraint"]


@attrs.frozen(kw_only=True)
class Site:
    """A place where a row's pattern holds, as its constraints see it.

    The same for the captured graph, where operands are float, and for the edge graph, where they may
    come out of dequantize nodes; there ``recipe`` is ``None``.
    """

    row: Row
    kernel: Kernel
    view: GraphView
    nodes: tuple[fx.Node, ...]
    captures: dict[str, Any]
    recipe: Recipe | None = None

    @property
    def anchor(self) -> fx.Node:
        """The first operator of the pattern (the convolution of convolution and ReLU)."""
        return self.nodes[0]

    @property
    def output(self) -> fx.Node:
        return self.nodes[-1]

    def argument(self, name: str, default: Any = None, *, operator: int = 0) -> Any:
        """An argument of one of the operators by its schema name."""
        return argument(self.nodes[operator], name, default)

    def tensors(self, capture: str) -> tuple[fx.Node, ...]:
        """The nodes of a capture: none, one, or those of a list operand."""
        bound = self.captures.get(capture)
        if bound is None:
            return ()
        return tuple(bound) if isinstance(bound, (list, tuple)) else (bound,)

    def shape(self, capture: str) -> tuple[Any, ...]:
        """Shape of a captured tensor, or of the result for ``"output"``; symbols for dynamic sizes.

        ``()`` if the capture is absent; of a list operand it is the first tensor's.
        """
        meta = self._meta(capture)
        return () if meta is None else tuple(meta.shape)

    def dtype(self, capture: str) -> torch.dtype | None:
        """Dtype of the same tensor, ``None`` if the capture is absent."""
        meta = self._meta(capture)
        return None if meta is None else meta.dtype

    def _meta(self, capture: str) -> torch.Tensor | None:
        nodes = (self.output,) if capture == "output" else self.tensors(capture)
        return tensor_meta(nodes[0]) if nodes else None

    @property
    def has_scale_groups(self) -> bool:
        """Whether the recipe gives the weight a scale for each group of a row."""
        weight = None if self.recipe is None else self.recipe.weight
        return isinstance(weight, QSpec) and weight.granularity is Granularity.PER_GROUP

    def is_constant(self, capture: str) -> bool:
        """Whether each tensor of the capture is a weight, buffer or lifted constant."""
        return all(self.view.is_constant(node) for node in self.tensors(capture))


@attrs.frozen(kw_only=True, eq=False)
class Claim:
    """A site of the edge graph that a delegate takes, with the q/dq nodes that its kernel absorbs."""

    site: Site
    nodes: tuple[fx.Node, ...]

    @property
    def computes(self) -> bool:
        """Whether it is worth a partition; a mere conversion is not."""
        return not self.site.row.converts


@attrs.frozen
class Constraint:
    """A named predicate: ``check`` returns ``None`` if the kernel exists, else the reason why not."""

    text: str
    check: Callable[[Site], str | None]
    kernels: frozenset[Kernel] | None = None

    def applies_to(self, kernel: Kernel) -> bool:
        return self.kernels is None or kernel in self.kernels


def constraint(
    text: str, *, kernels: Iterable[Kernel] | None = None
) -> Callable[[Callable[[Site], str | None]], Constraint]:
    """Turn a function into a constraint; ``text`` is the rule in the documentation."""

    def wrap(check: Callable[[Site], str | None]) -> Constraint:
        return Constraint(text, check, None if kernels is None else frozenset(kernels))

    return wrap


def _kernels(value: Iterable[Kernel]) -> frozenset[Kernel]:
    return frozenset(value)


def _roles(value: Mapping[str, Role] | Iterable[tuple[str, Role]]) -> tuple[tuple[str, Role], ...]:
    return tuple(value.items()) if isinstance(value, Mapping) else tuple(value)


def _specs(
    value: Mapping[str, AnyQSpec] | Iterable[tuple[str, AnyQSpec]],
) -> tuple[tuple[str, AnyQSpec], ...]:
    return tuple(value.items()) if isinstance(value, Mapping) else tuple(value)


@attrs.frozen(kw_only=True)
class Row:
    """One thing that a backend supports.

    ``roles`` gives the role of each capture; captures without one are activations. ``kernels`` are the
    arithmetics in which the target runs it. ``shares`` are captures (and ``"output"``) that must have one
    set of quantization parameters. ``qspecs`` replace the recipe's for single captures (a fixed output
    range). ``weight_axis`` is the axis of the weight's output channels. ``lowers_to`` tells a reader what
    the target runs.

    ``delegated`` is false if the runtime's own kernels run the row, so that the partitioner leaves it.
    ``keeps`` names operators that the delegate takes whole, but ExecuTorch would decompose. ``converts``
    marks a mere conversion (quantize, dequantize), not worth its own partition. ``requantizes`` marks
    a row that moves or joins values whose kernel converts them to the result's own parameters; without it
    they must share one set.
    """

    name: str = attrs.field(validator=checks.identifier())
    pattern: Op
    kernels: frozenset[Kernel] = attrs.field(converter=_kernels)
    roles: tuple[tuple[str, Role], ...] = attrs.field(default=(), converter=_roles)
    constraints: tuple[Constraint, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.kind(Constraint))
    )
    shares: tuple[str, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.kind(str))
    )
    qspecs: tuple[tuple[str, AnyQSpec], ...] = attrs.field(default=(), converter=_specs)
    weight_axis: int = 0
    gain: Gain = Gain.FOLLOWS
    lowers_to: str = ""
    delegated: bool = True
    keeps: tuple[str, ...] = ()
    converts: bool = False
    requantizes: bool = False

    def __attrs_post_init__(self) -> None:
        captures = {*self.pattern.captures(), "output"}
        named = {*dict(self.roles), *dict(self.qspecs), *self.shares}
        if not self.kernels:
            raise TableError(
                f"the row {self.name!r} has no kernel", needed="one kernel or more", where=f"row {self.name}",
                remedy="say in which arithmetics the target has it, or remove the row",
            )  # fmt: skip
        if not named <= captures:
            unknown = ", ".join(sorted(named - captures))
            raise TableError(
                f"the row {self.name!r} names {unknown}, which its pattern does not capture",
                needed=f"one of {', '.join(sorted(captures))}", where=f"row {self.name}",
                remedy="correct the name in roles, qspecs or shares", value=unknown,
            )  # fmt: skip

    def role(self, capture: str) -> Role:
        """Role of a capture; ``"output"`` and what is not named are activations."""
        return dict(self.roles).get(capture.split(".")[0], Role.ACTIVATION)

    @property
    def size(self) -> int:
        return self.pattern.size


def _tying(first: Row, second: Row) -> Kernel | None:
    """A kernel in which both rows hold at the same places, ``None`` if there is none."""
    one, two = first.pattern, second.pattern
    if one.operands != two.operands or one.commutative != two.commutative or not {*one.names} & {*two.names}:
        return None
    if first.delegated != second.delegated or first.roles != second.roles:
        return None
    for kernel in sorted(first.kernels & second.kernels, key=lambda each: each.value):
        rules, others = (
            {id(rule) for rule in row.constraints if rule.applies_to(kernel)} for row in (first, second)
        )
        if rules == others:
            return kernel
    return None


@attrs.frozen
class SupportTable:
    """All rows of a backend, with unique names.

    Rows may have one pattern, with constraints that exclude each other; the matcher refuses a tie.
    """

    rows: tuple[Row, ...] = attrs.field(converter=checks.as_tuple, validator=checks.each(checks.kind(Row)))

    def __attrs_post_init__(self) -> None:
        by_name: dict[str, Row] = {}
        for row in self.rows:
            if row.name in by_name:
                raise TableError(
                    f"two rows named {row.name!r}: {by_name[row.name].pattern} and {row.pattern}",
                    needed="each name once", where=f"row {row.name}", remedy="rename one of them",
                )  # fmt: skip
            by_name[row.name] = row
        self._refuse_ties()

    def _refuse_ties(self) -> None:
        """Two rows of one pattern and the same constraints tie wherever they hold."""
        for place, first in enumerate(self.rows):
            for second in self.rows[place + 1 :]:
                kernel = _tying(first, second)
                if kernel is not None:
                    raise TableError(
                        f"the rows {first.name!r} and {second.name!r} have one pattern, {second.pattern}, and"
                        f" the same constraints on {kernel.value} kernels: they always tie",
                        needed="constraints that exclude each other", value=(first.name, second.name),
                        remedy="add a constraint to each that refuses what the other takes, or merge them",
                        where="support table",
                    )  # fmt: skip

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def row(self, name: str) -> Row:
        """The row of that name.

        Raises:
            TableError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise TableError(
            f"no row {name!r}", needed=f"one of {', '.join(row.name for row in self.rows)}",
            where="support table", remedy="correct the name, or add the row to the table", value=name,
        )  # fmt: skip
