"""``torch.export``: traces a model with one input an argument, copies graphs, finds lines behind failures."""

from __future__ import annotations

import contextlib
import io
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

from quanthost.graph.layouts import in_standard_layout
from quanthost.graph.leaves import finite
from quanthost.graph.provenance import Location
from quanthost.graph.rewrite import ORIGIN, Rewriter
from quanthost.graph.writes import find_writes
from quanthost.toolchain import shortcuts
from quanthost.toolchain.quiet import error_logs_disabled, quiet

__all__ = ["dynamic_shapes", "export", "graph_module", "guard_lines", "remove_writes"]


def export(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    *,
    grad: bool = False,
) -> ExportedProgram:
    """Trace a model with ``torch.export``; errors are torch's own.

    The mode is always ``strict=False``. Of 58 models with awkward Python it traced 35, ``strict=True`` 33,
    and it took a third of the time. Its errors come from the model's own frames, so that they point to a
    line. A second attempt in the other mode would report that mode's failure instead.

    ``grad`` is whether autograd is on. Without it, a forward under ``torch.no_grad()`` is traced flat;
    with it, its operators land in a submodule, where no pattern finds them.
    """
    if isinstance(dynamic_shapes, ShapesCollection):
        # a ShapesCollection finds its tensors by identity
        dynamic_shapes = dynamic_shapes.dynamic_shapes(model, tuple(args), kwargs)
    args, named = _separate_tensors((tuple(args), None if kwargs is None else dict(kwargs)))
    printed = io.StringIO()
    with quiet(), error_logs_disabled(), torch.set_grad_enabled(grad), contextlib.redirect_stderr(printed):
        exported = torch.export.export(model, args, named, dynamic_shapes=dynamic_shapes, strict=False)
    # on failure torch prints the incomplete graph, which is dropped; the model's own output is passed on
    sys.stderr.write(printed.getvalue())
    return exported


def _separate_tensors(call: Any) -> Any:
    """Give each argument its own tensor object, in the layout that inputs of programs have.

    Torch treats one object in two places, or an input that is also a parameter, as one input: the program
    would read one of the two for both.
    """
    return pytree.tree_map_only(torch.Tensor, _separate_tensor, call)


def _separate_tensor(tensor: torch.Tensor) -> torch.Tensor:
    # in_standard_layout may return the tensor itself, detach never does
    return in_standard_layout(tensor).detach().requires_grad_(tensor.requires_grad)


def graph_module(exported: ExportedProgram) -> fx.GraphModule:
    """A copy of the program's graph that may be changed, with weights as attributes.

    The copy shares parameters, constants and buffers with the program. It has its own buffers where the
    graph writes, so that running the copy does not change the program. Each call node's custom metadata
    has the node's name, from which later stages find the origin of a node.
    """
    with shortcuts.entered("compared_names"):
        module = exported.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    for write in find_writes(exported):
        if write.kind is InputKind.BUFFER:
            path, _, name = write.name.rpartition(".")
            owner = module.get_submodule(path)
            setattr(owner, name, getattr(owner, name).detach().clone())
    for node in module.graph.nodes:
        if node.op == "call_function":
            # not setdefault: a program traced from an earlier copy still has that copy's names
            node.meta["custom"] = {**(node.meta.get("custom") or {}), ORIGIN: node.name}
    return module


def remove_writes(
    graph: fx.GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any
) -> fx.GraphModule:
    """Replace each in-place write, also those through views, by a new tensor.

    ``graph`` is in evaluation form. Nodes keep their custom metadata.
    """
    exported = export(graph, args, kwargs, dynamic_shapes)
    with quiet():
        module = exported.run_decompositions({}).module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten._native_batch_norm_legit_no_training.default:
            _restore_batch_norm(module, node)
    module.recompile()
    return module


def _restore_batch_norm(graph: fx.GraphModule, node: fx.Node) -> None:
    """Put back the operator that ``run_decompositions`` decomposes with any table."""
    (reader,) = node.users
    tensors, (momentum, eps) = node.args[:5], node.args[5:7]
    rewriter = Rewriter(graph, reader)
    batch_norm = rewriter.call(torch.ops.aten.batch_norm.default, *tensors, False, momentum, eps, False)
    rewriter.replace_with(batch_norm)
    graph.graph.erase_node(node)


def dynamic_shapes(exported: ExportedProgram, requested: Any = None) -> tuple[Any, ...] | None:
    """The dynamic dimensions of a program as ``export`` takes them, ``None`` if all are fixed.

    ``requested`` are the dynamic shapes that the program was traced with. If they let torch infer ranges and
    relations (``Dim.AUTO``, ``AdditionalInputs``), torch infers them again: a named ``Dim`` claims that
    every size of its range works.
    """
    hints = (type(Dim.AUTO), AdditionalInputs)
    inferred = any(isinstance(leaf, hints) for leaf in pytree.tree_leaves(requested))
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
    """Creates one ``Dim`` for each symbol and reuses it wherever the symbol occurs."""

    def __init__(self, ranges: Mapping[Any, Any], inferred: bool) -> None:
        self._ranges, self._inferred = ranges, inferred
        self._by_symbol: dict[Any, Any] = {}

    def of(self, value: Any) -> Any:
        """The dynamic dimensions of one input by axis, ``None`` if it has none."""
        if isinstance(value, torch.SymInt):
            return Dim.DYNAMIC
        sizes = value.shape if isinstance(value, torch.Tensor) else ()
        dims = {axis: self._dim(s.node.expr) for axis, s in enumerate(sizes) if isinstance(s, torch.SymInt)}
        return dims or None

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
    """The lines that restricted dynamic sizes, from the state of a failed trace."""
    environments: dict[int, ShapeEnv] = {}
    while trace is not None:
        for value in _torch_locals(trace):
            # torch has no public name for the mode of fake tensors
            environment = value.shape_env if type(value).__name__ == "FakeTensorMode" else value
            if isinstance(environment, ShapeEnv):
                environments[id(environment)] = environment
        trace = trace.tb_next
    frames = (guard.sloc.framework_loc for each in environments.values() for guard in each.guards)
    return [
        Location(file=f.filename, line=f.lineno or 0, function=f.name, text=(f.line or "").strip())
        for f in frames
        if f is not None
    ]


def _torch_locals(trace: TracebackType) -> Iterator[Any]:
    frame = trace.tb_frame
    if str(frame.f_globals.get("__name__", "")).startswith("torch."):
        yield from frame.f_locals.values()
