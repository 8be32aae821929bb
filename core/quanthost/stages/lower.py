"""``lower``: the converted graph becomes a program, delegated as the backends' tables say."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.fx.graph import CodeGen

from quanthost.errors import LoweringError, QuanthostError
from quanthost.graph.leaves import ConstantSpec
from quanthost.graph.operators import argument
from quanthost.graph.outputs import plan_outputs
from quanthost.graph.view import is_dequantize, is_quantize
from quanthost.hooks.specs import LoweringOptions
from quanthost.stages.capture import CapturedModel
from quanthost.stages.decisions import place
from quanthost.stages.files import program_digest
from quanthost.stages.program import LoweredProgram
from quanthost.stages.records import ConvertedModel, PreparedModel
from quanthost.toolchain.edge import EdgeResult, to_program
from quanthost.toolchain.export import export
from quanthost.toolchain.partition import Partitioner
from quanthost.toolchain.pt2e import deep_copy
from quanthost.toolchain.runtime import register_kernels
from quanthost.values import OutputLeaf, PieceRecord, PluginRecord, ProgramRecord, TensorQParams

__all__ = ["lower"]

_VERSIONED = ("quanthost", "torch", "torchao", "executorch")


def lower(converted: ConvertedModel, plugins: Sequence[PluginRecord] = ()) -> LoweredProgram:
    """Make the program.

    Raises:
        LoweringError: nothing is computed, or the toolchain refuses the graph.
    """
    prepared = converted.calibrated.prepared
    module = deep_copy(converted.module)
    outputs = plan_outputs(module)
    _refuse_empty(module, outputs)
    edge, modules = _lower_graph(module, converted)
    captured, request = prepared.captured, prepared.request
    record = ProgramRecord(
        program_digest=program_digest(edge.buffer),
        backends=request.backends,
        recipe=request.recipe,
        representation=converted.representation.value,
        plugins=tuple(plugins),
        versions=tuple((name, _version(name)) for name in _VERSIONED),
        overrides=request.overrides,
        options=request.options,
        qat=request.qat,
        model=captured.model_class,
        model_digest=captured.digest,
        data_digest=converted.calibrated.data_digest,
        signature=captured.signature.to_json(),
        outputs=outputs,
        quantized_inputs=_input_qparams(module),
        quantized_outputs=_output_qparams(module),
        pieces=tuple(PieceRecord(delegate=p.delegate, operators=p.operators) for p in edge.pieces),
        outside=tuple(name for _, name in edge.outside),
        runtime_modules=modules,
        decisions=place(converted.decisions, edge, _delegating(prepared)),
        refinement=converted.refinement,
    )
    runner = prepared.plugins.runner(edge.buffer, request)
    return LoweredProgram(buffer=edge.buffer, record=record, runner=runner)


def _delegating(prepared: PreparedModel) -> list[str]:
    return [name for name in prepared.request.backends if prepared.plugins.info(name).runtime]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _refuse_empty(module: fx.GraphModule, outputs: tuple[OutputLeaf, ...]) -> None:
    if module.graph.output_node().args[0]:
        return
    raise LoweringError(
        f"a model whose {len(outputs)} outputs are inputs or constants", stage="lower",
        needed="at least one output that is computed", remedy="lower the part of the model that computes",
    )  # fmt: skip


def _lower_graph(module: fx.GraphModule, converted: ConvertedModel) -> tuple[EdgeResult, tuple[str, ...]]:
    prepared = converted.calibrated.prepared
    plugins, request = prepared.plugins, prepared.request
    partitioners = plugins.partitioners(request, Partitioner)
    options = plugins.lowering_options(request)
    modules = tuple(dict.fromkeys(name for o in options for name in o.runtime_modules))
    with contextlib.ExitStack() as stack:
        for option in options:
            if option.around is not None:
                stack.enter_context(option.around())
        try:
            register_kernels(modules)
            exported = _export_again(module, converted)
            edge = to_program(
                exported, partitioners=partitioners,
                passes=[p for option in options for p in option.passes],
                edge_config=_first(options, "edge_compile_config"),
                backend_config=_first(options, "backend_config"),
            )  # fmt: skip
        except QuanthostError:
            raise
        except Exception as error:
            raise LoweringError(
                f"the toolchain refused the graph: {_why(error)}",
                needed="a graph that torch.export and ExecuTorch accept", stage="lower",
                plugin=", ".join(request.backends),
                remedy="keep the operator named above in float or outside by an override, and report it",
            ) from error  # fmt: skip
    return edge, modules


def _why(error: BaseException) -> str:
    """What the error says, and what the first one in its chain says, which is the nearest to the graph."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    said = [str(each).strip() or type(each).__name__ for each in (error, first)]
    return "; ".join(dict.fromkeys(said))


def _export_again(module: fx.GraphModule, converted: ConvertedModel) -> ExportedProgram:
    """Trace the graph with its inputs in a row, without the arguments that tracing fixed."""
    captured = converted.calibrated.prepared.captured
    fixed = [isinstance(leaf, ConstantSpec) for leaf in captured.signature.inputs]
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node, is_fixed in zip(placeholders, fixed):
        if is_fixed:
            module.graph.erase_node(node)
    module.graph.set_codegen(CodeGen())
    module.recompile()
    examples = captured.signature.flatten(captured.example_args, captured.example_kwargs)
    shapes = _flat_shapes(captured)
    return export(
        module,
        [_contiguous(leaf) for leaf, is_fixed in zip(examples, fixed) if not is_fixed],
        None,
        None if shapes is None else [shape for shape, is_fixed in zip(shapes, fixed) if not is_fixed],
    )


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


def _contiguous(leaf: Any) -> Any:
    """A program reads its inputs as contiguous, whatever strides the examples had."""
    return leaf.contiguous() if isinstance(leaf, torch.Tensor) else leaf


def _first(options: list[LoweringOptions], name: str) -> Any:
    """The value of the first backend that sets it."""
    return next((getattr(o, name) for o in options if getattr(o, name) is not None), None)


def _input_qparams(module: fx.GraphModule) -> tuple[TensorQParams, ...]:
    found = (
        _qparams(node.name, user)
        for node in module.graph.nodes
        if node.op == "placeholder"
        for user in node.users
        if is_quantize(user)
    )
    return tuple(item for item in found if item is not None)


def _output_qparams(module: fx.GraphModule) -> tuple[TensorQParams, ...]:
    leaves = module.graph.output_node().args[0]
    found = (_qparams(leaf.name, leaf) for leaf in leaves if is_dequantize(leaf))
    return tuple(item for item in found if item is not None)


def _qparams(name: str, node: fx.Node) -> TensorQParams | None:
    values = {key: argument(node, key) for key in ("scale", "zero_point", "quant_min", "quant_max")}
    if any(not isinstance(value, (int, float)) for value in values.values()):
        return None
    return TensorQParams(
        name=name, scale=float(values["scale"]), zero_point=int(values["zero_point"]),
        quant_min=int(values["quant_min"]), quant_max=int(values["quant_max"]),
    )  # fmt: skip
