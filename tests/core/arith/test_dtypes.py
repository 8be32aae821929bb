"""The torch dtype that stores integers of each width, and back."""

from __future__ import annotations

import pytest
import torch

from quanthost.arith.dtypes import dtype_of, torch_dtype
from quanthost.values import DType


@pytest.mark.parametrize("dtype", DType)
def test_the_stored_integers_fit(dtype: DType) -> None:
    """Every integer of the dtype fits the torch dtype; both ways agree, but for int4, which has none."""
    stored = torch_dtype(dtype)
    limits = torch.iinfo(stored)
    assert limits.min <= dtype.minimum < dtype.maximum <= limits.max
    assert dtype_of(stored) is (DType.INT8 if dtype is DType.INT4 else dtype)


def test_other_dtypes_are_no_integers_of_ours() -> None:
    """A float, or integers that no qspec has."""
    assert dtype_of(torch.float32) is None
    assert dtype_of(torch.int64) is None
