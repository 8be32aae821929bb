"""Turns a batch of calibration data into checked, flat inputs, and computes its digest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from quanthost.errors import CalibrationError, InputError
from quanthost.graph.signature import Signature

__all__ = ["arguments", "digest_of_batch", "flat_batch", "own_memory"]


def arguments(batch: Any, signature: Signature, *, what: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the call that a batch describes; ``what`` names the batch in errors.

    Raises:
        CalibrationError: the batch is no tensor, tuple, list or mapping.
    """
    if isinstance(batch, Mapping) and not signature.takes_mapping():
        named = dict(batch)
        return tuple(named.pop(name) for name in signature.parameters if name in batch), named
    if isinstance(batch, (tuple, list)):
        return tuple(batch), {}
    if isinstance(batch, (torch.Tensor, Mapping)):
        return (batch,), {}
    raise CalibrationError(
        f"{what} of type {type(batch).__name__}", stage="calibrate", value=batch,
        needed="a tensor, a tuple or list of arguments, or a mapping of arguments by name",
        remedy="convert it first, for example torch.from_numpy(batch)",
    )  # fmt: skip


def flat_batch(batch: Any, signature: Signature, number: int) -> list[Any]:
    """The flat inputs of a batch; ``number`` counts batches from 1.

    Raises:
        CalibrationError: the batch has a type that no batch can have, or holds NaN or Inf.
        InputError: shapes, dtypes or structure differ from the signature.
    """
    args, kwargs = arguments(batch, signature, what=f"batch {number}")
    try:
        flat = signature.flatten(args, kwargs)
    except InputError as error:
        extra = "; if the loader yields labels too, pass the inputs alone" if len(args) > 1 else ""
        raise InputError(
            f"batch {number}: {error.seen}", needed=error.needed, remedy=error.remedy + extra,
            where=error.where, stage="calibrate", value=error.value,
        ) from error  # fmt: skip
    for leaf, tensor in zip(signature.inputs, flat):
        if isinstance(tensor, torch.Tensor) and not _is_finite(tensor):
            kind = "NaN" if bool(torch.isnan(tensor).any()) else "Inf"
            raise CalibrationError(
                f"{kind} in the tensor {leaf.name!r} of batch {number}", needed="finite numbers",
                stage="calibrate", value=tensor,
                remedy="clean the data, or leave this batch out; an additive mask may hold"
                " torch.finfo(dtype).min in place of -inf",
            )  # fmt: skip
    return flat


def own_memory(flat: Sequence[Any]) -> list[Any]:
    """Copies of the tensors: a loader may reuse its buffer for the next batch."""
    return [leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in flat]


def digest_of_batch(flat: Sequence[Any]) -> str:
    """SHA-256 over the tensors of a batch, in hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in flat:
        if isinstance(tensor, torch.Tensor):
            digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(memoryview(tensor.detach().contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor.detach())
    return math.isfinite(low.item()) and math.isfinite(high.item())
