"""``capture``: traces a model with example inputs; the model itself stays unchanged."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from quanthost.caller_warning import warn_caller
from quanthost.errors import CaptureError, InputError, QuanthostError, RequestError
from quanthost.graph.digest import model_digest
from quanthost.graph.garbage import collecting_rarely
from quanthost.graph.provenance import NodeInfo, node_infos, source_line
from quanthost.graph.signature import Signature
from quanthost.graph.writes import Write, find_writes
from quanthost.stages.capturing.diagnose import diagnose
from quanthost.stages.capturing.unchanged import unchanged
from quanthost.toolchain.active import using
from quanthost.toolchain.export import dynamic_shapes as dynamic_shapes_of
from quanthost.toolchain.export import export
from quanthost.values import Toolchain, ToolchainRecord
from quanthost.values.choices import choose

__all__ = ["CapturedModel", "capture"]

_ASSIGNED = re.compile(r"The tensor attributes? (?P<names>.+?) (was|were) assigned during export")
# torch's recurrent modules list their parameters twice, and tracing replaces parameters
_SECOND_NAME = re.compile(r"(.*\.)?_flat_weights\[\d+\]")
# layers whose results depend on the mode
_TRAINED_OTHERWISE = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RReLU)
_STATE = "pass the state as an input of forward and return its new value as an output"


@attrs.frozen(kw_only=True, eq=False)
class CapturedModel:
    """A traced model.

    ``digest`` covers the computation, the weights and the signature: it is equal for the same model in every
    process and on every machine. ``train`` says whether batch norm and dropout are in training mode.
    ``dynamic_shapes`` has the dynamic dimensions as ``torch.export.export`` takes them.
    """

    exported: ExportedProgram = attrs.field(repr=False)
    signature: Signature = attrs.field(repr=False)
    model_class: str
    digest: str
    train: bool
    example_args: tuple[Any, ...] = attrs.field(repr=False)
    example_kwargs: dict[str, Any] = attrs.field(repr=False)
    dynamic_shapes: tuple[Any, ...] | None = attrs.field(default=None, repr=False)
    toolchain: ToolchainRecord = attrs.field(factory=ToolchainRecord, repr=False)

    def nodes(self) -> tuple[NodeInfo, ...]:
        """Name, operator, module and source line of each call node, in graph order."""
        return node_infos(self.exported.graph)

    def example_batch(self) -> Any:
        """The example inputs as ``calibrate`` takes a batch."""
        if not self.example_kwargs:
            return self.example_args
        return {**dict(zip(self.signature.parameters, self.example_args)), **self.example_kwargs}


@collecting_rarely()
def capture(
    model: nn.Module | ExportedProgram,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    *,
    train: bool = False,
    toolchain: Toolchain | str = Toolchain.FAST,
) -> CapturedModel:
    """Trace a model with ``torch.export``, or use a program that is already exported.

    Args:
        model: Weights, buffers, attributes and the mode of each module stay unchanged.
        inputs: Example inputs: a tensor, a tuple or list of positional arguments, or, where ``kwargs``
            is ``None``, a mapping of arguments by name. Wrap a single argument that is a list or mapping in
            a tuple: ``([a, b],)``. Optional for a program that has its own examples.
        kwargs: Example arguments by name.
        dynamic_shapes: Sizes that vary, as ``torch.export.export`` takes them.
        train: Trace in training mode, so that batch norm and dropout can be switched later; otherwise in
            evaluation mode without autograd.
        toolchain: Whether shortcuts through ``torch.export`` may be taken. This stage has none today; the
            program's record names the choice.

    Raises:
        CaptureError: the model cannot be traced, or changes an input, buffer or attribute; the message names
            the line, the construct and the usual rewrite.
        InputError: the inputs do not fit the exported program.
        RequestError: dynamic shapes were given for a program that is already exported, or the toolchain is
            unknown.
    """
    args, named = _arguments(inputs, kwargs)
    _refuse_other_devices(model, (args, named))
    if not train:
        _warn_of_training(model)
    with using(choose(Toolchain, toolchain, "toolchain")) as active:
        exported, args, named = _export(model, args, named, dynamic_shapes, train)
    signature = Signature.of(exported)
    signature.flatten(args, named)
    _refuse_writes(exported, signature, train)
    return CapturedModel(
        exported=exported, signature=signature, model_class=_class_name(model), train=train,
        digest=model_digest(exported, signature), example_args=args, example_kwargs=named,
        dynamic_shapes=dynamic_shapes_of(exported, dynamic_shapes), toolchain=active.record(),
    )  # fmt: skip


def _warn_of_training(model: nn.Module | ExportedProgram) -> None:
    """Tell a model in training mode whose results differ in evaluation mode that it is evaluated."""
    if not isinstance(model, nn.Module):
        return
    for name, module in model.named_modules():
        if module.training and isinstance(module, _TRAINED_OTHERWISE):
            warn_caller(
                f"{type(module).__name__} {name!r} is in training mode; it is captured in evaluation mode; "
                "call model.eval() first, or train with capture(..., train=True)"
            )
            return


def _refuse_other_devices(model: nn.Module | ExportedProgram, arguments: Any) -> None:
    """Refuse tensors that lie elsewhere than in the memory of the CPU."""
    named: list[tuple[str, Any]] = [("an example input", leaf) for leaf in pytree.tree_leaves(arguments)]
    if isinstance(model, nn.Module):
        named += [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in named:
        if isinstance(tensor, torch.Tensor) and tensor.device.type != "cpu":
            raise CaptureError(
                f"{name} on the device {tensor.device}", needed="tensors on the CPU", stage="capture",
                remedy="load the weights first" if tensor.device.type == "meta"
                else "move model and inputs first: model.cpu(), x.cpu()", value=tensor,
            )  # fmt: skip


def _export(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...],
    named: dict[str, Any],
    dynamic_shapes: Any,
    train: bool,
) -> tuple[ExportedProgram, tuple[Any, ...], dict[str, Any]]:
    """The program and its example arguments."""
    if isinstance(model, ExportedProgram):
        if dynamic_shapes is not None:
            raise RequestError(
                "dynamic_shapes with a program that is already exported", needed="a torch.nn.Module",
                stage="capture", remedy="pass dynamic_shapes to the torch.export.export call",
            )  # fmt: skip
        return model, *_examples(model, args, named)
    return _trace(model, args, named, dynamic_shapes, train), args, named


def _arguments(inputs: Any, kwargs: Mapping[str, Any] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping) and kwargs is None:
        return (), dict(inputs)
    named = {} if kwargs is None else dict(kwargs)
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), named
    if isinstance(inputs, torch.Tensor):
        return (inputs,), named
    raise InputError(
        f"inputs of type {type(inputs).__name__}", stage="capture", value=inputs,
        needed="a tensor, a tuple or list of arguments, or a mapping of arguments by name",
        remedy="put the arguments into a tuple, for example inputs=(x,)",
    )  # fmt: skip


def _examples(
    exported: ExportedProgram, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if args or named or exported.example_inputs is None:
        return args, named
    own_args, own_named = exported.example_inputs
    return tuple(own_args), dict(own_named)


def _trace(
    model: nn.Module, args: tuple[Any, ...], named: dict[str, Any], dynamic_shapes: Any, train: bool
) -> ExportedProgram:
    if not isinstance(model, nn.Module):
        raise CaptureError(
            f"a model of type {type(model).__name__}", needed="a torch.nn.Module or an ExportedProgram",
            stage="capture", remedy="wrap it in an nn.Module whose forward calls it", value=model,
        )  # fmt: skip
    with unchanged(model), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # a graph module of torch.export keeps the mode that it was traced in
        with contextlib.suppress(NotImplementedError):
            model.train(train)
        try:
            exported = export(model, args, named, dynamic_shapes, grad=train)
        except QuanthostError:
            raise
        except Exception as error:
            raise diagnose(error, model) from error
    for warning in caught:
        names = _assigned_names(str(warning.message))
        _refuse_lost_state(names, exported)
        if not names or not all(map(_SECOND_NAME.fullmatch, names)):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return exported


def _assigned_names(warning: str) -> list[str]:
    """Dotted names of the tensor attributes whose assignment a warning of torch reports; else empty."""
    match = _ASSIGNED.search(warning)
    return [] if match is None else [name.removeprefix("self.") for name in match["names"].split(", ")]


def _refuse_lost_state(names: list[str], exported: ExportedProgram) -> None:
    """Refuse a tensor attribute that forward reads and assigns: the program would keep the first value."""
    placeholders = {
        spec.target: spec.arg.name
        for spec in exported.graph_signature.input_specs
        if spec.kind is InputKind.CONSTANT_TENSOR
    }
    for attribute in names:
        if attribute in placeholders:
            reader = next(n for n in exported.graph.nodes if n.name == placeholders[attribute])
            raise CaptureError(
                f"forward reads and assigns the attribute {attribute!r}", stage="capture", value=attribute,
                needed="no state that passes from call to call: the program would keep the first value",
                where=_line_of(next(iter(reader.users), reader)), node=reader.name,
                remedy=f"{_STATE}; see the case model_attr_mutation of torch._export.db (ExportDB)",
            )  # fmt: skip


def _refuse_writes(exported: ExportedProgram, signature: Signature, train: bool) -> None:
    """Refuse writes that outlive the call; training may update batch norm statistics."""
    for write in find_writes(exported):
        if write.kind is InputKind.USER_INPUT:
            raise _input_write(write, exported, signature)
        if write.statistics and not train:
            needed = "evaluation mode, in which statistics are fixed"
            remedy = "export the model after model.eval(), or capture with train=True to train it"
            raise _state_write(write, needed, remedy)
        if not write.statistics:
            raise _state_write(
                write, "state that is only read: no call may change what the next reads", _STATE
            )


def _input_write(write: Write, exported: ExportedProgram, signature: Signature) -> CaptureError:
    specs = exported.graph_signature.input_specs
    inputs = [spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT]
    name = dict(zip(inputs, signature.names()))[write.name]
    return CaptureError(
        f"forward changes its argument {name!r} in place", needed="inputs that are only read",
        where=_line_of(write.node), stage="capture", node=write.node.name, value=name,
        remedy="use the operator that returns a new tensor (inplace=False, x + y in place of x += y), or"
        " start with x = x.clone(); see the case user_input_mutation of torch._export.db (ExportDB)",
    )  # fmt: skip


def _state_write(write: Write, needed: str, remedy: str) -> CaptureError:
    kind = write.kind.name.lower().replace("_", " ")
    return CaptureError(
        f"forward changes the {kind} {write.name!r}", needed=needed, where=_line_of(write.node),
        stage="capture", node=write.node.name, value=write.name, remedy=remedy,
    )  # fmt: skip


def _line_of(node: torch.fx.Node) -> str | None:
    line = source_line(node)
    return None if line is None else line.described()


def _class_name(model: nn.Module | ExportedProgram) -> str:
    """The model's class with its Python module; for a program, the class of the model it was traced from."""
    if isinstance(model, ExportedProgram):
        stacks = (node.meta.get("nn_module_stack") for node in model.graph.nodes)
        root = next((next(iter(stack.values())) for stack in stacks if stack), None)
        if root is not None and root[0] == "":
            return str(root[1])
    return f"{type(model).__module__}.{type(model).__qualname__}"
