"""Faults of the table, and of what is made of it: what is taken and refused, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import chip_backends as s
import torch
from chip_backends import ROWS, changed, delegating, portable
from chip_simulator import LIMIT, Machine, Step, Value
from seeded import Faulty
from torch import Tensor
from torch.nn import functional as F

from quanthost.api import Constraint, Match, Row, RowMiss, Site, TableBackend, constraint, hookimpl, op
from quanthost.graph.matcher import match_table
from quanthost.graph.view import GraphView
from quanthost.testing import Area
from quanthost.values import Kernel

__all__ = ["FAULTS"]


def without(row: str, *rules: Constraint) -> tuple[Row, ...]:
    """The rows, one of them without some of its constraints."""
    kept = next(each for each in ROWS if each.name == row).constraints
    return changed(row, constraints=[rule for rule in kept if rule not in rules])


def instead(rule: Constraint, other: Constraint) -> tuple[Row, ...]:
    """The rows with another constraint in place of one."""
    return tuple(
        attrs.evolve(row, constraints=[other if each is rule else each for each in row.constraints])
        for row in ROWS
    )


@constraint("tensors are float32, not empty, of rank 1 to 4")
def _one_rank_more(site: Site) -> str | None:
    shape = site.shape("input")
    if len(shape) != LIMIT + 1:
        return s.fits_chip.check(site)
    return None


@constraint("tensors are float32, not empty, of rank 1 to 4")
def _counts_channels(site: Site) -> str | None:
    """Reads a dimension that not each tensor has."""
    return "no channels" if site.shape("input")[0] < 1 else s.fits_chip.check(site)


@constraint("the input has a batch dimension")
def _asks_the_recipe(site: Site) -> str | None:
    """The recipe is unset in the edge graph."""
    assert site.recipe is not None
    return s.batched.check(site)


@constraint("no dilation")
def _first_dilation_of_three(site: Site) -> str | None:
    dilation = site.argument("dilation", 1)
    values = list(dilation) if isinstance(dilation, (list, tuple)) else [dilation]
    return None if all(value <= 2 for value in values) else f"the dilation is {dilation}"


class TakesRefused(TableBackend):
    """Makes matches of its rows' patterns and leaves the constraints out."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Any, open_nodes: frozenset[str]) -> Any:
        rows = [attrs.evolve(r, constraints=r.constraints[:1]) for r in self.table]
        careless = attrs.evolve(self, table=s.SupportTable([r for r in rows if "transpose" not in r.name]))
        return TableBackend.quanthost_annotate(careless, graph_module, request, open_nodes)


class ForgetsReasons(TableBackend):
    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Any, open_nodes: frozenset[str]) -> Any:
        found = super().quanthost_annotate(graph_module, request, open_nodes)
        return [item for item in found if not isinstance(item, RowMiss)]


class ForgetsARow(TableBackend):
    """Its annotators are registered by hand, and one was forgotten."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Any, open_nodes: frozenset[str]) -> Any:
        found = super().quanthost_annotate(graph_module, request, open_nodes)
        return [item for item in found if not (isinstance(item, Match) and item.row == "cat")]


class FirstRowWins(TableBackend):
    """Asks its rows one after the other, so that a short one takes what a longer one would."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Any, open_nodes: frozenset[str]) -> Any:
        view, closed, found = GraphView(graph_module), set(), []
        for row in self.table:
            sites = match_table(
                s.SupportTable((row,)), view, Kernel.STATIC, recipe=self.recipe(request),
                is_open=lambda node: node.name in open_nodes and node not in closed,
            )  # fmt: skip
            found += [self._match(site) for site in sites.sites]
            found += [RowMiss(node=m.node.name, row=m.row, reason=m.reason) for m in sites.misses]
            closed.update(node for site in sites.sites for node in site.nodes)
        return found


