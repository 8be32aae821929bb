"""Caches lookups that the toolchain repeats: names in a signature, type hints, composite operators.

A delegate and the memory planning check for each tensor whether it is a parameter or a buffer, and each
time the signature builds a dictionary of all constants: quadratic in the size of a network. A table of
decompositions needs all composite operators, which torch looks up in its dispatcher again for each namespace:
50 ms if ExecuTorch is imported.
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

from quanthost.toolchain.fast.accepted_code import FINGERPRINTS
from quanthost.toolchain.replacement import Replacement, replace_all

__all__ = ["cached_lookups"]

_NAMES = (
    *("user_inputs", "non_persistent_buffers"),
    *("inputs_to_parameters", "inputs_to_buffers", "inputs_to_lifted_tensor_constants"),
)


class _State(threading.local):
    """Whether a delegate or memory planning is running, whether a pass may change it, and the cached answers.

    Otherwise nothing is cached: torch renames inputs in place.
    """

    reading = False
    changing = False

    def __init__(self) -> None:
        self.cache: dict[tuple[str, int], tuple[ExportGraphSignature, list[Any], Any]] = {}
        # the numbers of namespaces and libraries when composite operators were last looked up
        self.materialized: tuple[int, int] | None = None

    @contextlib.contextmanager
    def during(self, *, reading: bool, changing: bool) -> Iterator[None]:
        before = self.reading, self.changing
        self.reading, self.changing = reading, changing
        self.cache.clear()
        try:
            yield
        finally:
            self.cache.clear()
            self.reading, self.changing = before


_STATE = _State()


def _run_delegate(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _STATE.during(reading=True, changing=False):
        return original(*args, **kwargs)


def _run_pass(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _STATE.during(reading=_STATE.reading, changing=True):
        return original(*args, **kwargs)


def _run_planning(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _STATE.during(reading=True, changing=True):
        return original(*args, **kwargs)


def _lookup(original: Callable[..., Any], signature: ExportGraphSignature) -> Any:
    if not _STATE.reading:
        return original(signature)
    specs = signature.input_specs
    # a pass may add and remove constants; comparing the list is far cheaper than building a dictionary
    key = (original.__name__, id(signature))
    entry = _STATE.cache.get(key)
    if entry is None or (_STATE.changing and not _same(entry[1], specs)):
        # the entry refers to the signature, so that no other object gets its id
        entry = _STATE.cache[key] = (signature, list(specs), original(signature))
    return entry[2]


def _same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _materialize(original: Callable[[], None]) -> None:
    counts = len(torch.ops._dir), len(torch.ops.loaded_libraries)
    if _STATE.materialized != counts:
        original()
        _STATE.materialized = counts


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


# a signature may be cached only if every pass that may change it is intercepted
_SIGNATURE = tuple(
    Replacement(target, instead, FINGERPRINTS)
    for target, instead in (
        ("executorch.exir.backend.backend_details:BackendDetails.preprocess_multimethod", _run_delegate),
        ("executorch.exir.backend.backend_api:_get_node_list_with_same_tag", _run_delegate),
        ("executorch.exir.program._program:lift_constant_tensor_pass", _run_delegate),
        ("torch.fx.passes.infra.pass_base:PassBase.__call__", _run_pass),
        ("executorch.exir.passes.memory_planning_pass:MemoryPlanningPass.run", _run_planning),
        *((f"torch.export.graph_signature:ExportGraphSignature.{name}", _lookup) for name in _NAMES),
    )
)
_COMPOSITES = Replacement("torch._export.utils:_materialize_cpp_cia_ops", _materialize, FINGERPRINTS)
_HINTS = Replacement(
    "executorch.exir._serialize._dataclass:get_type_hints", lambda _, kind: _hints(kind), FINGERPRINTS
)
REPLACEMENTS = (*_SIGNATURE, _COMPOSITES, _HINTS)


@contextlib.contextmanager
def cached_lookups() -> Iterator[None]:
    """While entered, in this thread, lookups of delegates and of memory planning are cached."""
    _STATE.materialized = None
    with replace_all(*_SIGNATURE), replace_all(_COMPOSITES), replace_all(_HINTS):
        yield
