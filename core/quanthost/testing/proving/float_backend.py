"""A backend without rows, which tells what ExecuTorch's own kernels refuse."""

from __future__ import annotations

from quanthost.graph.table import SupportTable
from quanthost.hooks.backend import TableBackend
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.flow import run_samples
from quanthost.testing.proving.subject import Subject
from quanthost.values import BackendInfo, Kernel, Recipe

__all__ = ["is_refused_by_all"]

_FLOAT = Recipe(name="fp32", kernel=Kernel.FLOAT)
_NEUTRAL = TableBackend(info=BackendInfo(name="neutral", recipes=(_FLOAT,)), table=SupportTable(()))


def is_refused_by_all(sample: Sample) -> bool:
    """Whether the sample fails to lower or run in ExecuTorch's own kernels."""
    try:
        run_samples(Subject.load(_NEUTRAL), _FLOAT.name, [sample])
    except Exception:
        return True
    return False
