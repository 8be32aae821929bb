"""Faults of the table and of what derives from it: what is accepted and refused, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import chip_backends as s
import torch
from chip_backends import ROWS, changed, delegating, portable
from chip_simulator import LIMIT, Machine, Step, Value
from seeded import SeededFault
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
    constraints = next(each for each in ROWS if each.name == row).constraints
    return changed(row, constraints=[rule for rule in constraints if rule not in rules])


def instead(rule: Constraint, other: Constraint) -> tuple[Row, ...]:
    """The rows with one constraint replaced by another."""
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
    """Reads a dimension that some tensors do not have."""
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
    """Matches the patterns of its rows and ignores their constraints."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Any, open_nodes: frozenset[str]) -> Any:
        rows = [attrs.evolve(r, constraints=r.constraints[:1]) for r in self.table]
        careless = attrs.evolve(self, table=s.SupportTable([r for r in rows if "transpose" not in r.name]))
        return TableBackend.quanthost_annotate(careless, graph_module, request, open_nodes)


class ForgetsReasons(TableBackend):
    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Any, open_nodes: frozenset[str]) -> Any:
        items = super().quanthost_annotate(graph_module, request, open_nodes)
        return [item for item in items if not isinstance(item, RowMiss)]


class ForgetsARow(TableBackend):
    """Its annotators are registered by hand, and one was forgotten."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Any, open_nodes: frozenset[str]) -> Any:
        items = super().quanthost_annotate(graph_module, request, open_nodes)
        return [item for item in items if not (isinstance(item, Match) and item.row == "cat")]


class FirstRowWins(TableBackend):
    """Tries its rows one after the other, so that a short one wins over a longer one."""

    @hookimpl
    def quanthost_annotate(self, graph_module: Any, request: Any, open_nodes: frozenset[str]) -> Any:
        view, closed, items = GraphView(graph_module), set(), []
        for row in self.table:
            sites = match_table(
                s.SupportTable((row,)), view, Kernel.STATIC, recipe=self.recipe(request),
                is_open=lambda node: node.name in open_nodes and node not in closed,
            )  # fmt: skip
            items += [self._match(site) for site in sites.sites]
            items += [RowMiss(node=m.node.name, row=m.row, reason=m.reason) for m in sites.misses]
            closed.update(node for site in sites.sites for node in site.nodes)
        return items


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
    """Pads with zero, which may be larger than all values of the image."""

    def max_pool2d(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        padding = args[3] if len(args) > 3 else [0, 0]
        padded = _padded(args[0], padding)
        return self.torch(step, (padded, *args[1:3], [0, 0], *args[4:]))


def _padded(x: Tensor, padding: Sequence[int], value: float = 0.0) -> Tensor:
    sides = list(padding) * (2 // len(padding)) if padding else [0, 0]
    return F.pad(x, [sides[1], sides[1], sides[0], sides[0]], value=value)


class JoinsBounds(Machine):
    """Fuses a ReLU after a max pool into it, and passes integers on whatever the scale of the result is."""

    def relu(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        result = self.torch(step, args)
        source = self.steps.get(step.args[0].name)
        for _ in range(2):
            source = None if source is None else self.steps.get(source.args[0].name)
        if source is None or source.base != "max_pool2d":
            return result
        out = next(each for each in self.steps.values() if each.args and each.args[0] == Value(step.name))
        return result / self.read(step).scale * out.args[1]


class FixedBatch(Machine):
    """Loops run over the batch that the program was compiled for."""

    def convolution(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        result = self.torch(step, args)
        missing = step.shape[0] - result.shape[0]
        return torch.cat([result, result[:1].expand(missing, *result.shape[1:])]) if missing > 0 else result


class Matrices(Machine):
    """A linear layer for matrices; with more dimensions it computes only the first matrix."""

    def linear(self, step: Step, args: tuple[Any, ...]) -> Tensor:
        result = self.torch(step, args)
        return result if result.dim() < 3 else result[:1].expand_as(result)


class NoAlpha(Machine):
    def compute(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return super().compute(step, args, {} if step.base == "add" else kwargs)


def _faulty(name: str, fault: str, backend: TableBackend, *only: str, area: Area = Area.TABLE) -> SeededFault:
    return SeededFault(name=name, fault=fault, area=area, only=only, make=lambda _: backend)


_ties = Row(
    name="any_relu", pattern=op("relu", self="input"), kernels={Kernel.STATIC}, constraints=(s.batched,)
)

FAULTS = (
    _faulty(
        "one_rank_more", "A limit is off by one: it accepts a rank that no kernel supports.",
        delegating(rows=instead(s.fits_chip, _one_rank_more)), "table/variation/relu/relu:rank=5/*",
    ),
    _faulty(
        "any_dtype", "A row does not check dtypes, and accepts more than float32.",
        delegating(rows=without("sigmoid", s.fits_chip)), "table/variation/sigmoid/sigmoid:float64/*",
    ),
    _faulty(
        "rank_without_kernel", "An operator is claimed at ranks that its kernel does not support.",
        delegating(machine=Matrices), "table/variation/linear/linear:rank=3/*",
    ),
    _faulty(
        "dilation_off_by_one",
        "The limit of an argument is off by one, and the kernel ignores larger values.",
        delegating(rows=instead(s.close, _first_dilation_of_three), machine=IgnoresDilation),
        "table/variation/conv2d/conv2d:dilation=2/*",
    ),
    _faulty(
        "no_alpha", "The row does not check the alpha of a sum, which the kernel does not support.",
        delegating(rows=without("add", s.plain_sum), machine=NoAlpha),
        "table/variation/add/add:alpha=2/*",
    ),
    _faulty(
        "reads_a_missing_dimension", "A constraint reads a dimension that some tensors do not have.",
        delegating(rows=instead(s.fits_chip, _counts_channels)), "table/variation/relu/relu:rank=0/*",
    ),
    _faulty(
        "asks_the_recipe", "A constraint needs the recipe, which the partitioner does not have.",
        delegating(rows=instead(s.batched, _asks_the_recipe)), "table/single/max_pool2d/*",
    ),
    _faulty(
        "takes_refused", "Matches that the table's constraints refuse are quantized anyway.",
        portable(TakesRefused), "table/edge/conv2d/*",
    ),
    _faulty(
        "forgets_reasons", "A refused operator stays float without a reason.", portable(ForgetsReasons),
        "table/edge/add/*",
    ),
    _faulty(
        "forgets_a_row", "An operator of the table gets no decision.", portable(ForgetsARow),
        "table/single/cat/*",
    ),
    _faulty(
        "first_row_wins", "A row shadows a longer row that comes after it.", portable(FirstRowWins),
        "table/single/conv2d_relu/*",
    ),
    _faulty(
        "two_rows_tie", "Two rows hold at one place, and the table does not say which one wins.",
        portable(rows=(*ROWS, _ties)), "table/single/relu/*",
    ),
    _faulty(
        "same_shapes", "The kernel of a sum does not broadcast.", delegating(machine=SameShapes),
        "table/variation/add/add:other_of_channels/*",
    ),
    _faulty(
        "pool_pads_with_zero", "A max pool pads with zero instead of the lowest value.",
        delegating(machine=PadsWithZero), "table/variation/max_pool2d/max_pool2d:padding=1/*",
    ),
    _faulty(
        "joins_bounds", "A ReLU after a max pool is fused into it, and the pool does not rescale.",
        delegating(machine=JoinsBounds), "table/pair/max_pool2d+relu/*",
    ),
    _faulty(
        "fixed_batch", "A kernel works only with the batch size that the program was compiled for.",
        delegating(machine=FixedBatch), "table/variation/conv2d/conv2d:dynamic_batch/*",
    ),
)  # fmt: skip
