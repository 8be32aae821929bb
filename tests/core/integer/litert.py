"""LiteRT for Microcontrollers, whose kernels define the numbers of TensorFlow Lite's 8- and 16-bit operators.

Its models are built here operator by operator, and run by its own interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tflite_micro.python.tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.compression import model_editor as editor
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema
from torch import Tensor

from quanthost.integer.numbers import Numbers

__all__ = ["Constant", "run", "schema"]

_TYPES = {
    torch.int8: schema.TensorType.INT8,
    torch.int16: schema.TensorType.INT16,
    torch.int32: schema.TensorType.INT32,
    torch.int64: schema.TensorType.INT64,
}


class Constant:
    """A weight or a bias: integers with scales along dimension ``axis``."""

    def __init__(self, values: Tensor, scales: Tensor, axis: int = 0) -> None:
        self.values, self.scales, self.axis = values.contiguous(), scales, axis


def _quantization(numbers: Numbers | Constant) -> editor.Quantization:
    if isinstance(numbers, Numbers):
        return editor.Quantization(scales=[numbers.scale], zero_points=[numbers.zero_point])
    scales = numbers.scales.reshape(-1).tolist()
    return editor.Quantization(scales=scales, zero_points=[0] * len(scales), axis=numbers.axis)


def run(
    operator: int,
    options: tuple[int, Any] | None,
    inputs: Sequence[tuple[Tensor, Numbers] | Constant],
    output: tuple[Sequence[int], Numbers],
) -> Tensor:
    """One operator's result, with ``options`` as the schema's number of their type and their value."""
    tensors, sources = [], []
    for place, operand in enumerate(inputs):
        values, numbers = (operand.values, operand) if isinstance(operand, Constant) else operand
        tensor = editor.Tensor(
            shape=tuple(values.shape), dtype=_TYPES[values.dtype], name=f"input{place}",
            quantization=_quantization(numbers),
            data=values.numpy() if isinstance(operand, Constant) else None,
        )  # fmt: skip
        tensors.append(tensor)
        if not isinstance(operand, Constant):
            sources.append((tensor, values))
    shape, numbers = output
    result = editor.Tensor(
        shape=tuple(shape), dtype=_TYPES[numbers.dtype], name="output", quantization=_quantization(numbers)
    )
    made_operator = schema.OperatorT()
    if options is not None:
        made_operator.builtinOptionsType, made_operator.builtinOptions = options
    graph = editor.Subgraph(
        tensors=[*tensors, result], inputs=[tensor for tensor, _ in sources], outputs=[result],
        operators=[editor.Operator(operator, inputs=tensors, outputs=[result], _fb=made_operator)],
    )  # fmt: skip
    model = editor.Model(subgraphs=[graph]).build()
    interpreter = runtime.Interpreter.from_bytes(bytes(model), arena_size=4 * 2**20)
    for place, (_, values) in enumerate(sources):
        interpreter.set_input(np.ascontiguousarray(values.numpy()), place)
    interpreter.invoke()
    return torch.from_numpy(interpreter.get_output(0).copy())
