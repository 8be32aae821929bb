"""Small backends for tests of the suite: one that is sound, and some with a fault."""

from __future__ import annotations

import attrs
import torch

from quanthost.api import (
    BackendInfo,
    Constraint,
    DType,
    Estimator,
    Gain,
    Granularity,
    Kernel,
    LoweringOptions,
    QSpec,
    RangeEstimator,
    Recipe,
    Role,
    Row,
    Site,
    SupportTable,
    Symmetry,
    TableBackend,
    constraint,
    op,
)

__all__ = ["RECIPE", "ROWS", "backend", "changed"]

_MINMAX = RangeEstimator(kind=Estimator.MINMAX)
RECIPE = Recipe(
    name="int8_static", kernel=Kernel.STATIC, activation=QSpec(dtype=DType.INT8, estimator=_MINMAX),
    weight=QSpec(
        dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=0,
        symmetry=Symmetry.SYMMETRIC, estimator=_MINMAX,
    ),
)  # fmt: skip


@constraint("tensors are float32")
def _float32(site: Site) -> str | None:
    dtype = site.dtype("input")
    return None if dtype is torch.float32 else f"it is {dtype}"


@constraint("rank 1 to 6")
def _rank(site: Site) -> str | None:
    rank = len(site.shape("input"))
    return None if 1 <= rank <= 6 else f"rank {rank}"


def _row(name: str, *rules: Constraint, **more: object) -> Row:
    pattern = more.pop("pattern", op(name, self="input"))
    return Row(
        name=name, pattern=pattern, kernels={Kernel.STATIC}, constraints=(_float32, _rank, *rules), **more
    )  # type: ignore[arg-type]  # of Row


ROWS = (
    _row(
        "linear", pattern=op("linear", input="input", weight="weight", bias="bias?"),
        roles={"weight": Role.WEIGHT, "bias": Role.BIAS}, gain=Gain.DRIVES,
    ),
    _row("relu"),
    _row("permute", shares=("input", "output")),
    _row("max_pool2d", shares=("input", "output")),
)  # fmt: skip


def backend(rows: tuple[Row, ...] = ROWS, kind: type[TableBackend] = TableBackend) -> TableBackend:
    """Without a delegate: programs run in the runtime's own kernels."""
    return kind(
        info=BackendInfo(name="toy", recipes=(RECIPE,)), table=SupportTable(rows),
        lowering=LoweringOptions(runtime_modules=("executorch.kernels.quantized",)),
    )  # fmt: skip


def changed(name: str, **fields: object) -> tuple[Row, ...]:
    """The rows with other fields in the one of that name."""
    return tuple(attrs.evolve(row, **fields) if row.name == name else row for row in ROWS)
