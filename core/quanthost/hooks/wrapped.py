"""``WrappedBackend``: an existing PT2E quantizer and ExecuTorch partitioners behind the hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from quanthost.errors import RequestError
from quanthost.hooks.annotated_match import AnnotatedMatch
from quanthost.hooks.simulated import Runner
from quanthost.hooks.specs import LoweringOptions, Problem, RowMiss, hookimpl
from quanthost.values import BackendInfo, Decision, Kernel, Match, PieceRecord, QSpecChoice, Refusal, Request

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from quanthost.toolchain.annotations import Quantizer
    from quanthost.toolchain.partition import Partitioner

__all__ = ["WrappedBackend"]


@attrs.define(kw_only=True, eq=False)
class WrappedBackend:
    """A backend without a table, which adapts an existing quantizer and existing partitioners.

    The quantizer annotates a copy of the graph. Each annotated operator, together with those fused to it,
    becomes a match, whose row is named after the operator and whose qspecs are the annotation's. No match
    is dropped for its cost: the quantizer decides. A match is refused with a reason if no qspec can
    express the annotation (a custom observer, parameters shared across operators).

    Args:
        info: Names, recipes and delegate. The quantizer decides; the qspecs of the recipes only describe.
        quantizers: A function that creates the quantizer, for each recipe that is not float.
        partitioners: Creates the partitioners; without any, portable kernels run everything.
        lowering: As in ``TableBackend``.
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
        transformed: GraphModule = quantizer.transform_for_annotation(graph_module)
        return transformed

    @hookimpl
    def quanthost_annotate(
        self, graph_module: GraphModule, request: Request, open_nodes: frozenset[str]
    ) -> list[Match | RowMiss]:
        quantizer = self._quantizer(request)
        if quantizer is None:
            return []
        # it imports torchao, which nothing before annotation needs
        from quanthost.hooks.annotated_matches import find_matches

        matches = find_matches(quantizer, graph_module, self.info.name, self._kernel(request))
        return [match for match in matches if open_nodes.issuperset(match.nodes)]

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
                    remedy="keep the operators that it names in float, by an override",
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
        """A new quantizer for the recipe, ``None`` if it quantizes nothing."""
        if self._kernel(request) is Kernel.FLOAT:
            return None
        if request.recipe not in self.quantizers:
            raise RequestError(
                f"the recipe {request.recipe!r}, for which there is no quantizer", plugin=self.info.name,
                needed=f"one of {', '.join(self.quantizers)}", stage="prepare", value=request.recipe,
                remedy="add it to WrappedBackend(quantizers=…), or take the recipe out of the BackendInfo",
            )  # fmt: skip
        return self.quantizers[request.recipe]()
