"""The two sound backends that faults are seeded into: with a delegate, and on portable kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from chip_simulator import LIMIT, Machine, executor

from quanthost.api import (
    FP32_HALF_EVEN,
    BackendInfo,
    Constraint,
    DerivedQSpec,
    DType,
    Estimator,
    FixedQSpec,
    Gain,
    Granularity,
    Kernel,
    LoweringOptions,
    PieceRecord,
    QSpec,
    RangeEstimator,
    Recipe,
    Role,
    Row,
    Runner,
    Site,
    SupportTable,
    Symmetry,
    TableBackend,
    constraint,
    hookimpl,
    op,
    simulated_runner,
    tensor_meta,
)

__all__ = [
    "ACTIVATION",
    "DELEGATE",
    "INFO",
    "RECIPE",
    "ROWS",
    "WEIGHT",
    "Sound",
    "changed",
    "delegating",
    "portable",
]

DELEGATE = "SimulatedChip"
_MINMAX = RangeEstimator(kind=Estimator.MINMAX)
ACTIVATION = QSpec(dtype=DType.INT8, estimator=_MINMAX)
WEIGHT = QSpec(
    dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=0,
    symmetry=Symmetry.SYMMETRIC, estimator=_MINMAX,
)  # fmt: skip
RECIPE = Recipe(
    name="int8_static", kernel=Kernel.STATIC, activation=ACTIVATION, weight=WEIGHT,
    bias=DerivedQSpec(sources=("input", "weight")),
)  # fmt: skip
# averages are rounded before the zero point is added, like all other results
ARITHMETIC = attrs.evolve(FP32_HALF_EVEN, name="chip", mean_includes_zero_point=False)
INFO = BackendInfo(name="chip", recipes=(RECIPE,), arithmetic=ARITHMETIC)


@constraint("tensors are float32, not empty, of rank 1 to 4")
def fits_chip(site: Site) -> str | None:
    tensors = [node for capture in site.captures for node in site.tensors(capture)]
    for node in (*tensors, site.output):
        meta = tensor_meta(node)
        if meta is None:
            continue
        if meta.dtype is not torch.float32:
            return f"{node.name} is {meta.dtype}"
        if not 1 <= meta.dim() <= LIMIT:
            return f"{node.name} has rank {meta.dim()}"
        if any(isinstance(size, int) and size == 0 for size in meta.shape):
            return f"{node.name} is empty"
    return None


@constraint("the convolution is not transposed")
def straight(site: Site) -> str | None:
    return "it is transposed" if _is_transposed(site) else None


@constraint("the convolution is transposed")
def turned(site: Site) -> str | None:
    return None if _is_transposed(site) else "it is not transposed"


def _is_transposed(site: Site) -> bool:
    return str(site.argument("transposed")) == "True" or "conv_transpose" in str(site.anchor.target)


@constraint("groups == 1")
def one_group(site: Site) -> str | None:
    groups = site.argument("groups", 1)
    return None if groups == 1 else f"groups is {groups}"


@constraint("no dilation")
def close(site: Site) -> str | None:
    dilation = site.argument("dilation", 1)
    values = dilation if isinstance(dilation, (list, tuple)) else [dilation]
    return None if all(value == 1 for value in values) else f"the dilation is {dilation}"


@constraint("both sides are padded alike")
def even(site: Site) -> str | None:
    """If "same" pads one side more, that becomes a separate operator before the convolution."""
    if site.argument("padding") != "same":
        return None
    window = site.shape("weight")[2:]
    return None if all(size % 2 for size in window) else f"a window of {window} with the padding 'same'"


@constraint("the input has a batch dimension")
def batched(site: Site) -> str | None:
    rank = len(site.shape("input"))
    return None if rank == LIMIT else f"the input has rank {rank}"


@constraint("alpha is 1")
def plain_sum(site: Site) -> str | None:
    alpha = site.argument("alpha", 1)
    return None if alpha == 1 else f"alpha is {alpha}"


def _row(name: str, pattern: Any, *rules: Constraint, **more: Any) -> Row:
    return Row(name=name, pattern=pattern, kernels={Kernel.STATIC}, constraints=(fits_chip, *rules), **more)


_GEMM = {"weight": Role.WEIGHT, "bias": Role.BIAS}
_CONV = op("conv2d", "convolution", input="input", weight="weight", bias="bias?")
_TURNED = op("conv_transpose2d", "convolution", input="input", weight="weight", bias="bias?")
_CONV_RULES = (straight, batched, one_group, close, even)

ROWS = (
    _row("conv2d", _CONV, *_CONV_RULES, roles=_GEMM, gain=Gain.DRIVES),
    _row("conv2d_relu", op("relu", self=_CONV), *_CONV_RULES, roles=_GEMM, gain=Gain.DRIVES),
    _row("conv_transpose2d", _TURNED, turned, batched, one_group, close, roles=_GEMM, gain=Gain.DRIVES,
         weight_axis=1),
    _row("linear", op("linear", input="input", weight="weight", bias="bias?"), roles=_GEMM,
         gain=Gain.DRIVES, keeps=("linear",)),
    _row("add", op("add.Tensor", self="input", other="other"), plain_sum),
    _row("relu", op("relu", self="input")),
    _row("sigmoid", op("sigmoid", self="input"),
         qspecs={"output": FixedQSpec(dtype=DType.INT8, scale=1 / 256, zero_point=-128)}),
    _row("max_pool2d", op("max_pool2d", self="input"), batched, shares=("input", "output"),
         keeps=("max_pool2d",)),
    _row("avg_pool2d", op("avg_pool2d", self="input"), batched, shares=("input", "output")),
    _row("cat", op("cat", tensors="inputs*"), shares=("inputs", "output")),
    _row("permute", op("permute", self="input"), shares=("input", "output")),
)  # fmt: skip


@attrs.define(kw_only=True, eq=False)
class Sound(TableBackend):
    """The table; a machine computes what it delegates."""

    machine: type[Machine] = Machine

    @hookimpl
    def quanthost_create_runner(self, program: bytes, pieces: tuple[PieceRecord, ...]) -> Runner | None:
        return simulated_runner(program, pieces, {DELEGATE: executor(self.machine)})


_LOWERING = LoweringOptions(runtime_modules=("executorch.kernels.quantized",))


def delegating(
    kind: type[Sound] = Sound, rows: Sequence[Row] = ROWS, info: BackendInfo = INFO, **more: Any
) -> Sound:
    """With a simulated delegate."""
    return kind(
        info=attrs.evolve(info, runtime=DELEGATE), table=SupportTable(rows), delegate=DELEGATE,
        lowering=_LOWERING, **more,
    )  # fmt: skip


def portable(
    kind: type[TableBackend] = TableBackend, rows: Sequence[Row] = ROWS, info: BackendInfo = INFO, **more: Any
) -> TableBackend:
    """Without a delegate: programs run in the runtime's own kernels."""
    return kind(
        info=attrs.evolve(info, arithmetic=None), table=SupportTable(rows), lowering=_LOWERING, **more
    )


def changed(name: str, **fields: Any) -> tuple[Row, ...]:
    """The rows with other fields in the one of that name."""
    return tuple(attrs.evolve(row, **fields) if row.name == name else row for row in ROWS)
