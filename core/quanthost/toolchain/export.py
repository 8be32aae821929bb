"""``torch.export``: tracing a model, copying a traced program's graph, and what its failures know."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import fx, nn
from torch.export import AdditionalInputs, Dim, ExportedProgram, ShapesCollection
from torch.export.graph_signature import InputKind
from torch.fx.experimental.symbolic_shapes import ShapeEnv, bound_sympy
from torch.utils import _pytree as pytree

from quanthost.graph.leaves import finite
from quanthost.graph.provenance import Location
from quanthost.graph.rewrite import ORIGIN, Rewriter
from quanthost.graph.writes import find_writes
from quanthost.toolchain import shortcuts
from quanthost.toolchain.quiet import quiet

__all__ = ["dynamic_shapes", "export", "graph_module", "guard_lines", "without_writes"]

_LOG_WHAT_THEY_RAISE = ("torch._subclasses.fake_tensor", "torch.export._trace")


def export(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    *,
    grad: bool = False,
) -> ExportedProgram:
    """Trace a model with ``torch.export``; errors are torch's own.

    There is one way, ``strict=False``. Of 58 models with awkward Python it traced 35 and ``strict=True``
    33, in a third of the time; and its errors are raised from the model's own frames, so that they lead
    to a line. A second attempt in the other mode would report a failure of that mode instead.

    ``grad`` is whether autograd is on. Without it, a forward under ``torch.no_grad()`` is traced flat;
    with it, its operators land in a submodule, where no pattern finds them.
    """
    if isinstance(dynamic_shapes, ShapesCollection):
        # it knows tensors by identity
        dynamic_shapes = dynamic_shapes.dynamic_shapes(model, tuple(args), kwargs)
    args, named = _told_apart((tuple(args), None if kwargs is None else dict(kwargs)))
    printed = io.StringIO()
    with quiet(), _unlogged(), torch.set_grad_enabled(grad), contextlib.redirect_stderr(printed):
        exported = torch.export.export(model, args, named, dynamic_shapes=dynamic_shapes, strict=False)
    # torch prints the half-made graph when it fails; what a model prints while it is traced is passed on
    sys.stderr.write(printed.getvalue())
    return exported


def _told_apart(call: Any) -> Any:
    """The arguments with a tensor object for each place.

    Torch takes one object in two places, or an input that is also a parameter, for one thing: the program
    would read one of the two for both.
    """
    return pytree.tree_map_only(torch.Tensor, lambda x: x.detach().requires_grad_(x.requires_grad), call)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep torch from logging, stack and all, the errors that it raises as well."""
    loggers = [logging.getLogger(name) for name in _LOG_WHAT_THEY_RAISE]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before):
            logger.disabled = disabled


def graph_module(exported: ExportedProgram) -> fx.GraphModule:
    """A copy of the program's graph that may be changed, with weights as attributes.

    Parameters, constants and buffers are shared with the program; buffers that the graph writes into are
    copied, so that running the copy leaves the program's values alone. Each call node's custom metadata
    carries its name, by which later stages know where a node comes from.
    """
    with shortcuts.entered("compared_names"):
        made = exported.module(check_guards=False)
    assert isinstance(made, fx.GraphModule)
    for write in find_writes(exported):
        if write.kind is InputKind.BUFFER:
            path, _, name = write.name.rpartition(".")
            owner = made.get_submodule(path)
            setattr(owner, name, getattr(owner, name).detach().clone())
    for node in made.graph.nodes:
        if node.op == "call_function":
            # not setdefault: a program traced from an earlier copy still has the names of that one
            node.meta["custom"] = {**(node.meta.get("custom") or {}), ORIGIN: node.name}
    return made


def without_writes(
    graph: fx.GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any
) -> fx.GraphModule:
    """The same computation with each write in place, also through views, as a new tensor.

    ``graph`` is in evaluation form; what its nodes carry as custom metadata is kept.
    """
    exported = export(graph, args, kwargs, dynamic_shapes)
    with quiet():
        made = exported.run_decompositions({}).module(check_guards=False)
    assert isinstance(made, fx.GraphModule)
    for node in list(made.graph.nodes):
        if node.target is torch.ops.aten._native_batch_norm_legit_no_training.default:
            _restore_batch_norm(made, node)
    made.recompile()
    return made


