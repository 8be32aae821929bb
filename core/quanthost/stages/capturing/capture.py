"""``capture``: a model and example inputs to a frozen, traced program, with the model left as it was."""

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

from quanthost.errors import CaptureError, InputError, QuanthostError, RequestError
from quanthost.graph.digest import model_digest
from quanthost.graph.garbage import collecting_rarely
from quanthost.graph.provenance import NodeInfo, node_infos, source_line
from quanthost.graph.signature import Signature
from quanthost.graph.writes import Write, find_writes
from quanthost.stages.capturing.diagnose import diagnose
from quanthost.stages.capturing.untouched import left_as_it_was
from quanthost.toolchain.export import dynamic_shapes as dynamic_shapes_of
from quanthost.toolchain.export import export
from quanthost.toolchain.ways import toolchain_of, using
from quanthost.values import Toolchain, ToolchainRecord

__all__ = ["CapturedModel", "capture"]

_ASSIGNED = re.compile(r"The tensor attributes? (?P<names>.+?) (was|were) assigned during export")
# recurrent modules of torch list their parameters a second time, and tracing exchanges parameters
_SECOND_NAME = re.compile(r"(.*\.)?_flat_weights\[\d+\]")
_STATE = "pass the state as an input of forward and return its new value as an output"


@attrs.frozen(kw_only=True, eq=False)
class CapturedModel:
    """A traced model.

    ``digest`` is over what is computed, the weights and the signature: equal for the same model in every
    process and on every machine. ``train`` says whether batch norm and dropout are in training form.
    ``dynamic_shapes`` are the dynamic dimensions as ``torch.export.export`` takes them.
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
        """Name, operator, module and source line of each call node, in the order of the graph."""
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
    """Trace a model with ``torch.export``, or take a program that is already exported.

    Args:
        model: Its weights, buffers, attributes and the mode of each of its modules stay as they are.
        inputs: Example inputs: a tensor, a tuple or list of positional arguments, or, where ``kwargs``
            is ``None``, a mapping of arguments by name. A list or mapping that is one argument goes into
            a tuple: ``([a, b],)``. May be left out for a program that has its own examples.
        kwargs: Example arguments by name.
        dynamic_shapes: Sizes that vary, as ``torch.export.export`` takes them.
        train: Trace in training mode, so that batch norm and dropout can be switched later; else in
            evaluation mode and without autograd.
        toolchain: Whether shortcuts through ``torch.export`` may be taken. There are none for this stage
            today, so that both give the same; the program's record has it.

    Raises:
        CaptureError: the model cannot be traced, or it changes an input, buffer or attribute; the message
            names the line, the construct and the usual rewrite.
        InputError: inputs that do not fit the exported program.
        RequestError: dynamic shapes for a program that is already exported, or an unknown toolchain.
    """
    args, named = _arguments(inputs, kwargs)
    with using(toolchain_of(toolchain, "toolchain", "capture")) as way:
        exported, args, named = _exported(model, args, named, dynamic_shapes, train)
    signature = Signature.of(exported)
    signature.flatten(args, named)
    _refuse_writes(exported, signature, train)
    return CapturedModel(
        exported=exported, signature=signature, model_class=_class_name(model), train=train,
        digest=model_digest(exported, signature), example_args=args, example_kwargs=named,
        dynamic_shapes=dynamic_shapes_of(exported, dynamic_shapes), toolchain=way.record(),
    )  # fmt: skip


def _exported(
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
                stage="capture", remedy="give dynamic_shapes to torch.export.export, which made the program",
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
    with left_as_it_was(model), warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        # a graph module of torch.export cannot change its mode: it is what it was traced as
        with contextlib.suppress(NotImplementedError):
            model.train(train)
        try:
            exported = export(model, args, named, dynamic_shapes, grad=train)
        except QuanthostError:
            raise
        except Exception as error:
            raise diagnose(error, model) from error
    for remark in remarks:
        names = _assigned(str(remark.message))
        _refuse_lost_state(names, exported)
        if not names or not all(map(_SECOND_NAME.fullmatch, names)):
            warnings.warn_explicit(remark.message, remark.category, remark.filename, remark.lineno)
    return exported


def _assigned(remark: str) -> list[str]:
    """The tensor attributes that torch saw being assigned, by dotted name; none in any other remark."""
    found = _ASSIGNED.search(remark)
    return [] if found is None else [name.removeprefix("self.") for name in found["names"].split(", ")]


def _refuse_lost_state(names: list[str], exported: ExportedProgram) -> None:
    """Refuse a tensor attribute that forward reads and assigns: the program would keep the first value."""
    holders = {
        spec.target: spec.arg.name
        for spec in exported.graph_signature.input_specs
        if spec.kind is InputKind.CONSTANT_TENSOR
    }
    for attribute in names:
        if attribute in holders:
            reader = next(n for n in exported.graph.nodes if n.name == holders[attribute])
            raise CaptureError(
                f"forward reads and assigns the attribute {attribute!r}", stage="capture", value=attribute,
                needed="no state that a call leaves to the next: the program would keep the first value",
                where=_line_of(next(iter(reader.users), reader)), node=reader.name,
                remedy=f"{_STATE}; see the case model_attr_mutation of torch._export.db (ExportDB)",
            )  # fmt: skip


def _refuse_writes(exported: ExportedProgram, signature: Signature, train: bool) -> None:
    """Refuse a program that changes what outlives the call; only training keeps statistics."""
    for write in find_writes(exported):
        if write.kind is InputKind.USER_INPUT:
            raise _written_input(write, exported, signature)
        if write.statistics and not train:
            needed = "evaluation form, in which statistics are fixed"
            remedy = "export the model after model.eval(), or capture with train=True to train it"
            raise _written_state(write, needed, remedy)
        if not write.statistics:
            raise _written_state(
                write, "state that is only read: no call changes what the next one sees", _STATE
            )


def _written_input(write: Write, exported: ExportedProgram, signature: Signature) -> CaptureError:
    specs = exported.graph_signature.input_specs
    holders = [spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT]
    name = dict(zip(holders, signature.names()))[write.name]
    return CaptureError(
        f"forward changes its argument {name!r} in place", needed="inputs that are only read",
        where=_line_of(write.node), stage="capture", node=write.node.name, value=name,
        remedy="use the operator that makes a new tensor (inplace=False, x + y in place of x += y), or"
        " start with x = x.clone(); see the case user_input_mutation of torch._export.db (ExportDB)",
    )  # fmt: skip


def _written_state(write: Write, needed: str, remedy: str) -> CaptureError:
    kind = write.kind.name.lower().replace("_", " ")
    return CaptureError(
        f"forward changes the {kind} {write.name!r}", needed=needed, where=_line_of(write.node),
        stage="capture", node=write.node.name, value=write.name, remedy=remedy,
    )  # fmt: skip


def _line_of(node: torch.fx.Node) -> str | None:
    line = source_line(node)
    return None if line is None else line.described()


def _class_name(model: nn.Module | ExportedProgram) -> str:
    """The model's class with its Python module; of a program that of the model it was traced from."""
    if isinstance(model, ExportedProgram):
        stacks = (node.meta.get("nn_module_stack") for node in model.graph.nodes)
        root = next((next(iter(stack.values())) for stack in stacks if stack), None)
        if root is not None and root[0] == "":
            return str(root[1])
    return f"{type(model).__module__}.{type(model).__qualname__}"
