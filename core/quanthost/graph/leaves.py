"""The leaves of a signature: tensors with their shapes, sizes that vary, and values fixed by tracing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.experimental.symbolic_shapes import bound_sympy

from quanthost.errors import InputError

__all__ = ["ConstantSpec", "DynamicDim", "LeafSpec", "SizeSpec", "TensorSpec", "leaf_from_data", "leaf_specs"]

Sizes: TypeAlias = dict[str, tuple[int, str]]
"""Per symbol the size that a call gave it first, and where."""


@attrs.frozen(kw_only=True)
class DynamicDim:
    """A size that varies from call to call, ``minimum`` to ``maximum`` (``None``: no limit), both included.

    Sizes of one ``symbol`` are equal within a call. Symbols are numbered ``d0``, ``d1``, …; a size that
    follows from others has a formula (``"2*d0"``).
    """

    symbol: str
    minimum: int
    maximum: int | None = None

    def __str__(self) -> str:
        return f"{self.minimum}..{'' if self.maximum is None else self.maximum}"

    def check(self, size: int, where: str, whole: str, sizes: Sizes) -> None:
        """Refuse a size outside of the range, or unlike another of the same symbol in this call.

        Raises:
            InputError: names both places.
        """
        if size < self.minimum or (self.maximum is not None and size > self.maximum):
            raise InputError(
                f"{where} is {size}", needed=f"a size in {self} (the captured range), of {whole}",
                where=where, remedy="split or pad the input, or capture with a wider torch.export.Dim",
                value=size,
            )  # fmt: skip
        first, place = sizes.setdefault(self.symbol, (size, where))
        if first != size:
            raise InputError(
                f"{where} is {size}, but {place} is {first}", needed="equal sizes: they were captured as one",
                where=where, remedy="make the two sizes equal, or capture them as different dimensions",
                value=size,
            )  # fmt: skip


@attrs.frozen(kw_only=True)
class TensorSpec:
    """A tensor of a fixed number of dimensions, each an ``int`` or a ``DynamicDim``."""

    name: str
    dims: tuple[int | DynamicDim, ...]
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The sizes, ``None`` if dynamic."""
        return tuple(None if isinstance(dim, DynamicDim) else dim for dim in self.dims)

    def __str__(self) -> str:
        return f"{_dtype_name(self.dtype)}[{', '.join(map(str, self.dims))}]"

    def check(self, value: Any, where: str, sizes: Sizes) -> None:
        """Refuse what is not such a tensor.

        Raises:
            InputError: dtype, shape or kind differs.
        """
        if not isinstance(value, torch.Tensor):
            raise _refusal(where, value, f"a tensor {self}", "convert it, for example with torch.as_tensor")
        if value.dtype != self.dtype:
            raise _refusal(where, value, str(self), f"convert it with .to({self.dtype})")
        fits = value.dim() == len(self.dims) and all(
            isinstance(dim, DynamicDim) or dim == size for dim, size in zip(self.dims, value.shape)
        )
        if not fits:
            remedy = "reshape or resize it, or capture with dynamic_shapes for sizes that vary"
            raise _refusal(where, value, str(self), remedy)
        for axis, (dim, size) in enumerate(zip(self.dims, value.shape)):
            if isinstance(dim, DynamicDim):
                dim.check(size, f"dimension {axis} of {where}", str(self), sizes)


@attrs.frozen(kw_only=True)
class SizeSpec:
    """A whole number that varies from call to call."""

    name: str
    size: DynamicDim

    def check(self, value: Any, where: str, sizes: Sizes) -> None:
        """Refuse what is not a whole number of the range.

        Raises:
            InputError: the kind or the value differs.
        """
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refusal(where, value, f"a whole number in {self.size}", "pass an int")
        self.size.check(value, where, "the captured signature", sizes)


@attrs.frozen(kw_only=True)
class ConstantSpec:
    """A value that tracing fixed: the program computes as if it were always this one."""

    name: str
    value: bool | int | float | str | None

    def check(self, value: Any, where: str, sizes: Sizes) -> None:
        """Refuse any other value; ``True`` is not 1, and 1 is not 1.0.

        Raises:
            InputError: the value differs.
        """
        # repr tells 1 from True and 1.0, which == does not, and holds NaN equal to itself
        if repr(value) != repr(self.value):
            remedy = "pass the captured value, capture again with this one, or make the argument a tensor"
            raise _refusal(where, value, f"{self.value!r}, which tracing made part of the program", remedy)


LeafSpec: TypeAlias = TensorSpec | SizeSpec | ConstantSpec


