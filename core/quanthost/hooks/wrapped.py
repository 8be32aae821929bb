"""``WrappedBackend``: an existing PT2E quantizer and ExecuTorch partitioners behind the hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from quanthost.errors import RequestError
from quanthost.hooks.simulated import Runner
from quanthost.hooks.specs import LoweringOptions, Problem, RowMiss, hookimpl
from quanthost.values import BackendInfo, Decision, Kernel, Match, PieceRecord, QSpecChoice, Refusal, Request

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from quanthost.toolchain.annotations import Quantizer
    from quanthost.toolchain.partition import Partitioner

__all__ = ["AnnotatedMatch", "WrappedBackend"]


@attrs.frozen(kw_only=True)
class AnnotatedMatch(Match):
    """A match that knows what was annotated there: qspecs, or why they cannot be had."""

    choice: QSpecChoice | Refusal


@attrs.define(kw_only=True, eq=False)
class WrappedBackend:
    """A backend without a table, which adapts a quantizer and partitioners that exist.

    The quantizer annotates a copy of the graph. Each annotated operator, with those fused to it, becomes a
    match, whose row is named after the operator and whose qspecs are the annotation's. Nothing is left in
    float for its cost, since the quantizer has decided. What an annotation says that no qspec can (an
    observer of its own, parameters shared across operators) refuses the match with a reason.

    Args:
        info: Names, recipes and delegate. The qspecs of the recipes describe; the quantizer decides.
        quantizers: What makes the quantizer of each recipe that is not float, by the recipe's name.
        partitioners: What makes the partitioners; none leaves everything to portable kernels.
        lowering: As of a table's backend.
    """

    info: BackendInfo
    quantizers: Mapping[str, Callable[[], Quantizer]]
    partitioners: Callable[[], Sequence[Partitioner]] = tuple
    lowering: LoweringOptions = attrs.field(factory=LoweringOptions)

    @hookimpl
    def quanthost_backend_info(self) -> BackendInfo:
        return self.info

    @hookimpl
    def quanthost_transform_for_annotation(self, graph_module: GraphModule, request: Request) -> GraphModule:
        quantizer = self._quantizer(request)
        if quantizer is None:
            return graph_module
        made: GraphModule = quantizer.transform_for_annotation(graph_module)
        return made

    @hookimpl
    def quanthost_annotate(
        self, graph_module: GraphModule, request: Request, open_nodes: frozenset[str]
    ) -> list[Match | RowMiss]:
        quantizer = self._quantizer(request)
        if quantizer is None:
            return []
        from quanthost.hooks.annotated_matches import matches

        found = matches(quantizer, graph_module, self.info.name, self._kernel(request))
        return [match for match in found if open_nodes.issuperset(match.nodes)]

    @hookimpl
    def quanthost_choose_qspecs(self, match: Match) -> QSpecChoice | Refusal | None:
        return match.choice if isinstance(match, AnnotatedMatch) else None

    @hookimpl
    def quanthost_validate(
        self, graph_module: GraphModule, decisions: tuple[Decision, ...], request: Request
    ) -> list[Problem]:
        quantizer = self._quantizer(request)
        if quantizer is None:
            return []
        try:
            quantizer.validate(graph_module)
        except Exception as error:
            return [
                Problem(
                    node="", message=f"{type(quantizer).__name__} refuses the graph: {error}",
                    remedy="keep in float what it names, by an override",
                )
            ]  # fmt: skip
        return []

    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> list[Partitioner]:
        return list(self.partitioners())

    @hookimpl
    def quanthost_lowering_options(self) -> LoweringOptions:
        return self.lowering

    @hookimpl
    def quanthost_create_runner(self, program: bytes, pieces: tuple[PieceRecord, ...]) -> Runner | None:
        return None

    def _kernel(self, request: Request) -> Kernel:
        recipe = self.info.recipe(request.recipe)
        return Kernel.FLOAT if recipe is None else recipe.kernel

    def _quantizer(self, request: Request) -> Any:
        """A new quantizer for the recipe, ``None`` where it quantizes nothing."""
        if self._kernel(request) is Kernel.FLOAT:
            return None
        if request.recipe not in self.quantizers:
            raise RequestError(
                f"the recipe {request.recipe!r}, for which there is no quantizer", plugin=self.info.name,
                needed=f"one of {', '.join(self.quantizers)}", stage="prepare", value=request.recipe,
                remedy="add it to WrappedBackend(quantizers=…), or take the recipe out of the BackendInfo",
            )  # fmt: skip
        return self.quantizers[request.recipe]()
