"""A delegate that is computed here: its compiler writes a partition down, a machine carries it out.

The machine computes what the target does. Faults of kernels are machines with one method changed.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import attrs
import torch
from executorch.exir.backend.backend_details import BackendDetails, PreprocessResult
from torch import Tensor, fx

from quanthost.api import operator_name

__all__ = ["LIMIT", "Machine", "Parameters", "SimulatedChip", "Step", "Value", "executor"]

# the chip has no kernel beyond it
LIMIT = 4
_Q = "quantized_decomposed"


@attrs.frozen
class Value:
    """A result of another step, by name."""

    name: str


@attrs.frozen(kw_only=True)
class Step:
    """One operator: ``aten.add.Tensor`` with its arguments in order, and the shape it was compiled for."""

    name: str
    shape: tuple[int, ...]
    operator: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def base(self) -> str:
        return self.operator.split(".")[1]


@attrs.frozen
class Parameters:
    """How a tensor of integers is read: one scale and zero point, or one of each channel along an axis."""

    scale: Any
    zero_point: Any
    axis: int | None
    low: int
    high: int


@final
class SimulatedChip(BackendDetails):  # type: ignore[misc]  # executorch is untyped
    """Writes the steps and constants of a partition down; refuses what the chip has no kernel for.

    A compile spec ``suffix`` names a function of this process whose bytes end the program.
    """

    suffixes: ClassVar[dict[str, Callable[[], bytes]]] = {}

    @staticmethod
    def preprocess(edge_program: Any, compile_specs: Sequence[Any]) -> PreprocessResult:
        suffix = b"".join(SimulatedChip.suffixes[spec.value.decode()]() for spec in compile_specs)
        return PreprocessResult(processed_bytes=pickle.dumps((_written(edge_program), suffix)))


def _written(program: Any) -> dict[str, Any]:
    signature = program.graph_signature
    held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    held.update(signature.inputs_to_lifted_tensor_constants)
    constants, inputs, steps = {}, [], []
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in held:
            stored = held[node.name]
            tensor = program.state_dict[stored] if stored in program.state_dict else program.constants[stored]
            constants[node.name] = (tensor.dtype, tuple(tensor.shape), tensor.contiguous().numpy().tobytes())
        elif node.op == "placeholder":
            inputs.append(node.name)
        elif node.op == "call_function":
            _refuse(node)
            steps.append(_step(node))
    (output,) = program.graph.find_nodes(op="output")
    results = [result.name for result in output.args[0]]
    return {"inputs": inputs, "constants": constants, "steps": steps, "results": results}


def _refuse(node: fx.Node) -> None:
    for each in (node, *node.all_input_nodes):
        made = each.meta["val"]
        shape = tuple(made.shape) if isinstance(made, Tensor) else ()
        if len(shape) > LIMIT or 0 in shape:
            raise RuntimeError(f"SimulatedChip has no kernel for {each.name} of shape {shape}")


def _step(node: fx.Node) -> Step:
    def named(value: Any) -> Any:
        return Value(value.name) if isinstance(value, fx.Node) else value

    args = fx.node.map_aggregate(node.args, named)
    kwargs = fx.node.map_aggregate(dict(node.kwargs), named)
    shape = tuple(map(_size, node.meta["val"].shape)) if isinstance(node.meta["val"], Tensor) else ()
    return Step(
        name=node.name, shape=shape, operator=operator_name(node), args=tuple(args), kwargs=dict(kwargs)
    )


def _size(size: Any) -> int:
    """The size that a dynamic one had when the model was captured."""
    return size if isinstance(size, int) else int(size.node.hint)


def executor(machine: type[Machine]) -> Callable[[bytes, list[Tensor]], list[Tensor]]:
    """What computes a delegated piece: a new machine each time, so that it keeps nothing."""
    return lambda blob, inputs: machine(pickle.loads(blob)[0]).run(inputs)


class Machine:
    """Carries out a partition: integers to numbers, the operator, and numbers to integers.

    ``x = (q - zero_point) * scale``; ``q = round(x / scale) + zero_point``, ties to even, then clamped.
    Sums of products are exact: they are made in float64.
    """

    def __init__(self, piece: dict[str, Any]) -> None:
        self.piece = piece
        self.values: dict[str, Any] = {}
        self.parameters: dict[str, Parameters] = {}
        self.steps = {step.name: step for step in piece["steps"]}

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        self.values.update(zip(self.piece["inputs"], inputs))
        for name, (dtype, shape, data) in self.piece["constants"].items():
            held = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
            self.values[name] = held.reshape(shape)
        for step in self.piece["steps"]:
            self.values[step.name] = self._carried_out(step)
        made = (self.values[name] for name in self.piece["results"])
        return [each.float() if each.is_floating_point() else each for each in made]

    def _carried_out(self, step: Step) -> Any:
        args, kwargs = self.given(step.args), self.given(step.kwargs)
        if step.operator.startswith(_Q):
            held = self._parameters(step, args)
            if step.base.startswith("dequantize"):
                self.parameters[step.name] = held
                return self.dequantize(args[0], held)
            return self.quantize(args[0], held).to(args[5])
        return self.compute(step, args, kwargs)

    def given(self, part: Any) -> Any:
        """Values in place of names."""
        if isinstance(part, Value):
            return self.values[part.name]
        if isinstance(part, dict):
            return {key: self.given(value) for key, value in part.items()}
        if isinstance(part, (list, tuple)):
            return type(part)(self.given(value) for value in part)
        return part

    def _parameters(self, step: Step, args: tuple[Any, ...]) -> Parameters:
        if step.base.endswith("per_channel"):
            return Parameters(args[1], args[2], args[3], args[4], args[5])
        return Parameters(args[1], args[2], None, args[3], args[4])

    def dequantize(self, integers: Tensor, held: Parameters) -> Tensor:
        scale, zero_point = self.spread(held, integers)
        return (integers.double() - zero_point) * scale

    def quantize(self, numbers: Tensor, held: Parameters) -> Tensor:
        return (self.rounded(numbers / held.scale) + held.zero_point).clamp(held.low, held.high)

    def rounded(self, numbers: Tensor) -> Tensor:
        return numbers.round()

    def spread(self, held: Parameters, like: Tensor) -> tuple[Any, Any]:
        """Scale and zero point, shaped so that they go with a tensor."""
        if held.axis is None:
            return held.scale, held.zero_point
        shape = [1] * like.dim()
        shape[held.axis] = -1
        return held.scale.double().reshape(shape), held.zero_point.double().reshape(shape)

    def compute(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operator on numbers; a method of its name computes it where there is one."""
        own = getattr(self, step.base, None)
        return self.torch(step, args, kwargs) if own is None else own(step, args)

    def torch(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        """What torch computes."""
        namespace, base, overload = step.operator.split(".")
        target = getattr(getattr(getattr(torch.ops, namespace), base), overload)
        return target(*args, **(kwargs or {}))

    def read(self, step: Step, place: int = 0) -> Parameters:
        """The parameters of the integers that stand at an argument."""
        return self.parameters[step.args[place].name]
