"""Times each row of a backend separately on this machine, in integers and in float."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import torch
from torch import fx, nn

from quanthost.catalogue import Example, examples_of
from quanthost.errors import QuanthostError, RequestError
from quanthost.graph.leaves import TensorSpec
from quanthost.graph.view import constant, tensor_meta
from quanthost.hooks.backend import TableBackend
from quanthost.hooks.manager import Plugins
from quanthost.hooks.specs import LoweringOptions, hookimpl
from quanthost.host import discovery
from quanthost.host.requests import resolve
from quanthost.host.target import Backend, Target, TargetSettings, as_target
from quanthost.stages.calibrating.calibrate import calibrate
from quanthost.stages.capturing.capture import CapturedModel, capture
from quanthost.stages.converting import convert as _convert
from quanthost.stages.lowering import lower as _lower
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.lowering.timing import machine, seconds_in_turns, seconds_of
from quanthost.stages.preparing import prepare as _prepare
from quanthost.stages.preparing.planned_match import PlannedMatch
from quanthost.stages.progress import Progress, silent
from quanthost.stages.records import ConvertedModel
from quanthost.values import (
    ConversionCost,
    CostTable,
    Io,
    Kernel,
    Placement,
    Recipe,
    Request,
    Role,
    SiteCost,
    Sizes,
)
from quanthost.values.choices import choose

__all__ = ["measure_costs"]

_VERSIONED = ("quanthost", "torch", "executorch")
# what a kernel takes at the least: a clock's resolution
_LEAST = 1e-7
_T = TypeVar("_T")


def measure_costs(
    backend: Backend | Target,
    models: Sequence[tuple[nn.Module, Any]] = (),
    *,
    policy: discovery.Policy | None = None,
    progress: Progress | None = None,
) -> CostTable:
    """Time the rows of a backend on this machine, in integers and in float.

    Each operator is lowered by itself, once for each kernel, with inputs and outputs in the kernel's own
    type, so that a time is the kernel's alone. Without ``models`` these are the rows of the support table
    at a few sizes; with ``models``, pairs of module and example inputs, they are the operators of those at
    their own sizes.

    Of a ``Target`` its backend, options, policy and toolchain count: the rows are measured in each recipe.

    Raises:
        RequestError: several backends, or one without a float recipe or without a support table.
        DiscoveryError: the backend is unknown, blocked or broken.
    """
    progress = silent() if progress is None else progress
    settings: TargetSettings = {} if policy is None else {"policy": policy}
    measuring = _Measuring.of(as_target(measure_costs, backend, None, (), settings))
    with progress.stage("measure"):
        measuring.measure_call()
        for example in _counted(measuring.examples(models), progress):
            measuring.add(example)
    return measuring.table()


def _counted(items: list[Callable[[], _T]], progress: Progress) -> Iterator[_T]:
    for done, make in enumerate(items, start=1):
        yield make()
        progress.note(f"{done} of {len(items)} examples")


class _WithoutCopies:
    """Lets programs read their inputs in place: copying them is no work of the kernel."""

    @hookimpl(wrapper=True)
    def quanthost_lowering_options(self) -> Any:
        from executorch.exir import ExecutorchBackendConfig
        from executorch.exir.passes import MemoryPlanningPass

        options: LoweringOptions = yield
        config = options.backend_config
        config = dataclasses.replace(
            ExecutorchBackendConfig() if config is None else config,
            memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
        )
        return attrs.evolve(options, backend_config=config)


@attrs.frozen(kw_only=True)
class _Example:
    """A captured model to measure; ``row`` is the row that it is made for, ``None`` of a user's model."""

    row: str | None
    captured: CapturedModel


def _model_example(module: nn.Module, inputs: Any) -> _Example:
    return _Example(row=None, captured=capture(module, inputs))


