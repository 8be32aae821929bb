"""What the toolchain works out at each look, worked out once: names in a signature, types, operators.

A delegate asks for each constant of each node whether it is a parameter or a buffer, and the signature
answers with a dictionary of all of them that it makes for the question: quadratic in the size of a network.
A table of decompositions asks for all composite operators, which torch looks up in its dispatcher again for
each namespace: 50 ms where ExecuTorch is imported.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import threading
import typing
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.export import ExportGraphSignature

from quanthost.toolchain.fast.proved import FINGERPRINTS
from quanthost.toolchain.replacement import Replacement, replaced

__all__ = ["remembered_lookups"]

_NAMES = (
    *("user_inputs", "non_persistent_buffers"),
    *("inputs_to_parameters", "inputs_to_buffers", "inputs_to_lifted_tensor_constants"),
)


class _State(threading.local):
    """Whether a partition or its delegate is at work, whether a pass may be changing it, and the answers.

    Elsewhere a signature is always asked: torch renames inputs in place.
    """

    delegate = False
    changing = False

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], tuple[ExportGraphSignature, list[Any], Any]] = {}
        # how many namespaces and libraries there were when composite operators were looked up
        self.materialized: tuple[int, int] | None = None

    @contextlib.contextmanager
    def during(self, *, delegate: bool, changing: bool) -> Iterator[None]:
        before = self.delegate, self.changing
        self.delegate, self.changing = delegate, changing
        self.known.clear()
        try:
            yield
        finally:
            self.known.clear()
            self.delegate, self.changing = before


_STATE = _State()


def _reading(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _STATE.during(delegate=True, changing=False):
        return original(*args, **kwargs)


def _pass(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _STATE.during(delegate=_STATE.delegate, changing=True):
        return original(*args, **kwargs)


def _lookup(original: Callable[..., Any], signature: ExportGraphSignature) -> Any:
    if not _STATE.delegate:
        return original(signature)
    specs = signature.input_specs
    # a pass may add and remove constants; to compare the list is still far less than to make a dictionary
    key = (original.__name__, id(signature))
    known = _STATE.known.get(key)
    if known is None or (_STATE.changing and not _same(known[1], specs)):
        # the signature is held so that no other gets its identity
        known = _STATE.known[key] = (signature, list(specs), original(signature))
    return known[2]


def _same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _materialize(original: Callable[[], None]) -> None:
    there = len(torch.ops._dir), len(torch.ops.loaded_libraries)
    if _STATE.materialized != there:
        original()
        _STATE.materialized = there


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


# a signature's answers may be kept only if every pass that may change it is seen
_SIGNATURE = tuple(
    Replacement(target, instead, FINGERPRINTS)
    for target, instead in (
        ("executorch.exir.backend.backend_details:BackendDetails.preprocess_multimethod", _reading),
        ("executorch.exir.backend.backend_api:_get_node_list_with_same_tag", _reading),
        ("executorch.exir.program._program:lift_constant_tensor_pass", _reading),
        ("torch.fx.passes.infra.pass_base:PassBase.__call__", _pass),
        *((f"torch.export.graph_signature:ExportGraphSignature.{name}", _lookup) for name in _NAMES),
    )
)
_COMPOSITES = Replacement("torch._export.utils:_materialize_cpp_cia_ops", _materialize, FINGERPRINTS)
_HINTS = Replacement(
    "executorch.exir._serialize._dataclass:get_type_hints", lambda _, kind: _hints(kind), FINGERPRINTS
)
REPLACEMENTS = (*_SIGNATURE, _COMPOSITES, _HINTS)


@contextlib.contextmanager
def remembered_lookups() -> Iterator[None]:
    """While entered, in this thread, a delegate that reads a program is not answered anew each time."""
    _STATE.materialized = None
    with replaced(*_SIGNATURE), replaced(_COMPOSITES), replaced(_HINTS):
        yield
