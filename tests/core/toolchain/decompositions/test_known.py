"""Each decomposition of our own computes what torch's operator computes, on the inputs that torch lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from quanthost.toolchain.decompositions.known import OWN

# (operator of torch's database, decomposed operators that its samples call)
LISTED = {
    "aminmax": ["aten.aminmax.default"],
    "angle": ["aten.angle.default"],
    "copysign": ["aten.copysign.Tensor"],
    "erfc": ["aten.erfc.default"],
    "exp2": ["aten.exp2.default"],
    "fmax": ["aten.fmax.default"],
    "fmin": ["aten.fmin.default"],
    "hypot": ["aten.hypot.default"],
    "logaddexp2": ["aten.logaddexp2.default"],
    "remainder": ["aten.remainder.Tensor"],
    "round": ["aten.round.decimals"],
    "signbit": ["aten.signbit.default"],
    "sum": ["aten.sum.dim_IntList"],
    "unfold": ["aten.unfold.default"],
    "bucketize": ["aten.bucketize.Tensor"],
    "cummax": ["aten.cummax.default"],
    "cummin": ["aten.cummin.default"],
    "cumprod": ["aten.cumprod.default"],
    "cumsum": ["aten.cumsum.default"],
    "kthvalue": ["aten.kthvalue.default"],
    "logcumsumexp": ["aten.logcumsumexp.default"],
    "median": ["aten.median.default", "aten.median.dim"],
    "mode": ["aten.mode.default"],
    "nanmedian": ["aten.nanmedian.default", "aten.nanmedian.dim"],
    "searchsorted": ["aten.searchsorted.Tensor"],
    "sort": ["aten.sort.default", "aten.sort.stable"],
    "nn.functional.adaptive_avg_pool3d": ["aten._adaptive_avg_pool3d.default"],
    "nn.functional.adaptive_max_pool2d": ["aten.adaptive_max_pool2d.default"],
    "nn.functional.adaptive_max_pool3d": ["aten.adaptive_max_pool3d.default"],
    "nn.functional.avg_pool3d": ["aten.avg_pool3d.default"],
    "nn.functional.pad": ["aten.constant_pad_nd.default"],
    "nn.functional.conv3d": ["aten.convolution.default"],
    "nn.functional.conv_transpose3d": ["aten.convolution.default"],
    "nn.functional.max_pool3d": ["aten.max_pool3d_with_indices.default"],
    "nn.functional.embedding_bag": ["aten._embedding_bag_forward_only.default"],
    "scatter_reduce": ["aten.scatter_reduce.two"],
    "index_reduce": ["aten.index_reduce.default"],
    "put": ["aten.put.default"],
}
DTYPES = (torch.float32, torch.int64, torch.bool)
# results that are indices of one of several equal elements, of which torch does not say which
FREE = {
    "aten.sort.default": 1,
    "aten.kthvalue.default": 1,
    "aten.median.dim": 1,
    "aten.nanmedian.dim": 1,
    "aten.mode.default": 1,
}
# what the others of an embedding bag's results hold depends on its mode
FIRST_ONLY = ("aten._embedding_bag.default", "aten._embedding_bag_forward_only.default")


class Comparing(TorchDispatchMode):
    """Runs both of each call, and notes the ones that differ."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[str] = set()
        self.differing: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = str(func), kwargs or {}
        result = func(*args, **kwargs)
        if name in OWN:
            own = OWN[name](*args, **kwargs)
            if own is not NotImplemented:
                self.taken.add(name)
                difference = _difference(name, own, result)
                if difference:
                    self.differing.append(f"{name}: {difference}")
        return result


def _difference(name: str, own: Any, wanted: Any) -> str:
    pairs = list(zip(pytree.tree_leaves(own), pytree.tree_leaves(wanted)))
    if name in FIRST_ONLY:
        pairs = pairs[:1]
    for number, (one, other) in enumerate(pairs):
        if one.dtype != other.dtype or one.shape != other.shape:
            return f"result {number}: {one.dtype} {tuple(one.shape)}, {other.dtype} {tuple(other.shape)}"
        if FREE.get(name) == number:
            continue
        if not _near(one.double(), other.double()):
            return f"result {number}: {one.flatten()[:6]}, {other.flatten()[:6]}"
    return ""


def _near(one: Tensor, other: Tensor) -> bool:
    if not torch.equal(one.isnan(), other.isnan()) or not torch.equal(one.isinf(), other.isinf()):
        return False
    one, other = one[other.isfinite()], other[other.isfinite()]
    return bool((one - other).norm() <= 1e-5 * other.norm().clamp(min=1e-3))


def _samples(info: Any) -> Iterator[Any]:
    for dtype in DTYPES:
        if dtype in info.supported_dtypes("cpu"):
            torch.manual_seed(0)
            yield from info.sample_inputs("cpu", dtype, requires_grad=False)


@pytest.mark.parametrize("name", LISTED)
def test_it_computes_what_torch_computes(name: str) -> None:
    """On every sample of torch's own, of floats, integers and bools."""
    comparing = Comparing()
    for info in op_db:
        if info.name != name:
            continue
        for sample in _samples(info):
            with comparing, torch.no_grad():
                info.op(sample.input, *sample.args, **sample.kwargs)

    assert comparing.differing == []
    assert set(LISTED[name]) <= comparing.taken
