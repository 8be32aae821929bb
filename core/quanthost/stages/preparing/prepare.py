"""``prepare``: inserts observers into the captured graph where a backend's rows and the recipe need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from torch import fx

from quanthost.errors import RequestError, TableError
from quanthost.graph.fold import fold_batch_norms, not_trainable
from quanthost.graph.garbage import collecting_rarely
from quanthost.graph.layouts import forget_layouts
from quanthost.graph.operators import omit_absent, operator_name
from quanthost.graph.provenance import NodeInfo, node_infos, source_line
from quanthost.graph.rewrite import functionalize, tag_origins
from quanthost.hooks.manager import Plugins
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.preparing.decisions import decide
from quanthost.stages.preparing.finite_weights import refuse_infinite_weights
from quanthost.stages.preparing.planning import Plan, plan_quantization
from quanthost.stages.records import PreparedModel
from quanthost.toolchain import pt2e
from quanthost.toolchain.active import using
from quanthost.toolchain.export import graph_module as private_copy
from quanthost.toolchain.export import remove_writes
from quanthost.values import Decision, Kernel, Latency, Recipe, Request
from quanthost.values.choices import nearest

__all__ = ["HostQuantizer", "PlannedGraph", "plan", "prepare", "recipe_of"]


def recipe_of(plugins: Plugins, request: Request) -> Recipe:
    """The recipe that a request names, which every backend of the request must have.

    Raises:
        RequestError: a backend has no recipe of that name, cannot train, or has no such option.
    """
    for backend in request.backends:
        info = plugins.info(backend)
        if info.recipe(request.recipe) is None:
            raise _unknown(backend, "recipe", request.recipe, [recipe.name for recipe in info.recipes])
        if request.qat and not info.qat:
            raise RequestError(
                "qat=True", needed="a backend that supports quantization-aware training",
                plugin=backend, stage="prepare", remedy="calibrate instead, or choose another backend",
            )  # fmt: skip
        for name, _ in request.options:
            if name not in info.options:
                raise _unknown(backend, "option", name, info.options)
    recipe = plugins.info(request.backends[0]).recipe(request.recipe)
    assert recipe is not None
    return recipe


def _unknown(backend: str, kind: str, name: str, names: Sequence[str]) -> RequestError:
    close = nearest(name, names)
    return RequestError(
        f"the {kind} {name!r}, which {backend} does not have", plugin=backend, stage="prepare", value=name,
        needed=f"one of {', '.join(names)}" if names else f"no {kind}",
        remedy=f"ask for {close!r}" if close is not None
        else f"choose one of these {kind}s" if names else f"remove the {kind}",
    )  # fmt: skip


class HostQuantizer(pt2e.CallbackQuantizer):
    """The torchao quantizer of a request, which ``prepare`` uses and ``as_quantizer`` returns.

    After ``prepare_pt2e``, ``decisions`` has one decision for each node of the graph, and ``last_plan`` is
    the plan that they come from.
    """

    def __init__(self, plugins: Plugins, request: Request, nodes: tuple[NodeInfo, ...] | None = None) -> None:
        super().__init__(
            transform=self._transform_graph, plan=self.plan, check=self._check_graph, qat=request.qat
        )
        self.plugins, self.request = plugins, request
        self.decisions: tuple[Decision, ...] = ()
        self.last_plan: Plan | None = None
        self.latency: Latency | None = None
        self._nodes = nodes
        self.recipe = recipe_of(plugins, request)

    def _transform_graph(self, graph_module: fx.GraphModule) -> fx.GraphModule:
        if self._nodes is None:
            tag_origins(graph_module)
            self._nodes = tuple(node_infos(graph_module.graph))
            _refuse_writes(
                functionalize(graph_module), needed="a graph that makes new tensors",
                remedy="call run_decompositions({}) on the exported program before .module()",
            )  # fmt: skip
        forget_layouts(graph_module)
        graph_module = self.plugins.transform(graph_module, self.request)
        omit_absent(graph_module.graph)
        return graph_module

    def plan(self, graph_module: fx.GraphModule) -> pt2e.QuantPlan:
        """The plan for a transformed graph; sets ``last_plan``, ``decisions`` and ``latency``."""
        nodes = self._nodes if self._nodes is not None else tuple(node_infos(graph_module.graph))
        result = plan_quantization(graph_module, nodes, self.request, self.plugins)
        self.last_plan = result
        self.decisions = decide(nodes, graph_module, result, self.request, self.recipe)
        self.latency = result.latency
        return result.quant_plan

    def _check_graph(self, graph_module: fx.GraphModule) -> None:
        problems = self.plugins.validate(
            graph_module=graph_module, decisions=self.decisions, request=self.request
        )
        if problems:
            first = problems[0]
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise TableError(
                f"{first.message}{more}", needed="a graph that the backend accepts", stage="prepare",
                node=first.node, remedy=first.remedy, value=problems,
            )  # fmt: skip


@collecting_rarely()
def prepare(captured: CapturedModel, plugins: Plugins, request: Request) -> PreparedModel:
    """Insert observers (fake quantize modules where ``request.qat``) into a copy of the captured graph.

    Raises:
        RequestError: the recipe or an option does not exist, the model was captured in the wrong mode, or
            a model to train writes in place into a tensor that others read, or has a batch norm that
            cannot be trained with its convolution.
        OverrideError: an override matches nothing or cannot be honoured.
        CalibrationError: a weight or bias is not finite.
        TableError: a backend's validation refuses the graph, or two of its rows tie.
    """
    with using(request.toolchain, captured.toolchain.notes) as active:
        graph, nodes = _copy_graph(captured, request)
        quantizer = HostQuantizer(plugins, request, nodes)
        module = pt2e.prepare(graph, quantizer, qat=request.qat)
        if quantizer.recipe.kernel is not Kernel.FLOAT:
            refuse_infinite_weights(module, nodes, quantizer.decisions)
    return PreparedModel(
        captured=captured, request=request, plugins=plugins, module=module, decisions=quantizer.decisions,
        latency=quantizer.latency, toolchain=active.record(),
    )  # fmt: skip


@attrs.frozen(kw_only=True, eq=False)
class PlannedGraph:
    """The graph that the backends rewrote, the plan for it, and the decisions, as in ``prepare``.

    ``nodes`` describe the captured graph; ``rewritten`` has no observers.
    """

    nodes: tuple[NodeInfo, ...]
    rewritten: fx.GraphModule
    plan: Plan
    decisions: tuple[Decision, ...]


def plan(
    captured: CapturedModel,
    plugins: Plugins,
    request: Request,
    *,
    arrange: Callable[[fx.GraphModule], None] = lambda _: None,
) -> PlannedGraph:
    """Decide as ``prepare`` does, on a copy of the graph, without inserting observers.

    ``arrange`` may rename and reorder the nodes of the graph before the backends see it.

    Raises:
        QuanthostError: ``prepare`` would raise it, except for problems from ``quanthost_validate``.
    """
    with using(request.toolchain):
        graph, nodes = _copy_graph(captured, request)
    arrange(graph)
    quantizer = HostQuantizer(plugins, request, nodes)
    graph = quantizer.transform_for_annotation(graph)
    quantizer.plan(graph)
    assert quantizer.last_plan is not None
    return PlannedGraph(nodes=nodes, rewritten=graph, plan=quantizer.last_plan, decisions=quantizer.decisions)


def _copy_graph(captured: CapturedModel, request: Request) -> tuple[fx.GraphModule, tuple[NodeInfo, ...]]:
    """A copy of the captured graph for the backends, and its nodes before functionalization."""
    if request.qat != captured.train:
        mode, needed = ("evaluation", "training") if request.qat else ("training", "evaluation")
        raise RequestError(
            f"a model captured for {mode} with qat={request.qat}", needed=f"a model captured for {needed}",
            stage="prepare", remedy=f"call capture(..., train={request.qat}) first",
        )  # fmt: skip
    graph = private_copy(captured.exported)
    nodes = tuple(node_infos(graph.graph))
    writers = functionalize(graph)
    if captured.train:
        _refuse_writes(
            writers, needed="a forward that makes new tensors, where it is trained",
            remedy="write torch.cat, torch.where or masked_fill in place of the assignment",
        )  # fmt: skip
        _refuse_untrainable(graph)
        # training must leave the float model as it is
        graph = pt2e.deep_copy(graph, share=False)
    elif writers:
        graph = remove_writes(graph, captured.example_args, captured.example_kwargs, captured.dynamic_shapes)
    if not captured.train:
        fold_batch_norms(graph)
    return graph, nodes


def _refuse_writes(writers: Sequence[fx.Node], *, needed: str, remedy: str) -> None:
    if not writers:
        return
    line = source_line(writers[0])
    raise RequestError(
        f"{operator_name(writers[0])} writes into a tensor that others read", needed=needed,
        where=None if line is None else line.described(), stage="prepare", node=writers[0].name,
        remedy=remedy, value=tuple(node.name for node in writers),
    )  # fmt: skip


def _refuse_untrainable(graph_module: fx.GraphModule) -> None:
    layers = not_trainable(graph_module)
    if not layers:
        return
    layer, reason = layers[0]
    line = source_line(layer)
    raise RequestError(
        f"{layer.name} with a batch norm behind it, which cannot be trained together: {reason}",
        needed="a convolution with a weight of its own, and a batch norm with running statistics",
        where=None if line is None else line.described(), stage="prepare", node=layer.name,
        remedy="give each batch norm a convolution module of its own, or calibrate with qat=False",
        value=tuple(node.name for node, _ in layers),
    )  # fmt: skip
