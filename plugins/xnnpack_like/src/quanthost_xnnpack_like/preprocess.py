"""A quicker preprocess of the delegate: its own passes, without those whose pattern cannot occur.

Each pass traces the partition again, and most of them look for operators that it does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from quanthost.api import Fingerprints, Replacement, argument, operator_name

__all__ = ["FINGERPRINTS", "REPLACEMENT", "quick_preprocess", "select_passes", "skippable_passes"]

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


FINGERPRINTS = Fingerprints(Path(__file__).with_name("fingerprints.json"))


def select_passes(passes: list[type], nodes: Nodes) -> list[type]:
    """The passes, in their order, that may change a partition with these calls."""
    return [kind for kind in passes if not _is_idle(kind, nodes)]


def _is_idle(kind: type, nodes: Nodes) -> bool:
    """Whether a pass has a recorded fingerprint and does not change a partition with these calls."""
    when = _WHEN.get(kind.__name__)
    return when is not None and not when(nodes) and FINGERPRINTS.accept(kind)


def skippable_passes(passes: list[type]) -> list[type]:
    """The passes that may be skipped, whose fingerprints are recorded."""
    return [kind for kind in passes if kind.__name__ in _WHEN]


def _without_idle_passes(
    original: Callable[..., None], manager: Any, exported_program: Any, passes: list[type] | None = None
) -> None:
    original(manager, exported_program, passes)
    calls = [n for n in exported_program.graph.nodes if n.op == "call_function"]
    manager.passes = select_passes(manager.passes, calls)


REPLACEMENT = Replacement(
    "executorch.backends.xnnpack._passes:XNNPACKPassManager.__init__", _without_idle_passes, FINGERPRINTS
)


def quick_preprocess() -> AbstractContextManager[bool]:
    """While entered, in this thread, the delegate's preprocess skips passes without effect."""
    return REPLACEMENT.entered()