class _Measuring:
    """One run of measuring: the costs so far, and why something could not be measured."""

    def __init__(self, plugins: Plugins, request: Request, table: TableBackend) -> None:
        self._plugins, self._base, self._backend = plugins, request, table
        (self._name,) = request.backends
        recipes = plugins.info(self._name).recipes
        self._float = next(recipe for recipe in recipes if recipe.kernel is Kernel.FLOAT)
        by_kernel = {recipe.kernel: recipe for recipe in reversed(recipes)}
        self._recipes = [r for kernel, r in by_kernel.items() if kernel is not Kernel.FLOAT]
        self._sites: dict[tuple[str, Kernel, Sizes], SiteCost] = {}
        self._conversions: dict[int, ConversionCost] = {}
        self._skipped: dict[str, str] = {}
        self._tried: list[str] = []
        self._call = 0.0

    @classmethod
    def of(cls, target: Target) -> _Measuring:
        loaded, request = resolve(
            Target(
                backend=target.backend, options=dict(target.options), policy=target.policy,
                toolchain=target.toolchain,
            )
        )  # fmt: skip
        if len(request.backends) > 1:
            raise RequestError(
                f"the backends {', '.join(request.backends)}", needed="one backend", stage="measure",
                remedy="measure each by itself", value=request.backends,
            )  # fmt: skip
        (name,) = request.backends
        plugin, recipes = loaded.plugin(name), loaded.info(name).recipes
        if not isinstance(plugin, TableBackend) or not any(r.kernel is Kernel.FLOAT for r in recipes):
            raise RequestError(
                f"the backend {name}", plugin=name, stage="measure", value=name,
                needed="a backend with a support table and a recipe for float (fp32)",
                remedy="measure a backend that can also leave operators in float",
            )  # fmt: skip
        plugins = Plugins([(name, plugin)], [("quanthost.measuring", _WithoutCopies())])
        return cls(plugins, attrs.evolve(request, placement=Placement.ALL), plugin)

    def examples(self, models: Sequence[tuple[nn.Module, Any]]) -> list[Callable[[], _Example | None]]:
        """The models, or else an example for each row and size; each is captured when it is its turn."""
        if models:
            return [partial(_model_example, module, inputs) for module, inputs in models]
        examples: list[Callable[[], _Example | None]] = []
        for row in self._backend.table:
            if row.kernels <= {Kernel.FLOAT}:
                self._skipped[row.name] = "float alone: there is nothing to choose"
                continue
            listed = list(examples_of(row))
            if not listed:
                self._skipped[row.name] = f"the catalogue has no sizes for {row.pattern}"
                continue
            self._tried.append(row.name)
            examples += [partial(self._capture, row.name, example) for example in listed]
        return examples

    def _capture(self, row: str, example: Example) -> _Example | None:
        try:
            return _Example(row=row, captured=capture(example.module, example.inputs))
        except QuanthostError as error:
            self._note(row, error)
            return None

    def measure_call(self) -> None:
        """Time an almost empty program, for the cost of a call itself.

        It is subtracted from each time, since the operators of a network share one call.
        """
        relu = capture(nn.ReLU().eval(), (torch.zeros(1, 2),))
        _, call = _runnable(self._converted(relu, self._request(self._float)), Io.FLOAT)
        self._call = seconds_of(call)

    def add(self, example: _Example | None) -> None:
        """Time each match of new sizes, in each kernel."""
        if example is None:
            return
        new: dict[tuple[str, Sizes], dict[Kernel, PlannedMatch]] = {}
        for recipe in self._recipes:
            try:
                matches = _prepare.plan(example.captured, self._plugins, self._request(recipe)).plan.matches
            except QuanthostError as error:
                self._note(example.row, error)
                continue
            for each in matches:
                sizes, match = each.sizes, each.match
                if sizes is None or example.row not in (None, match.row):
                    continue
                if (match.row, match.kernel, sizes) not in self._sites:
                    new.setdefault((match.row, sizes), {})[match.kernel] = each
        for (row, sizes), by_kernel in new.items():
            try:
                self._add_site(row, sizes, by_kernel)
            except QuanthostError as error:
                self._note(row, error)

    def _note(self, row: str | None, reason: object) -> None:
        if row is not None:
            self._skipped.setdefault(row, str(reason).splitlines()[0])

    def _request(self, recipe: Recipe) -> Request:
        return attrs.evolve(self._base, recipe=recipe.name)

    def _add_site(self, row: str, sizes: Sizes, by_kernel: dict[Kernel, PlannedMatch]) -> None:
        """Time a match in float and in each other kernel, in turns, since only their ratio decides."""
        recipes = {recipe.kernel: recipe for recipe in (*self._recipes, self._float)}
        captured = _alone(next(iter(by_kernel.values())))
        calls: dict[Kernel | None, Callable[[], Any]] = {}
        for kernel in (*by_kernel, Kernel.FLOAT):
            converted = self._converted(captured, self._request(recipes[kernel]))
            static = kernel is Kernel.STATIC
            io = _io(recipes[kernel]) if static else Io.FLOAT
            program, calls[kernel] = _runnable(converted, io)
            if static and self._shows_conversions(sizes, program):
                _, calls[None] = _runnable(converted, Io.FLOAT)
        seconds = dict(zip(calls, seconds_in_turns(list(calls.values()))))
        if None in seconds:
            # the same program with float ends has one quantize and one dequantize more
            elements = torch.Size(sizes.output).numel()
            spent = max(0.0, seconds.pop(None) - seconds[Kernel.STATIC]) / 2
            self._conversions[elements] = ConversionCost(elements=elements, seconds=spent)
        for each, total in seconds.items():
            assert each is not None
            spent = max(_LEAST, total - self._call)
            self._sites[row, each, sizes] = SiteCost(row=row, kernel=each, sizes=sizes, seconds=spent)

    def _shows_conversions(self, sizes: Sizes, program: LoweredProgram) -> bool:
        """Whether a tensor of a new size goes in and comes out, all of it in the delegate."""
        alike = not sizes.weight and sizes.inputs == (sizes.output,)
        is_new = torch.Size(sizes.output).numel() not in self._conversions
        return alike and is_new and not program.record.outside

    def _converted(self, captured: CapturedModel, request: Request) -> ConvertedModel:
        prepared = _prepare.prepare(captured, self._plugins, request)
        return _convert.convert(calibrate(prepared, [captured.example_args]))

    def table(self) -> CostTable:
        sites = [*self._sites.values(), *self._of_twins()]
        measured = {site.row for site in sites}
        for row in self._tried:
            self._note(row, "its examples become another row before the table sees them")
        return CostTable(
            backend=self._name, machine=machine(),
            versions=[(name, importlib.metadata.version(name)) for name in _VERSIONED],
            sites=sites, conversions=self._conversions.values(),
            skipped={row: reason for row, reason in self._skipped.items() if row not in measured},
        )  # fmt: skip

    def _of_twins(self) -> Iterator[SiteCost]:
        """Costs of rows that no example can match, since their constraints are about the neighbours.

        A row of the same pattern has the same kernel.
        """
        measured = {site.row for site in self._sites.values()}
        shown = [row for row in self._backend.table if row.name in measured]
        for row in self._backend.table:
            if row in shown:
                continue
            twin = next((other.name for other in shown if other.pattern == row.pattern), None)
            kernels = {*row.kernels, Kernel.FLOAT}
            of_twin = (s for s in self._sites.values() if s.row == twin and s.kernel in kernels)
            yield from (attrs.evolve(site, row=row.name) for site in of_twin)


