"""A quicker preprocess of the delegate: its own passes, without those whose pattern cannot occur.

Each pass traces the partition anew, and most of them look for operators that it does not hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from quanthost.api import argument, operator_name

__all__ = ["needed_passes", "quick_preprocess"]

Nodes = list[Any]


def _has(*names: str) -> Callable[[Nodes], bool]:
    """Whether an operator with one of these words in its name occurs."""
    return lambda nodes: any(word in operator_name(node) for node in nodes for word in names)


def _is_masked_attention(nodes: Nodes) -> bool:
    """The pass looks for attention that was decomposed with its mask; rows that are masked whole are 0 there.

    It captures and decomposes its pattern first, which costs more than all other passes of a small network.
    """
    return _has("softmax")(nodes) and _has("logical_not")(nodes)


def _has_wide_cat(nodes: Nodes) -> bool:
    return any(".cat." in operator_name(n) and len(argument(n, "tensors")) > 5 for n in nodes)


def _never(_: Nodes) -> bool:
    return False


def _has_constant_result(nodes: Nodes) -> bool:
    """An operator all of whose inputs are placeholders may be computed beforehand."""
    return any(all(s.op == "placeholder" for s in node.all_input_nodes) for node in nodes)


# the delegate's pass and when it can have something to do; a pass that is not listed always runs
_WHEN: dict[str, Callable[[Nodes], bool]] = {
    "XNNPACKRemoveCloneOpsTransform": _has("clone", "alias", "_to_copy", "lift_fresh"),
    "DimOrderOpsRevertPass": _has("dim_order"),
    "ConvertToUpsampleBilinear2d": _has("index", "upsample"),
    "ConvertToLinearPass": _has("addmm", ".mm.", "bmm", "matmul"),
    "ConvertToSDPAPass": _is_masked_attention,
    "ConstPropPass": _has_constant_result,
    "FuseBatchNormPass": _has("batch_norm"),
    "DecomposeBatchNorm": _has("batch_norm"),
    "FuseActivationPass": _has("relu", "hardtanh"),
    "DecomposeConcatenate": _has_wide_cat,
    "RemoveGetItemPass": _has("getitem"),
    # a padding in integers is written out by the host; one in float must stay float for what reads it
    "InsertPadQDQPass": _never,
    "PReLUReshapePass": _has("_prelu_kernel"),
}


def needed_passes(passes: list[type], nodes: Nodes) -> list[type]:
    """The passes, in their order, that can have something to do on a partition's calls."""
    return [kind for kind in passes if kind.__name__ not in _WHEN or _WHEN[kind.__name__](nodes)]


@contextlib.contextmanager
def quick_preprocess() -> Iterator[None]:
    """While entered, the delegate's preprocess leaves out passes without effect."""
    from executorch.backends.xnnpack import xnnpack_preprocess

    upstream: Any = xnnpack_preprocess
    whole: Any = upstream.XNNPACKPassManager

    class Quick(whole):  # type: ignore[misc]  # executorch is untyped
        def __init__(self, exported_program: Any, passes: list[type] | None = None) -> None:
            super().__init__(exported_program, passes)
            calls = [n for n in exported_program.graph.nodes if n.op == "call_function"]
            self.passes: list[type] = needed_passes(self.passes, calls)

    upstream.XNNPACKPassManager = Quick
    try:
        yield
    finally:
        upstream.XNNPACKPassManager = whole
