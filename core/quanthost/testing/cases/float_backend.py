"""What ExecuTorch's own kernels run: a backend without rows, by which a refusal is told from a defect."""

from __future__ import annotations

from quanthost.graph.table import SupportTable
from quanthost.hooks.backend import TableBackend
from quanthost.testing.cases.samples import Sample
from quanthost.testing.proving.flow import proved_of
from quanthost.testing.proving.subject import Subject
from quanthost.values import BackendInfo, Kernel, Recipe

__all__ = ["is_refused_by_all"]

_FLOAT = Recipe(name="fp32", kernel=Kernel.FLOAT)
_NEUTRAL = TableBackend(info=BackendInfo(name="neutral", recipes=(_FLOAT,)), table=SupportTable(()))


def is_refused_by_all(sample: Sample) -> bool:
    """Whether the sample neither lowers nor runs without any backend."""
    try:
        proved_of(Subject.of(_NEUTRAL), _FLOAT.name, [sample])
    except Exception:
        return True
    return False