class IgnoresDilation(Machine):
    def convolution(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        padding = [p - (d - 1) for p, d in zip(args[4], args[5])]
        return self.torch(step, (*args[:4], padding, [1, 1], *args[6:]))


class SameShapes(Machine):
    """Adds element by element, without broadcasting."""

    def add(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        first, second = args[:2]
        return (first.flatten() + second.flatten()[: first.numel()]).reshape(first.shape)


class PadsWithZero(Machine):
    """What is outside of an image counts as zero, though all of it may lie below."""

    def max_pool2d(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        padding = args[3] if len(args) > 3 else [0, 0]
        padded = _padded(args[0], padding)
        return self.torch(step, (padded, *args[1:3], [0, 0], *args[4:]))


def _padded(x: Tensor, padding: Sequence[int], value: float = 0.0) -> Tensor:
    sides = list(padding) * (2 // len(padding)) if padding else [0, 0]
    return F.pad(x, [sides[1], sides[1], sides[0], sides[0]], value=value)


class JoinsBounds(Machine):
    """Puts the bounds right behind a max pool into it: integers go on, whatever the result's scale is."""

    def relu(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        made = self.torch(step, args)
        source = self.steps.get(step.args[0].name)
        for _ in range(2):
            source = None if source is None else self.steps.get(source.args[0].name)
        if source is None or source.base != "max_pool2d":
            return made
        out = next(each for each in self.steps.values() if each.args and each.args[0] == Value(step.name))
        return made / self.read(step).scale * out.args[1]


class FixedBatch(Machine):
    """Loops have the batch that the program was compiled with."""

    def convolution(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        made = self.torch(step, args)
        missing = step.shape[0] - made.shape[0]
        return torch.cat([made, made[:1].expand(missing, *made.shape[1:])]) if missing > 0 else made


class Matrices(Machine):
    """A linear layer of matrices; of more dimensions it computes the first matrix."""

    def linear(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        made = self.torch(step, args)
        return made if made.dim() < 3 else made[:1].expand_as(made)


class NoAlpha(Machine):
    def compute(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return super().compute(step, args, {} if step.base == "add" else kwargs)


def _faulty(name: str, fault: str, given: TableBackend, *only: str, area: Area = Area.TABLE) -> Faulty:
    return Faulty(name=name, fault=fault, area=area, only=only, make=lambda _: given)


_ties = Row(
    name="any_relu", pattern=op("relu", self="input"), kernels={Kernel.STATIC}, constraints=(s.batched,)
)

FAULTS = (
    _faulty(
        "one_rank_more", "A limit is off by one: a rank that no kernel has is taken.",
        delegating(rows=instead(s.fits_chip, _one_rank_more)), "table/variation/relu/relu:rank=5/*",
    ),
    _faulty(
        "any_dtype", "A row does not look at dtypes, and takes what is no float32.",
        delegating(rows=without("sigmoid", s.fits_chip)), "table/variation/sigmoid/sigmoid:float64/*",
    ),
    _faulty(
        "rank_without_kernel", "An operator is claimed at ranks that its kernel lacks.",
        delegating(machine=Matrices), "table/variation/linear/linear:rank=3/*",
    ),
    _faulty(
        "dilation_off_by_one", "A bound of an argument is off by one, and the kernel ignores what is beyond.",
        delegating(rows=instead(s.close, _first_dilation_of_three), machine=IgnoresDilation),
        "table/variation/conv2d/conv2d:dilation=2/*",
    ),
    _faulty(
        "no_alpha", "A factor of a sum is not looked at, and the kernel does not have it.",
        delegating(rows=without("add", s.plain_sum), machine=NoAlpha),
        "table/variation/add/add:alpha=2/*",
    ),
    _faulty(
        "reads_a_missing_dimension", "A constraint reads a dimension that some tensors do not have.",
        delegating(rows=instead(s.fits_chip, _counts_channels)), "table/variation/relu/relu:rank=0/*",
    ),
    _faulty(
        "asks_the_recipe", "A constraint needs the recipe, which the partitioner does not know.",
        delegating(rows=instead(s.batched, _asks_the_recipe)), "table/single/max_pool2d/*",
    ),
    _faulty(
        "takes_refused", "What the table's constraints refuse is quantized all the same.",
        portable(TakesRefused), "table/edge/conv2d/*",
    ),
    _faulty(
        "forgets_reasons", "A refused operator is left without its reason.", portable(ForgetsReasons),
        "table/edge/add/*",
    ),
    _faulty(
        "forgets_a_row", "An operator of the table gets no decision.", portable(ForgetsARow),
        "table/single/cat/*",
    ),
    _faulty(
        "first_row_wins", "A row shadows a longer one that stands behind it.", portable(FirstRowWins),
        "table/single/conv2d_relu/*",
    ),
    _faulty(
        "two_rows_tie", "Two rows hold at one place, where the table does not say which one wins.",
        portable(rows=(*ROWS, _ties)), "table/single/relu/*",
    ),
    _faulty(
        "same_shapes", "The kernel of a sum does not broadcast.", delegating(machine=SameShapes),
        "table/variation/add/add:other_of_channels/*",
    ),
    _faulty(
        "pool_pads_with_zero", "A pool takes what is outside of the image for zero, not for the least value.",
        delegating(machine=PadsWithZero), "table/variation/max_pool2d/max_pool2d:padding=1/*",
    ),
    _faulty(
        "joins_bounds", "Bounds right behind a pool become a part of it, which does not rescale.",
        delegating(machine=JoinsBounds), "table/pair/max_pool2d+relu/*",
    ),
    _faulty(
        "fixed_batch", "The batch that the program was compiled with is built into a kernel.",
        delegating(machine=FixedBatch), "table/variation/conv2d/conv2d:dynamic_batch/*",
    ),
)  # fmt: skip
