"""The signature of a captured program: what goes in and comes out, as flat lists of named leaves."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from quanthost.errors import InputError, ProgramError
from quanthost.graph.leaves import (
    ConstantSpec,
    DynamicDim,
    LeafSpec,
    SizeSpec,
    TensorSpec,
    leaf_from_data,
    leaf_specs,
    leaf_to_data,
)

__all__ = ["ConstantSpec", "DynamicDim", "LeafSpec", "Signature", "SizeSpec", "TensorSpec"]

_Path: TypeAlias = tuple[Any, ...]
_REGISTER = (
    "register the class under a name: torch.export.register_dataclass(cls, serialized_type_name=...), or"
    " torch.utils._pytree.register_pytree_node(..., serialized_type_name=...); for a namedtuple"
    " torch.utils._pytree._register_namedtuple(cls, serialized_type_name=...)"
)


@attrs.frozen(kw_only=True)
class Signature:
    """The inputs and outputs of a program.

    ``inputs`` are the leaves of ``(args, kwargs)``, in the order of the call that was captured: positional
    arguments, then keyword arguments. ``outputs`` are the leaves of the result. ``parameters`` are the
    names of the positional arguments, as far as they are known.
    """

    inputs: tuple[LeafSpec, ...]
    outputs: tuple[LeafSpec, ...]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    parameters: tuple[str, ...] = ()

    @classmethod
    def of(cls, exported: ExportedProgram) -> Signature:
        """The signature of an exported program.

        Raises:
            InputError: an input or output is neither a tensor nor a number, text, truth value or ``None``.
        """
        in_spec, out_spec = exported.call_spec.in_spec, exported.call_spec.out_spec
        root = exported.module_call_graph[0].signature
        count = in_spec.child(0).num_children
        parameters = tuple((root.forward_arg_names if root is not None else None) or ())[:count]
        input_names = [_name(path, parameters) for path in _paths(in_spec)]
        output_names = ["output" + "".join(map(str, path)) for path in _paths(out_spec)]
        inputs, outputs = leaf_specs(exported, input_names, output_names)
        return cls(inputs=inputs, outputs=outputs, in_spec=in_spec, out_spec=out_spec, parameters=parameters)

    def names(self) -> tuple[str, ...]:
        """One name for each flat input: ``"x"``, ``"pair[1]['mask']"``."""
        return tuple(leaf.name for leaf in self.inputs)

    def takes_mapping(self) -> bool:
        """Whether the only argument is a mapping; otherwise a single mapping gives arguments by name."""
        args, kwargs = self.in_spec.children()
        if args.num_children != 1 or kwargs.num_children:
            return False
        kind = args.child(0).type
        return isinstance(kind, type) and issubclass(kind, Mapping)

    def call_form(self) -> str:
        """How the program is called, ``"(x, pair, mask=...)"``."""
        args, kwargs = self.in_spec.children()
        positional = [_parameter(i, self.parameters) for i in range(args.num_children)]
        return f"({', '.join([*positional, *(f'{key}=...' for key in _keys(kwargs))])})"

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> list[Any]:
        """The leaves of the arguments, in the order of ``inputs``; what was captured as a constant too.

        Shapes and dtypes must be the captured ones. A dynamic dimension must be in its range, and
        dimensions of one symbol must be equal. A constant must equal the captured one.

        Raises:
            InputError: names the argument, what was given and what was captured.
        """
        named = {} if kwargs is None else dict(kwargs)
        self._check_arity(args, named)
        in_args, in_kwargs = self.in_spec.children()
        values = [*args, *(named[key] for key in _keys(in_kwargs))]
        leaves: list[Any] = []
        sizes: dict[str, tuple[int, str]] = {}
        for position, (value, spec) in enumerate(zip(values, [*in_args.children(), *in_kwargs.children()])):
            key = None if position < len(args) else _keys(in_kwargs)[position - len(args)]
            argument = f"argument {key!r}" if key is not None else self._positional(position)
            for leaf in _leaves_as(spec, value, argument):
                captured = self.inputs[len(leaves)]
                rest = captured.name.removeprefix(key or _parameter(position, self.parameters))
                captured.check(leaf, argument + rest, sizes)
                leaves.append(leaf)
        return leaves

    def unflatten(self, flat_outputs: Sequence[Any]) -> Any:
        """The structure that the model returns, from all leaves of the result in order.

        Raises:
            ProgramError: another number of leaves.
        """
        if len(flat_outputs) != len(self.outputs):
            raise ProgramError(
                f"{len(flat_outputs)} outputs", needed=f"{len(self.outputs)}, as the captured model returns",
                remedy="use the record that was saved with the program", value=flat_outputs,
            )  # fmt: skip
        return pytree.tree_unflatten(list(flat_outputs), self.out_spec)

    def leaves_to_data(self) -> dict[str, Any]:
        """Inputs and outputs as plain data, without the classes of the containers."""
        return {
            "inputs": [leaf_to_data(leaf) for leaf in self.inputs],
            "outputs": [leaf_to_data(leaf) for leaf in self.outputs],
        }

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON.

        Raises:
            ProgramError: an input or output has a class of containers that cannot be stored.
        """
        structure = {"in_spec": _spec_to_data(self.in_spec), "out_spec": _spec_to_data(self.out_spec)}
        return {**self.leaves_to_data(), **structure, "parameters": list(self.parameters)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Signature:
        """The inverse of ``to_data``.

        Raises:
            ProgramError: data that does not fit, or a class of containers that is not registered here.
        """
        try:
            _name_return_types()
            return cls(
                inputs=tuple(leaf_from_data(leaf) for leaf in data["inputs"]),
                outputs=tuple(leaf_from_data(leaf) for leaf in data["outputs"]),
                in_spec=pytree.treespec_loads(json.dumps(data["in_spec"])),
                out_spec=pytree.treespec_loads(json.dumps(data["out_spec"])),
                parameters=tuple(data["parameters"]),
            )
        except (KeyError, TypeError, ValueError, NotImplementedError, AttributeError) as error:
            raise ProgramError(
                f"a signature that cannot be read: {type(error).__name__}: {error}", value=data,
                needed="the signature that was saved with a program, and its container classes registered",
                remedy="import the module that registers the classes of the model's inputs and outputs first",
            ) from error  # fmt: skip

    def to_json(self) -> str:
        """``to_data`` as text."""
        return json.dumps(self.to_data(), sort_keys=True, allow_nan=True)

    @classmethod
    def from_json(cls, text: str) -> Signature:
        """The inverse of ``to_json``."""
        return cls.from_data(json.loads(text))

    def _positional(self, position: int) -> str:
        name = self.parameters[position] if position < len(self.parameters) else None
        return f"argument {position}" + (f" ({name!r})" if name is not None else "")

    def _check_arity(self, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        in_args, in_kwargs = self.in_spec.children()
        expected, keys = in_args.num_children, set(_keys(in_kwargs))
        if len(args) == expected and named.keys() == keys:
            return
        count = f"{len(args)} positional argument" + ("" if len(args) == 1 else "s")
        by_name = f" and {', '.join(sorted(named))} by name" if named else ""
        raise InputError(
            count + by_name, needed=f"the arguments of the captured call: {self.call_form()}",
            where=self._first_difference(len(args), named),
            remedy="pass the same arguments, by position and by name as they were captured", value=args,
        )  # fmt: skip

    def _first_difference(self, count: int, named: Mapping[str, Any]) -> str:
        in_args, in_kwargs = self.in_spec.children()
        if count < in_args.num_children:
            return f"{self._positional(count)} is missing"
        if count > in_args.num_children:
            return f"argument {in_args.num_children} is one too many"
        missing = [key for key in _keys(in_kwargs) if key not in named]
        extra = [key for key in named if key not in _keys(in_kwargs)]
        return f"argument {missing[0]!r} is missing" if missing else f"argument {extra[0]!r} was not captured"


def _paths(spec: pytree.TreeSpec) -> list[_Path]:
    """The path of each leaf; its number if its container class was registered without names."""
    numbered = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    try:
        return [path for path, _ in pytree.tree_flatten_with_path(numbered)[0]]
    except ValueError:
        return [(pytree.SequenceKey(number),) for number in range(spec.num_leaves)]


def _keys(kwargs_spec: pytree.TreeSpec) -> list[str]:
    return list(kwargs_spec.context) if kwargs_spec.num_children else []


def _parameter(position: int, parameters: Sequence[str]) -> str:
    return parameters[position] if position < len(parameters) else f"args[{position}]"


def _name(path: _Path, parameters: Sequence[str]) -> str:
    """``path`` starts with 0 or 1 (positional, by name), then position or key."""
    by_name, first, *rest = path
    head = str(first.key) if by_name.idx == 1 else _parameter(first.idx, parameters)
    return head + "".join(map(str, rest))


def _leaves_as(spec: pytree.TreeSpec, value: Any, argument: str) -> list[Any]:
    """The leaves in the order of the captured structure, whatever the order of a mapping's keys."""
    try:
        leaves: list[Any] = spec.flatten_up_to(value)
    except ValueError as error:
        raise InputError(
            f"{argument} is {_structure(pytree.tree_structure(value))} (* is a value)", where=argument,
            needed=f"the captured structure {_structure(spec)}", value=value,
            remedy="pass the same containers with as many values, or capture the model with these",
        ) from error  # fmt: skip
    return leaves


def _structure(spec: pytree.TreeSpec) -> str:
    """``[*, {'k': *}]``: the containers with a star for each leaf."""
    return repr(pytree.tree_unflatten([_Star()] * spec.num_leaves, spec))


class _Star:
    def __repr__(self) -> str:
        return "*"


@functools.cache
def _name_return_types() -> None:
    """Let the results of ``torch.max(x, 1)`` and the like be stored: torch gives them no name for that."""
    # a torch without these tables refuses such results where they are stored
    with contextlib.suppress(AttributeError):
        for kind in torch.return_types.all_return_types:
            known = pytree.SUPPORTED_SERIALIZED_TYPES.get(kind)
            if known is not None and known.serialized_type_name == pytree.NO_SERIALIZED_TYPE_NAME_FOUND:
                name = f"torch.return_types.{kind.__name__}"
                definition = pytree._SerializeNodeDef(kind, name, None, None)
                pytree.SUPPORTED_SERIALIZED_TYPES[kind] = definition
                pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE[name] = kind


def _spec_to_data(spec: pytree.TreeSpec) -> Any:
    _name_return_types()
    try:
        text = pytree.treespec_dumps(spec)
        restored = pytree.treespec_loads(text)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise _unstorable(spec, str(error)) from error
    if restored != spec:
        raise _unstorable(spec, "it would be read back as another structure")
    return json.loads(text)


def _unstorable(spec: pytree.TreeSpec, why: str) -> ProgramError:
    return ProgramError(
        f"a structure of inputs or outputs that cannot be stored, {_structure(spec)}: {why}",
        needed="containers that torch can write to JSON", remedy=_REGISTER, value=spec,
    )  # fmt: skip