def _runnable(converted: ConvertedModel, io: Io) -> tuple[LoweredProgram, Callable[[], Any]]:
    """The program, and a call of it on examples of the type that its inputs have."""
    program = _lower.lower(converted, io=io)
    examples = converted.calibrated.prepared.captured.example_args
    inputs = [
        _fitting(example, leaf) if isinstance(leaf, TensorSpec) else example
        for leaf, example in zip(program.signature.inputs, examples)
    ]
    return program, program.repeatable(*inputs)


def _io(recipe: Recipe) -> Io:
    """The type of a recipe's activations."""
    dtype = getattr(recipe.for_role(Role.ACTIVATION), "dtype", None)
    return Io.FLOAT if dtype is None else choose(Io, dtype.value, "io")


def _fitting(example: torch.Tensor, leaf: TensorSpec) -> torch.Tensor:
    """The example, or arbitrary integers if the program takes integers."""
    if leaf.dtype == example.dtype:
        return example
    generator = torch.Generator().manual_seed(0)
    limits = torch.iinfo(leaf.dtype)
    return torch.randint(limits.min, limits.max + 1, example.shape, dtype=leaf.dtype, generator=generator)


def _alone(match: PlannedMatch) -> CapturedModel:
    """A model of one match's operators, on inputs of the same shapes."""
    root, graph = nn.Module(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    inputs: list[torch.Tensor] = []
    owner = match.nodes[0].graph.owning_module
    reads = (node for each in match.nodes for node in each.all_input_nodes if node not in match.nodes)
    for node in dict.fromkeys(reads):
        value = None if owner is None else constant(owner, node)
        if value is None:
            copies[node] = graph.placeholder(f"x{len(inputs)}")
            inputs.append(_like(node))
        else:
            name = f"constant{len(copies)}"
            root.register_buffer(name, value)
            copies[node] = graph.get_attr(name)
    for node in match.nodes:
        copies[node] = graph.create_node(
            node.op, node.target, *fx.map_arg((node.args, node.kwargs), copies.__getitem__)
        )
    graph.output(copies[match.nodes[-1]])
    return capture(fx.GraphModule(root, graph).eval(), tuple(inputs))


def _like(node: fx.Node) -> torch.Tensor:
    meta = tensor_meta(node)
    if meta is None:
        raise RequestError(
            f"{node.name}, whose result is not one tensor", needed="operators of tensors", stage="measure",
            remedy="nothing: such operators are not measured", value=node.name,
        )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    shape = [int(size) for size in meta.shape]
    if meta.is_floating_point():
        values = torch.rand(shape, generator=generator, dtype=torch.float32).to(meta.dtype) * 2 - 0.75
    else:
        values = torch.zeros(shape, dtype=meta.dtype)
    if 0 in meta.stride():
        # an expanded tensor: the copies of an element would be written several times
        return values
    return torch.empty_strided(shape, meta.stride(), dtype=meta.dtype).copy_(values)
