"""A simulated delegate: its compiler stores a partition, and a machine executes it.

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

# the highest rank that the chip has kernels for
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
    """How a tensor of integers is read: one scale and zero point, or one for each channel along an axis."""

    scale: Any
    zero_point: Any
    axis: int | None
    low: int
    high: int


@final
class SimulatedChip(BackendDetails):  # type: ignore[misc]  # executorch is untyped
    """Stores the steps and constants of a partition; refuses what the chip has no kernel for.

    A compile spec ``suffix`` names a function of this process whose bytes end the program.
    """

    suffixes: ClassVar[dict[str, Callable[[], bytes]]] = {}

    @staticmethod
    def preprocess(edge_program: Any, compile_specs: Sequence[Any]) -> PreprocessResult:
        suffix = b"".join(SimulatedChip.suffixes[spec.value.decode()]() for spec in compile_specs)
        return PreprocessResult(processed_bytes=pickle.dumps((_compile(edge_program), suffix)))


def _compile(program: Any) -> dict[str, Any]:
    signature = program.graph_signature
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    stored.update(signature.inputs_to_lifted_tensor_constants)
    constants, inputs, steps = {}, [], []
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in stored:
            name = stored[node.name]
            tensor = program.state_dict[name] if name in program.state_dict else program.constants[name]
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
        value = each.meta["val"]
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        if len(shape) > LIMIT or 0 in shape:
            raise RuntimeError(f"SimulatedChip has no kernel for {each.name} of shape {shape}")


def _step(node: fx.Node) -> Step:
    def replace_node(value: Any) -> Any:
        return Value(value.name) if isinstance(value, fx.Node) else value

    args = fx.node.map_aggregate(node.args, replace_node)
    kwargs = fx.node.map_aggregate(dict(node.kwargs), replace_node)
    shape = tuple(map(_size, node.meta["val"].shape)) if isinstance(node.meta["val"], Tensor) else ()
    return Step(
        name=node.name, shape=shape, operator=operator_name(node), args=tuple(args), kwargs=dict(kwargs)
    )


def _size(size: Any) -> int:
    """The size, for a dynamic dimension that of the example inputs."""
    return size if isinstance(size, int) else int(size.node.hint)


def executor(machine: type[Machine]) -> Callable[[bytes, list[Tensor]], list[Tensor]]:
    """A function that executes a delegated piece, each time on a new machine without state."""
    return lambda blob, inputs: machine(pickle.loads(blob)[0]).run(inputs)


class Machine:
    """Executes a partition: integers to numbers, the operator, and numbers to integers.

    ``x = (q - zero_point) * scale``; ``q = round(x / scale) + zero_point``, ties to even, then clamped.
    Sums of products are exact: they are computed in float64.
    """

    def __init__(self, piece: dict[str, Any]) -> None:
        self.piece = piece
        self.values: dict[str, Any] = {}
        self.parameters: dict[str, Parameters] = {}
        self.steps = {step.name: step for step in piece["steps"]}

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        self.values.update(zip(self.piece["inputs"], inputs))
        for name, (dtype, shape, data) in self.piece["constants"].items():
            flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
            self.values[name] = flat.reshape(shape)
        for step in self.piece["steps"]:
            self.values[step.name] = self._execute(step)
        results = (self.values[name] for name in self.piece["results"])
        return [x.float() if x.is_floating_point() else x for x in results]

    def _execute(self, step: Step) -> Any:
        args, kwargs = self.resolve(step.args), self.resolve(step.kwargs)
        if step.operator.startswith(_Q):
            parameters = self._parameters(step, args)
            if step.base.startswith("dequantize"):
                self.parameters[step.name] = parameters
                return self.dequantize(args[0], parameters)
            return self.quantize(args[0], parameters).to(args[5])
        return self.compute(step, args, kwargs)

    def resolve(self, part: Any) -> Any:
        """Replace names by values."""
        if isinstance(part, Value):
            return self.values[part.name]
        if isinstance(part, dict):
            return {key: self.resolve(value) for key, value in part.items()}
        if isinstance(part, (list, tuple)):
            return type(part)(self.resolve(value) for value in part)
        return part

    def _parameters(self, step: Step, args: tuple[Any, ...]) -> Parameters:
        if step.base.endswith("per_channel"):
            return Parameters(args[1], args[2], args[3], args[4], args[5])
        return Parameters(args[1], args[2], None, args[3], args[4])

    def dequantize(self, integers: Tensor, parameters: Parameters) -> Tensor:
        scale, zero_point = self.spread(parameters, integers)
        return (integers.double() - zero_point) * scale

    def quantize(self, numbers: Tensor, parameters: Parameters) -> Tensor:
        return (self.rounded(numbers / parameters.scale) + parameters.zero_point).clamp(
            parameters.low, parameters.high
        )

    def rounded(self, numbers: Tensor) -> Tensor:
        return numbers.round()

    def spread(self, parameters: Parameters, like: Tensor) -> tuple[Any, Any]:
        """Scale and zero point, shaped to broadcast with a tensor."""
        if parameters.axis is None:
            return parameters.scale, parameters.zero_point
        shape = [1] * like.dim()
        shape[parameters.axis] = -1
        return parameters.scale.double().reshape(shape), parameters.zero_point.double().reshape(shape)

    def compute(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute one operator on numbers, with the method of its name if there is one."""
        own = getattr(self, step.base, None)
        return self.torch(step, args, kwargs) if own is None else own(step, args)

    def torch(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        """Compute the operator in torch."""
        namespace, base, overload = step.operator.split(".")
        target = getattr(getattr(getattr(torch.ops, namespace), base), overload)
        return target(*args, **(kwargs or {}))

    def read(self, step: Step, place: int = 0) -> Parameters:
        """The parameters of the integers at an argument."""
        return self.parameters[step.args[place].name]
