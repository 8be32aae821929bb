"""The support table of ``int8_reference``: every row in float, weight-only or static integers."""

from __future__ import annotations

import attrs

from quanthost.api import (
    Constraint,
    DType,
    FixedQSpec,
    Gain,
    Kernel,
    Op,
    Role,
    Row,
    SupportTable,
    alpha_is_one,
    grouped,
    not_grouped,
    op,
)
from quanthost_int8_reference import constraints as c
from quanthost_int8_reference.recipes import WEIGHT_PER_TENSOR

__all__ = ["TABLE"]

_KERNELS = frozenset((Kernel.FLOAT, Kernel.STATIC))
_WEIGHTED = _KERNELS | {Kernel.WEIGHT_ONLY}
_ROLES = {"weight": Role.WEIGHT, "bias": Role.BIAS}
# what an integer kernel does by clamping its result, before that is rounded to the output's scale
_CLAMPS = {"relu": ("relu",), "relu6": ("relu6", "hardtanh")}


def _with_clamps(row: Row) -> list[Row]:
    """The row itself, and one for each activation that is fused behind it."""
    fused = [
        attrs.evolve(
            row,
            name=f"{row.name}_{label}",
            pattern=op(*names, self=row.pattern),
            lowers_to=f"{row.lowers_to}, {label}",
        )
        for label, names in _CLAMPS.items()
    ]
    return [row, *fused]


def _weighted(
    name: str,
    pattern: Op,
    *rules: Constraint,
    lowers_to: str,
    axis: int = 0,
    one_scale: bool = False,
    grouping: Constraint = c.one_scale_a_row,
) -> list[Row]:
    """A product with a constant weight, whose output channels lie along ``axis``."""
    row = Row(
        name=name, pattern=pattern, kernels=_WEIGHTED, weight_axis=axis,
        constraints=(c.float32, grouping, *rules),
        roles={part: role for part, role in _ROLES.items() if part in pattern.captures()},
        qspecs={"weight": WEIGHT_PER_TENSOR} if one_scale else {}, gain=Gain.DRIVES, lowers_to=lowers_to,
    )  # fmt: skip
    return _with_clamps(row)


def _convolutions() -> list[Row]:
    plain = op("conv1d", "conv2d", input="input", weight="weight", bias="bias?")
    turned = op("conv_transpose1d", "conv_transpose2d", input="input", weight="weight", bias="bias?")
    return [
        *_weighted("conv", plain, lowers_to="convolution"),
        *_weighted("conv_transpose", turned, not_grouped, axis=1, lowers_to="convolution"),
        # groups share the weight's axis of output channels, so that a scale would serve several channels
        *_weighted(
            "conv_transpose_grouped", turned, grouped, axis=1, one_scale=True, lowers_to="convolution"
        ),
    ]


def _products() -> list[Row]:
    return [
        *_weighted(
            "linear", op("linear", input="input", weight="weight", bias="bias?"), lowers_to="addmm",
            grouping=c.scale_groups_fit,
        ),
        *_weighted(
            "addmm", op("addmm", mat1="input", mat2="weight", self="bias"), c.weight_matrix, c.plain_sum,
            axis=1, lowers_to="addmm",
        ),
        *_weighted(
            "matmul_weight", op("matmul", "mm", self="input", other__or__mat2="weight"), c.weight_matrix,
            axis=1, lowers_to="mm",
        ),
        Row(
            name="matmul", pattern=op("matmul", "mm", "bmm", self="input", other__or__mat2="other"),
            kernels=_KERNELS, constraints=(c.float32, c.another_product), gain=Gain.DRIVES,
            lowers_to="bmm, mm",
        ),
    ]  # fmt: skip


def _arithmetic() -> list[Row]:
    rows: list[Row] = []
    for name in ("add", "sub", "mul", "div"):
        rules = (c.float32,) if name in ("mul", "div") else (c.float32, alpha_is_one)
        target = f"{name}.Tensor"
        tensors = Row(
            name=name, pattern=op(target, self="input", other="other"), kernels=_KERNELS,
            constraints=rules, lowers_to=name,
        )  # fmt: skip
        number = Row(
            name=f"{name}_number", pattern=op(target, self="input"), kernels=_KERNELS,
            constraints=(*rules, c.number_operand), lowers_to=name,
        )  # fmt: skip
        rows += [*_with_clamps(tensors), *_with_clamps(number)]
    extrema = [
        Row(
            name=name,
            pattern=op(name, self="input", other="other"),
            kernels=_KERNELS,
            constraints=(c.float32,),
            lowers_to=name,
        )
        for name in ("maximum", "minimum")
    ]
    return [*rows, *extrema]


