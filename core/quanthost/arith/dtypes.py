"""The torch dtype in which integers of each width are stored."""

from __future__ import annotations

import torch

from quanthost.values import DType

__all__ = ["dtype_of", "torch_dtype"]

# eager torch has no int4: PT2E keeps it in int8 with a narrower range
_STORAGE = {
    DType.INT4: torch.int8,
    DType.INT8: torch.int8,
    DType.UINT8: torch.uint8,
    DType.INT16: torch.int16,
    DType.INT32: torch.int32,
}
_OWN = {stored: dtype for dtype, stored in _STORAGE.items() if dtype is not DType.INT4}


def torch_dtype(dtype: DType) -> torch.dtype:
    """The dtype that stores it: int8 for int4."""
    return _STORAGE[dtype]


def dtype_of(stored: torch.dtype) -> DType | None:
    """The dtype whose integers fill a torch dtype, ``None`` if there is none."""
    return _OWN.get(stored)
