"""``TableBackend``: all eight hooks of a backend, derived from its support table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from quanthost.errors import RequestError
from quanthost.graph.matcher import match_table
from quanthost.graph.table import Claim, Row, Site, SupportTable, constraint
from quanthost.graph.view import GraphView, tensor_meta
from quanthost.hooks.claims import find_claims, operators_to_keep
from quanthost.hooks.simulated import Runner
from quanthost.hooks.specs import LoweringOptions, Problem, RowMiss, hookimpl
from quanthost.values import (
    AnyQSpec,
    BackendInfo,
    Decision,
    Granularity,
    Kernel,
    Match,
    PieceRecord,
    QSpec,
    QSpecChoice,
    Recipe,
    Refusal,
    Request,
    Role,
)

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from quanthost.toolchain.partition import Partitioner

__all__ = ["TableBackend", "float_operands"]

Rewrite = Callable[["GraphModule"], None]


@attrs.define(kw_only=True, eq=False)
class TableBackend:
    """A backend that its support table defines; a plugin's entry point can be an instance of it.

    ``delegate`` is the id of the ExecuTorch backend that runs what the rows claim; with ``None``, portable
    kernels run everything. ``rewrites`` change a graph in place, before annotation, into operators that the
    rows know. The partitioner calls ``mark`` with each claim. Override a hook in a subclass if a table
    is not enough.
    """

    info: BackendInfo
    table: SupportTable
    delegate: str | None = None
    compile_specs: tuple[Any, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    mark: Callable[[Claim], None] = lambda _: None
    lowering: LoweringOptions = attrs.field(factory=LoweringOptions)

    @hookimpl
    def quanthost_backend_info(self) -> BackendInfo:
        return self.info

    @hookimpl
    def quanthost_transform_for_annotation(self, graph_module: GraphModule) -> GraphModule:
        for rewrite in self.rewrites:
            rewrite(graph_module)
        graph_module.graph.eliminate_dead_code()
        graph_module.recompile()
        return graph_module

    @hookimpl
    def quanthost_annotate(
        self, graph_module: GraphModule, request: Request, open_nodes: frozenset[str]
    ) -> list[Match | RowMiss]:
        recipe = self.recipe(request)
        if recipe.kernel is Kernel.FLOAT:
            return []
        matches = match_table(
            self.table, GraphView(graph_module), recipe.kernel,
            recipe=recipe, is_open=lambda node: node.name in open_nodes, accept=float_operands,
        )  # fmt: skip
        misses = [RowMiss(node=m.node.name, row=m.row, reason=m.reason) for m in matches.misses]
        return [*(self._match(site) for site in matches.sites), *misses]

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match, request: Request) -> QSpecChoice | Refusal:
        recipe, row = self.recipe(request), self.table.row(match.row)
        names = [name for name, _ in match.captures]
        if match.kernel is Kernel.STATIC:
            names.append("output")
        chosen = {name: _qspec(name, row, recipe) for name in names}
        specs = {name: spec for name, spec in chosen.items() if spec is not None}
        if not specs:
            return Refusal(reason=f"the recipe {recipe.name} quantizes no tensor of the row {row.name}")
        return QSpecChoice(qspecs=specs)

    @hookimpl
    def quanthost_validate(
        self, graph_module: GraphModule, decisions: tuple[Decision, ...], request: Request
    ) -> list[Problem]:
        return []

    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> list[Partitioner]:
        if self.delegate is None:
            return []
        # it imports executorch, which nothing before lowering needs
        from quanthost.toolchain.partition import ClaimPartitioner

        return [
            ClaimPartitioner(
                name=self.info.name, delegate=self.delegate, mark=self.mark,
                find=lambda exported: find_claims(self.table, exported),
                keep=lambda exported: operators_to_keep(self.table, exported),
                compile_specs=self.compile_specs,
            )
        ]  # fmt: skip

    @hookimpl
    def quanthost_lowering_options(self) -> LoweringOptions:
        return self.lowering

    @hookimpl
    def quanthost_create_runner(self, program: bytes, pieces: tuple[PieceRecord, ...]) -> Runner | None:
        return None

    def recipe(self, request: Request) -> Recipe:
        """The recipe that a request names.

        Raises:
            RequestError: the backend has none of that name.
        """
        recipe = self.info.recipe(request.recipe)
        if recipe is None:
            raise RequestError(
                f"the recipe {request.recipe!r}", plugin=self.info.name, stage="prepare",
                needed="one of " + ", ".join(r.name for r in self.info.recipes),
                remedy="choose one of these recipes", value=request.recipe,
            )  # fmt: skip
        return recipe

    def _match(self, site: Site) -> Match:
        captures: dict[str, str] = {}
        for name, bound in site.captures.items():
            if isinstance(bound, (list, tuple)):
                captures.update({f"{name}.{i}": node.name for i, node in enumerate(bound)})
            elif bound is not None:
                captures[name] = bound.name
        return Match(
            backend=self.info.name, row=site.row.name, kernel=site.kernel,
            nodes=[node.name for node in site.nodes], captures=captures, roles=site.row.roles,
            shares=site.row.shares, gain=site.row.gain,
        )  # fmt: skip


@constraint("float operands, which can be quantized")
def float_operands(site: Site) -> str | None:
    """Indices, masks and counts cannot be quantized."""
    names = [capture for capture in site.captures if site.row.role(capture) is Role.ACTIVATION]
    for node in (node for name in names for node in site.tensors(name)):
        meta = tensor_meta(node)
        if meta is not None and not meta.is_floating_point():
            return f"{node.name} is {str(meta.dtype).removeprefix('torch.')}, not float"
    return None


def _qspec(name: str, row: Row, recipe: Recipe) -> AnyQSpec | None:
    base = name.split(".")[0]
    role = row.role(base)
    spec = dict(row.qspecs).get(base) if recipe.kernel is Kernel.STATIC else None
    if spec is not None and recipe.for_role(role) is not None:
        return spec
    spec = recipe.for_role(role)
    if role is Role.WEIGHT and isinstance(spec, QSpec) and spec.granularity is Granularity.PER_CHANNEL:
        return attrs.evolve(spec, axis=row.weight_axis)
    return spec