def _unary(name: str, *names: str, fixed: FixedQSpec | None = None, rule: Constraint | None = None) -> Row:
    return Row(
        name=name, pattern=op(*(names or (name,)), self="input"), kernels=_KERNELS,
        constraints=(c.float32,) if rule is None else (c.float32, rule),
        qspecs={} if fixed is None else {"output": fixed}, lowers_to=name,
    )  # fmt: skip


_FUNCTIONS = (
    *("exp", "log", "sqrt", "rsqrt", "reciprocal", "abs", "neg", "sin", "cos", "floor", "ceil", "erf"),
    *("silu", "mish", "softplus"),
)


def _activations() -> list[Row]:
    # the ranges of LiteRT's 8-bit quantization specification for LOGISTIC, SOFTMAX and TANH
    zero_to_one = FixedQSpec(dtype=DType.INT8, scale=1 / 256, zero_point=-128)
    around_zero = FixedQSpec(dtype=DType.INT8, scale=1 / 128, zero_point=0)
    return [
        _unary("relu"),
        _unary("hardtanh", "relu6", "hardtanh", "clamp.default"),
        _unary("hardswish"),
        _unary("gelu"),
        _unary("elu"),
        _unary("leaky_relu"),
        _unary("sigmoid", fixed=zero_to_one),
        _unary("hardsigmoid", fixed=zero_to_one),
        _unary("softmax", "softmax.int", "_softmax", fixed=zero_to_one, rule=c.no_conversion),
        _unary("tanh", fixed=around_zero),
        *(_unary(name) for name in _FUNCTIONS),
        _unary("square", "square", "pow.Tensor_Scalar"),
        Row(name="prelu", pattern=op("prelu", self="input"), kernels=_KERNELS, constraints=(c.float32,),
            lowers_to="prelu"),
        Row(name="layer_norm", pattern=op("layer_norm", input="input"), kernels=_KERNELS,
            constraints=(c.float32,), lowers_to="layer_norm"),
    ]  # fmt: skip


def _mover(name: str, *names: str, rule: Constraint | None = None) -> Row:
    """A row whose results are its operand's values, or lie between them: nothing is rescaled."""
    return Row(
        name=name, pattern=op(*(names or (name,)), self__or__input="input"), kernels=_KERNELS,
        constraints=(c.float32,) if rule is None else (c.float32, rule), shares=("input", "output"),
        lowers_to=name,
    )  # fmt: skip


def _joiner(name: str) -> Row:
    """The same of a list of tensors."""
    return Row(
        name=name, pattern=op(name, tensors="inputs*"), kernels=_KERNELS, constraints=(c.float32,),
        shares=("inputs", "output"), lowers_to="cat",
    )  # fmt: skip


def _movers_and_pools() -> list[Row]:
    return [
        _mover("max_pool", "max_pool1d", "max_pool2d", "adaptive_max_pool2d"),
        _mover("avg_pool", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
        _mover("mean", "mean.default", "mean.dim", rule=c.no_conversion),
        _joiner("cat"),
        _joiner("stack"),
        _mover("pad", "pad", "constant_pad_nd", rule=c.pads_inside_the_range),
        _mover("view", "view", "reshape", "flatten", "unflatten", "_unsafe_view"),
        _mover("squeeze"),
        _mover("unsqueeze"),
        _mover("permute", "permute", "transpose", "t"),
        _mover("slice"),
        _mover("select", "select.int"),
        _mover("expand"),
        _mover("copy", "clone", "contiguous"),
        _mover("dropout", "dropout", "feature_dropout", rule=c.evaluates),
        _mover("upsample_nearest", "upsample_nearest1d", "upsample_nearest2d"),
    ]


TABLE = SupportTable((*_convolutions(), *_products(), *_arithmetic(), *_activations(), *_movers_and_pools()))