def _restore_batch_norm(graph: fx.GraphModule, node: fx.Node) -> None:
    """Put back the operator that ``run_decompositions`` takes apart whatever its table says."""
    (reader,) = node.users
    tensors, (momentum, eps) = node.args[:5], node.args[5:7]
    rewriter = Rewriter(graph, reader)
    made = rewriter.call(torch.ops.aten.batch_norm.default, *tensors, False, momentum, eps, False)
    rewriter.replace_with(made)
    graph.graph.erase_node(node)


def dynamic_shapes(exported: ExportedProgram, given: Any = None) -> tuple[Any, ...] | None:
    """The dynamic dimensions of a program as ``export`` takes them, ``None`` where all are fixed.

    Where ``given``, the dynamic shapes that the program was traced with, left ranges and relations to
    torch (``Dim.AUTO``, ``AdditionalInputs``), they are left to it again: a named ``Dim`` claims that
    every size of its range will do.
    """
    hints = (type(Dim.AUTO), AdditionalInputs)
    inferred = any(isinstance(leaf, hints) for leaf in pytree.tree_leaves(given))
    nodes = {node.name: node for node in exported.graph.nodes}
    dims = _Dims(exported.range_constraints, inferred)
    leaves = [
        dims.of(nodes[spec.arg.name].meta["val"])
        for spec in exported.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT
    ]
    if all(leaf is None for leaf in leaves):
        return None
    args, kwargs = pytree.tree_unflatten(leaves, exported.call_spec.in_spec)
    return (*args, *kwargs.values())


class _Dims:
    """One ``Dim`` for each symbol, the same wherever the symbol stands."""

    def __init__(self, ranges: Mapping[Any, Any], inferred: bool) -> None:
        self._ranges, self._inferred = ranges, inferred
        self._by_symbol: dict[Any, Any] = {}

    def of(self, value: Any) -> Any:
        """The entry of one input: its dynamic dimensions by axis, ``None`` where it has none."""
        if isinstance(value, torch.SymInt):
            return Dim.DYNAMIC
        sizes = value.shape if isinstance(value, torch.Tensor) else ()
        found = {axis: self._dim(s.node.expr) for axis, s in enumerate(sizes) if isinstance(s, torch.SymInt)}
        return found or None

    def _dim(self, formula: Any) -> Any:
        symbol, *others = sorted(formula.free_symbols, key=str)
        offset = formula.subs(symbol, 0)
        factor = formula.subs(symbol, 1) - offset
        if self._inferred or others or factor * symbol + offset != formula:
            bounds = bound_sympy(formula, self._ranges)
            return Dim.AUTO(min=finite(bounds.lower), max=finite(bounds.upper))
        if symbol not in self._by_symbol:
            own = self._ranges[symbol]
            self._by_symbol[symbol] = Dim(str(symbol), min=finite(own.lower), max=finite(own.upper))
        dim = self._by_symbol[symbol]
        # torch.export takes multiples and sums of one Dim, but neither 1 * dim nor dim + 0
        scaled = dim if factor == 1 else int(factor) * dim
        return scaled if offset == 0 else scaled + int(offset)


def guard_lines(trace: TracebackType | None) -> list[Location]:
    """The lines that restricted dynamic sizes, found in the state of a failed trace."""
    environments: dict[int, ShapeEnv] = {}
    while trace is not None:
        for value in _torch_locals(trace):
            # torch has no public name for the mode of fake tensors
            held = value.shape_env if type(value).__name__ == "FakeTensorMode" else value
            if isinstance(held, ShapeEnv):
                environments[id(held)] = held
        trace = trace.tb_next
    frames = (guard.sloc.framework_loc for env in environments.values() for guard in env.guards)
    return [
        Location(file=f.filename, line=f.lineno or 0, function=f.name, text=(f.line or "").strip())
        for f in frames
        if f is not None
    ]


def _torch_locals(trace: TracebackType) -> Iterator[Any]:
    frame = trace.tb_frame
    if str(frame.f_globals.get("__name__", "")).startswith("torch."):
        yield from frame.f_locals.values()
