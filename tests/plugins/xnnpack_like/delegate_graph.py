"""What the delegate's compiler wrote for each partition: its own operators and the types of their tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import attrs

__all__ = ["Call", "listen"]

_PREFIX = "xnn_datatype_"


@attrs.frozen
class Call:
    """One operator of a compiled partition and the datatypes of its tensors (``fp32``, ``qint8``, …)."""

    operator: str
    datatypes: tuple[tuple[str, str], ...]

    @property
    def types(self) -> frozenset[str]:
        return frozenset(datatype for _, datatype in self.datatypes)


@contextlib.contextmanager
def listen() -> Iterator[list[list[Call]]]:
    """The partitions that are compiled inside the block, in order."""
    from executorch.backends.xnnpack import xnnpack_preprocess

    heard: list[list[Call]] = []
    serialize = xnnpack_preprocess.serialize_xnnpack_binary

    def spy(graph: Any, constants: Any) -> Any:
        heard.append([_call(node.xnode_union, graph.xvalues) for node in graph.xnodes])
        return serialize(graph, constants)

    xnnpack_preprocess.serialize_xnnpack_binary = spy
    try:
        yield heard
    finally:
        xnnpack_preprocess.serialize_xnnpack_binary = serialize


def _call(union: Any, values: list[Any]) -> Call:
    ids = {
        name: number for name, number in vars(union).items() if name.endswith("_id") and number < len(values)
    }
    types = tuple((name.removesuffix("_id"), _datatype(values[number])) for name, number in ids.items())
    return Call(type(union).__name__.removeprefix("XNN"), types)


def _datatype(value: Any) -> str:
    held = value.xvalue_union
    return str(getattr(held, "tensor_value", held).datatype.name).removeprefix(_PREFIX)