def _refusal(where: str, value: Any, needed: str, remedy: str) -> InputError:
    return InputError(
        f"{where} is {_describe(value)}", needed=needed, where=where, remedy=remedy, value=value
    )


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{_dtype_name(value.dtype)}{list(value.shape)}"
    if isinstance(value, (bool, int, float, str, type(None))):
        return repr(value)
    return f"of type {type(value).__name__}"


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def leaf_specs(
    exported: ExportedProgram, input_names: Sequence[str], output_names: Sequence[str]
) -> tuple[tuple[LeafSpec, ...], tuple[LeafSpec, ...]]:
    """The leaves of inputs and outputs, in order, under the names given.

    Raises:
        InputError: a leaf is an object of a custom class.
    """
    signature = exported.graph_signature
    inputs = [spec.arg for spec in signature.input_specs if spec.kind is InputKind.USER_INPUT]
    outputs = [spec.arg for spec in signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    reader = _LeafReader(exported)
    return (
        tuple(reader.read(name, argument) for name, argument in zip(input_names, inputs)),
        tuple(reader.read(name, argument) for name, argument in zip(output_names, outputs)),
    )


class _LeafReader:
    """Reads leaves of one program, and numbers its symbols in the order in which they appear."""

    def __init__(self, exported: ExportedProgram) -> None:
        self._ranges = exported.range_constraints
        self._nodes = {node.name: node for node in exported.graph.nodes}
        self._symbols: dict[Any, Any] = {}

    def read(self, name: str, argument: Any) -> LeafSpec:
        node = self._nodes.get(argument.name)
        value = node.meta["val"] if node is not None else getattr(argument, "value", argument)
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided:
                raise _unsuitable(name, f"a tensor of layout {value.layout}", node, "call .to_dense() on it")
            return TensorSpec(name=name, dims=tuple(map(self._dim, value.shape)), dtype=value.dtype)
        if isinstance(value, torch.SymInt):
            dim = self._dim(value)
            return SizeSpec(name=name, size=dim) if isinstance(dim, DynamicDim) else _constant(name, dim)
        if isinstance(value, (torch.SymFloat, torch.SymBool)):
            kind = f"a {type(value).__name__}, a number that is computed"
            raise _unsuitable(name, kind, node, "return the tensor itself")
        return _constant(name, value)

    def _dim(self, size: int | torch.SymInt) -> int | DynamicDim:
        if isinstance(size, int):
            return size
        formula = size.node.expr
        if formula.is_number:
            return int(formula)
        for symbol in sorted(formula.free_symbols, key=str):
            self._symbols.setdefault(symbol, type(symbol)(f"d{len(self._symbols)}", integer=True))
        bounds = bound_sympy(formula, self._ranges)
        low, high = finite(bounds.lower), finite(bounds.upper)
        return DynamicDim(symbol=str(formula.xreplace(self._symbols)), minimum=max(low or 0, 0), maximum=high)


def finite(bound: Any) -> int | None:
    """An end of a symbol's range, ``None`` if it has none."""
    # torch's infinity of whole numbers calls itself finite
    return int(bound) if bound.is_Integer else None


def _constant(name: str, value: Any) -> ConstantSpec:
    if value is None or isinstance(value, (bool, int, float, str)):
        return ConstantSpec(name=name, value=value)
    raise InputError(
        f"{name} is {_describe(value)}", needed="tensors, numbers, truth values, text or None", where=name,
        stage="capture", remedy="pass or return its tensors instead of the object", value=value,
    )  # fmt: skip


def _unsuitable(name: str, seen: str, node: fx.Node | None, remedy: str) -> InputError:
    place = "" if node is None else f" (node {node.name})"
    return InputError(
        f"{name}{place} is {seen}", stage="capture", remedy=remedy,
        needed="dense tensors, whole numbers, truth values, text or None",
        where=name, node=None if node is None else node.name,
    )  # fmt: skip


def leaf_to_data(leaf: LeafSpec) -> dict[str, Any]:
    """Plain data for JSON."""
    if isinstance(leaf, TensorSpec):
        dims = [attrs.asdict(dim) if isinstance(dim, DynamicDim) else dim for dim in leaf.dims]
        return {"kind": "tensor", "name": leaf.name, "dims": dims, "dtype": _dtype_name(leaf.dtype)}
    if isinstance(leaf, SizeSpec):
        return {"kind": "size", "name": leaf.name, "size": attrs.asdict(leaf.size)}
    return {"kind": "constant", "name": leaf.name, "value": leaf.value}


def leaf_from_data(data: Mapping[str, Any]) -> LeafSpec:
    """The inverse of ``leaf_to_data``.

    Raises:
        KeyError, TypeError, ValueError: the data does not fit.
    """
    kind, name = data["kind"], data["name"]
    if kind == "tensor":
        dims = tuple(DynamicDim(**dim) if isinstance(dim, Mapping) else int(dim) for dim in data["dims"])
        dtype = getattr(torch, data["dtype"], None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{data['dtype']!r} is no dtype")
        return TensorSpec(name=name, dims=dims, dtype=dtype)
    if kind == "size":
        return SizeSpec(name=name, size=DynamicDim(**data["size"]))
    if kind == "constant":
        return ConstantSpec(name=name, value=data["value"])
    raise ValueError(f"{kind!r} is no kind of leaf")
