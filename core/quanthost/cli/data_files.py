"""Reads calibration batches from files, with the names and sizes of the model's example inputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from quanthost.cli.usage import UsageError
from quanthost.debugging.tensor_files import SUFFIXES, read_tensors
from quanthost.errors import CalibrationError, InputError

__all__ = ["Layout", "assign", "batches_from"]

Batch = tuple[Any, ...] | dict[str, Any]
# the types of arguments that are not containers
_FLAT = (torch.Tensor, int, float, str, type(None))


@attrs.frozen(kw_only=True)
class Layout:
    """The example inputs by name; ``positional`` where they are passed by position, in that order."""

    examples: dict[str, Any]
    positional: bool

    @classmethod
    def of(cls, model: object, inputs: Any) -> Layout:
        """Names of positional inputs are those of the parameters of ``model.forward``."""
        if isinstance(inputs, Mapping):
            return cls(examples=dict(inputs), positional=False)
        values = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
        names = _parameters(model)[: len(values)]
        names += [f"input_{number}" for number in range(len(names), len(values))]
        return cls(examples=dict(zip(names, values)), positional=True)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The inputs that differ between batches; all others stay as in the example."""
        return {name: value for name, value in self.examples.items() if isinstance(value, torch.Tensor)}

    def batch(self, tensors: Mapping[str, torch.Tensor]) -> Batch:
        """The arguments of one call."""
        values = {**self.examples, **tensors}
        return tuple(values.values()) if self.positional else values


def batches_from(path: Path, layout: Layout) -> Iterable[Batch]:
    """The batches of a file, or of all files of a folder in order of their names.

    A tensor with as many axes as the example is cut along its first axis into pieces of the example's
    length; one with an axis more holds a batch at each index of its first axis.

    Raises:
        InputError: a file cannot be read, or its tensors do not fit the inputs.
        CalibrationError: the folder holds no such file.
    """
    if not path.is_dir():
        return list(_cut(path, layout))
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files:
        raise CalibrationError(
            f"the folder {path} without data", needed=f"files that end in {' or '.join(SUFFIXES)}",
            where="calibration", remedy="put the batches there, or name another folder", value=path,
        )  # fmt: skip
    return (batch for file in files for batch in _cut(file, layout))


def assign(
    tensors: Mapping[str, torch.Tensor], names: Sequence[str], *, where: str
) -> dict[str, torch.Tensor]:
    """The tensors of a file by the names of inputs.

    A file has the inputs' names, or ``arr_0``, ``arr_1``, … (what ``numpy.savez`` makes of positional
    arrays), or a single tensor for a single input.

    Raises:
        InputError: the names differ.
    """
    numbered = {name: f"arr_{number}" for number, name in enumerate(names)}
    if set(tensors) == set(names):
        return {name: tensors[name] for name in names}
    if set(tensors) == set(numbered.values()):
        return {name: tensors[key] for name, key in numbered.items()}
    if len(tensors) == len(names) == 1:
        return dict(zip(names, tensors.values()))
    raise InputError(
        f"tensors named {', '.join(tensors) or 'nothing'}", needed=f"one for each input: {', '.join(names)}",
        where=where, value=tuple(tensors), remedy="store each tensor under the name of its input",
    )  # fmt: skip


def _parameters(model: object) -> list[str]:
    """Names of the parameters that can be passed by position."""
    forward = getattr(model, "forward", None)
    if forward is None:
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, p in inspect.signature(forward).parameters.items() if p.kind in kinds]


def _cut(path: Path, layout: Layout) -> Iterator[Batch]:
    examples = layout.tensors
    nested = [name for name, value in layout.examples.items() if not isinstance(value, _FLAT)]
    if nested or not examples:
        raise UsageError(
            f"example inputs that are no tensors: {', '.join(nested or layout.examples) or 'none at all'}",
            needed="tensors, so that those of a file can take their place", where="calibration",
            remedy="pass calibration data as MODULE:CALLABLE", value=layout,
        )  # fmt: skip
    tensors = assign(read_tensors(path), list(examples), where=str(path))
    pieces = {name: _pieces(name, tensors[name], examples[name], path) for name in examples}
    counts = {name: len(piece) for name, piece in pieces.items()}
    if len(set(counts.values())) != 1:
        shown = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputError(
            f"different numbers of batches: {shown}", needed="the same number of each", where=str(path),
            remedy="store as many of each input, also of those that never change", value=counts,
        )  # fmt: skip
    for number in range(next(iter(counts.values()))):
        yield layout.batch({name: piece[number] for name, piece in pieces.items()})


def _pieces(name: str, tensor: torch.Tensor, example: torch.Tensor, path: Path) -> list[torch.Tensor]:
    if tensor.dim() == example.dim() + 1:
        return list(tensor.unbind())
    length = example.shape[0] if example.dim() else 1
    whole = tensor.dim() == example.dim() > 0 and length > 0 and tensor.shape[0] % length == 0
    if not whole:
        shape = list(example.shape)
        raise InputError(
            f"{name} of shape {list(tensor.shape)}", where=str(path), value=tensor,
            needed=f"batches of {shape} one after the other ([n × {shape[0]}, …])" if shape
            else "one axis: a scalar for each batch",
            remedy="stack the batches, or give the example inputs the length of these batches",
        )  # fmt: skip
    return list(tensor.split(length))
