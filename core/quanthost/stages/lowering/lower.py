"""``lower``: turns the converted graph into a program, with the partitions that the backends delegate."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.fx.graph import CodeGen

from quanthost.errors import EmptyProgramError, QuanthostError
from quanthost.graph.garbage import collecting_rarely
from quanthost.graph.layouts import in_standard_layout
from quanthost.graph.leaves import ConstantSpec
from quanthost.graph.outputs import plan_outputs
from quanthost.graph.signature import Signature
from quanthost.integer.kernels.forms import Form, set_form
from quanthost.stages.capturing.capture import CapturedModel
from quanthost.stages.lowering import ends
from quanthost.stages.lowering.attempts import Attempts, Lowered
from quanthost.stages.lowering.branches import copy_branch_results
from quanthost.stages.lowering.files import program_digest
from quanthost.stages.lowering.gains import find_large_float_weights, find_missing_gains
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.lowering.refused import refuse_loops, refused
from quanthost.stages.lowering.taps import tap
from quanthost.stages.lowering.timing import machine, seconds_of
from quanthost.stages.lowering.versions import versions
from quanthost.stages.preparing.decisions import place
from quanthost.stages.preparing.prepare import recipe_of
from quanthost.stages.records import ConvertedModel, PreparedModel
from quanthost.toolchain import shortcuts
from quanthost.toolchain.active import using
from quanthost.toolchain.copies import copy_graph
from quanthost.toolchain.edge import Watch
from quanthost.toolchain.export import export
from quanthost.toolchain.partition import Partitioner
from quanthost.toolchain.runtime import register_kernels
from quanthost.values import (
    Io,
    Latency,
    OutputLeaf,
    PluginRecord,
    ProgramRecord,
    Representation,
    TensorQParams,
    ToolchainRecord,
)

__all__ = ["lower"]

# time limit for timing a call
_TIMING_SECONDS = 0.5


@collecting_rarely()
def lower(
    converted: ConvertedModel,
    plugins: Sequence[PluginRecord] = (),
    *,
    io: Io = Io.FLOAT,
    intermediates: bool = False,
    allow_missing_kernels: bool = False,
    watch: Watch | None = None,
) -> LoweredProgram:
    """Make the program.

    A reference or integer representation is lowered to the runtime's portable kernels, without a delegate:
    no delegate computes from its operators. The program runs once on the captured examples: an operator that
    the runtime has no kernel for, or whose kernel refuses, is decomposed as torch knows it, or refused.

    Args:
        converted: What ``convert`` returned.
        plugins: The distributions that took part, for the record.
        io: ``Io.FLOAT`` quantizes inputs and dequantizes outputs inside the program; with another type they
            are integers, whose parameters the record has.
        intermediates: Let the program also return the integers of each quantized operator, which
            ``LoweredProgram.intermediates`` gives by name.
        allow_missing_kernels: Make the program for a runtime that has more kernels than the one here, and
            don't run it; the record lists what is missing here.
        watch: Receives the edge graph after each partitioner has tagged it, and the final one.

    Raises:
        RequestError: an input or output has no integers of the type.
        LoweringError: nothing is computed, the toolchain refuses the graph, or the runtime cannot run the
            program.
    """
    prepared = converted.calibrated.prepared
    request = prepared.request
    with using(request.toolchain, converted.toolchain.notes) as active:
        if converted.toolchain.way is not active.toolchain:
            active.note(f"{converted.toolchain.way.value} toolchain before lower")
        with shortcuts.entered("compiled_when_called"):
            graph = _program_graph(converted, io, intermediates=intermediates)
        lowered = _lower_graph(
            graph.module, converted, allow_missing_kernels=allow_missing_kernels, watch=watch
        )
    record = _record(converted, graph, lowered, plugins=plugins, toolchain=active.record())
    program = LoweredProgram(buffer=lowered.edge.buffer, record=record, runner=lowered.runner)
    if prepared.latency is None:
        return program
    latency = _measure(program, prepared.latency, prepared.captured, io)
    return attrs.evolve(program, record=attrs.evolve(record, latency=latency))


@attrs.frozen(kw_only=True, eq=False)
class _ProgramGraph:
    """The graph of a program, with what the record says about inputs and outputs."""

    module: fx.GraphModule
    signature: Signature
    outputs: tuple[OutputLeaf, ...]
    tapped: tuple[str, ...]
    quantized_inputs: tuple[TensorQParams, ...]
    quantized_outputs: tuple[TensorQParams, ...]


def _program_graph(converted: ConvertedModel, io: Io, *, intermediates: bool) -> _ProgramGraph:
    """A copy of the converted graph with the inputs, outputs and operators of its program.

    Raises:
        LoweringError: nothing is computed.
    """
    prepared = converted.calibrated.prepared
    module = copy_graph(converted.module)
    quantized_inputs, quantized_outputs = ends.input_qparams(module), ends.output_qparams(module)
    signature = prepared.captured.signature
    if io is not Io.FLOAT:
        signature = ends.keep_integers(module, signature, io)
    outputs = plan_outputs(module)
    _refuse_empty(module, outputs)
    tapped = tap(module) if intermediates else ()
    refuse_loops(module.graph, prepared.captured.nodes(), ", ".join(prepared.request.backends))
    copy_branch_results(module)
    if converted.representation is not Representation.QDQ:
        in_float = converted.representation is Representation.REFERENCE
        set_form(module, Form.REFERENCE if in_float else Form.PORTABLE)
        ends.write_primitives(module)
    elif not _delegating(prepared):
        ends.write_group_scales(module)
    return _ProgramGraph(
        module=module, signature=signature, outputs=outputs, tapped=tapped,
        quantized_inputs=quantized_inputs, quantized_outputs=quantized_outputs,
    )  # fmt: skip


def _record(
    converted: ConvertedModel,
    graph: _ProgramGraph,
    lowered: Lowered,
    *,
    plugins: Sequence[PluginRecord],
    toolchain: ToolchainRecord,
) -> ProgramRecord:
    prepared = converted.calibrated.prepared
    captured, request, edge = prepared.captured, prepared.request, lowered.edge
    outside = tuple(name for _, name in edge.outside)
    size = len(edge.buffer)
    gains = (
        *find_missing_gains(
            captured, recipe_of(prepared.plugins, request), converted.decisions,
            representation=converted.representation, size=size, outside=outside,
        ),
        *find_large_float_weights(prepared, size),
    )  # fmt: skip
    return ProgramRecord(
        program_digest=program_digest(edge.buffer), backends=request.backends, recipe=request.recipe,
        representation=converted.representation.value, plugins=tuple(plugins), versions=versions(),
        overrides=request.overrides, options=request.options, qat=request.qat,
        model=captured.model_class, model_digest=captured.digest,
        data_digest=converted.calibrated.data_digest,
        signature=graph.signature.to_json(), outputs=graph.outputs, intermediates=graph.tapped,
        quantized_inputs=graph.quantized_inputs, quantized_outputs=graph.quantized_outputs,
        pieces=lowered.pieces, outside=outside,
        runtime_modules=lowered.modules,
        decisions=place(converted.decisions, edge, _delegating(prepared)),
        refinement=converted.refinement, own_runner=lowered.runner is not None, toolchain=toolchain,
        missing_kernels=lowered.missing, findings=(*converted.findings, *gains),
    )  # fmt: skip


def _measure(program: LoweredProgram, latency: Latency, captured: CapturedModel, io: Io) -> Latency:
    """Add the latency measured on this machine to the expected one."""
    if io is not Io.FLOAT:
        return attrs.evolve(latency, note=f"not measured: inputs are {io.value}, the examples are float")
    try:
        call = program.repeatable(*captured.example_args, **captured.example_kwargs)
    except QuanthostError as error:
        return attrs.evolve(latency, note=f"not measured: {str(error).splitlines()[0]}")
    return attrs.evolve(latency, measured=seconds_of(call, budget=_TIMING_SECONDS), machine=machine())


def _delegating(prepared: PreparedModel) -> list[str]:
    return [name for name in prepared.request.backends if prepared.plugins.info(name).runtime]


def _refuse_empty(module: fx.GraphModule, outputs: tuple[OutputLeaf, ...]) -> None:
    if module.graph.output_node().args[0]:
        return
    raise EmptyProgramError(
        f"a model whose {len(outputs)} outputs are inputs or constants", stage="lower",
        needed="at least one output that is computed", remedy="lower the part of the model that computes",
    )  # fmt: skip


def _lower_graph(
    module: fx.GraphModule, converted: ConvertedModel, *, allow_missing_kernels: bool, watch: Watch | None
) -> Lowered:
    prepared = converted.calibrated.prepared
    plugins, request = prepared.plugins, prepared.request
    delegated = converted.representation is Representation.QDQ
    partitioners = plugins.partitioners(request, Partitioner) if delegated else []
    options = plugins.lowering_options(request)
    plugin, nodes = ", ".join(request.backends), prepared.captured.nodes()
    modules = tuple(dict.fromkeys(name for o in options for name in o.runtime_modules))
    with contextlib.ExitStack() as stack:
        for option in options:
            if option.around is not None:
                stack.enter_context(option.around())
        try:
            register_kernels(modules)
            exported = _export(module, converted)
            runs = Attempts(
                prepared=prepared, partitioners=partitioners, options=options, modules=modules, watch=watch
            )
            return runs.lower(exported, allow_missing_kernels=allow_missing_kernels)
        except QuanthostError:
            raise
        except Exception as error:
            raise refused(error, module.graph, nodes, plugin) from error


def _export(module: fx.GraphModule, converted: ConvertedModel) -> ExportedProgram:
    """Export the graph with flat inputs, without the arguments that tracing fixed."""
    captured = converted.calibrated.prepared.captured
    fixed = [isinstance(leaf, ConstantSpec) for leaf in captured.signature.inputs]
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node, is_fixed in zip(placeholders, fixed):
        if is_fixed:
            module.graph.erase_node(node)
    module.graph.set_codegen(CodeGen())
    examples = captured.signature.flatten(captured.example_args, captured.example_kwargs)
    shapes = _flat_shapes(captured)
    inputs = [
        ends.example(node, in_standard_layout(leaf) if isinstance(leaf, torch.Tensor) else leaf)
        for node, leaf, is_fixed in zip(placeholders, examples, fixed)
        if not is_fixed
    ]
    lift = shortcuts.shortcut("lift") if shapes is None else None
    if lift is not None:
        with shortcuts.entered("compiled_when_called"):
            lifted = lift(module, inputs)
        if lifted is not None:
            assert isinstance(lifted, ExportedProgram)
            return lifted
    module.recompile()
    varying = None if shapes is None else [s for s, is_fixed in zip(shapes, fixed) if not is_fixed]
    return export(module, inputs, None, varying)


def _flat_shapes(captured: CapturedModel) -> list[Any] | None:
    """The dynamic dimensions of each leaf of the inputs."""
    if captured.dynamic_shapes is None:
        return None
    in_args, in_kwargs = captured.signature.in_spec.children()
    args, named = (
        captured.dynamic_shapes[: in_args.num_children],
        captured.dynamic_shapes[in_args.num_children :],
    )
    leaves: list[Any] = [
        *in_args.flatten_up_to(args),
        *in_kwargs.flatten_up_to(dict(zip(in_kwargs.context or (), named))),
    ]
    return leaves
