"""The support table of ``xnnpack_like``, the only list of what the delegate supports.

Sources: the node visitors and partitioner checks of ``executorch.backends.xnnpack`` 1.5.1, and programs run
on the delegate with int8 tensors for each operator.
"""

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
from quanthost_xnnpack_like import constraints as c
from quanthost_xnnpack_like import layout
from quanthost_xnnpack_like import windows as w
from quanthost_xnnpack_like.recipes import WEIGHT_PER_TENSOR

__all__ = ["TABLE"]

FLOAT, STATIC, DYNAMIC, WEIGHT_ONLY = Kernel.FLOAT, Kernel.STATIC, Kernel.DYNAMIC, Kernel.WEIGHT_ONLY
_GEMM_ROLES = {"weight": Role.WEIGHT, "bias": Role.BIAS}
# for operators without an integer kernel with per-channel scales
_ONE_SCALE = {"weight": WEIGHT_PER_TENSOR}
# what the delegate's serializer folds into the kernel before it
_ACTIVATIONS = {"relu": ("relu",), "hardtanh": ("relu6", "hardtanh")}


def _with_activations(row: Row, kernels: set[Kernel]) -> list[Row]:
    """The row itself, and one for each activation that the delegate fuses behind it."""
    fused = (
        attrs.evolve(
            row,
            name=f"{row.name}_{label}",
            pattern=op(*names, self=row.pattern),
            kernels=kernels,
            lowers_to=f"{row.lowers_to} with output bounds",
        )
        for label, names in _ACTIVATIONS.items()
    )
    return [row, *fused]


_CONV = op("conv1d", "conv2d", "convolution", input="input", weight="weight", bias="bias?")
_CONV_TRANSPOSE = op(
    "conv_transpose1d", "conv_transpose2d", "convolution", input="input", weight="weight", bias="bias?"
)
# the first result, by position
_VALUES = Op(names=("getitem",), operands=(("0", op("max.dim", self="input")), ("1", 0)))
_LINEAR = op("linear", input="input", weight="weight", bias="bias?")


def _gemm() -> list[Row]:
    conv = Row(
        name="conv", pattern=_CONV, kernels={FLOAT, STATIC, DYNAMIC}, roles=_GEMM_ROLES,
        constraints=(
            c.float32, c.no_groups, w.no_transposition, w.conv_has_kernel, w.pads_both_sides, w.plain_2d,
            layout.float_around, layout.reads_alone,
        ),
        gain=Gain.DRIVES, lowers_to="convolution_2d, depthwise_convolution_2d",
    )  # fmt: skip
    # in evaluation the norm is folded into the weights before annotation
    trained = attrs.evolve(
        conv, name="conv_batch_norm", pattern=op("batch_norm", input=_CONV, training=True), kernels={STATIC},
        delegated=False, lowers_to="after training the norm lies in the weights, see conv",
    )  # fmt: skip
    conv_transpose = Row(
        name="conv_transpose", pattern=_CONV_TRANSPOSE, kernels={FLOAT, STATIC}, roles=_GEMM_ROLES,
        constraints=(c.float32, w.transposition, not_grouped, w.conv_has_kernel, layout.float_around),
        weight_axis=1, gain=Gain.DRIVES, lowers_to="deconvolution_2d",
    )  # fmt: skip
    grouped_transpose = Row(
        name="conv_transpose_grouped", pattern=_CONV_TRANSPOSE, kernels={FLOAT, STATIC}, roles=_GEMM_ROLES,
        constraints=(c.float32, w.transposition, grouped, w.conv_has_kernel, layout.float_around),
        qspecs=_ONE_SCALE, gain=Gain.DRIVES, lowers_to="deconvolution_2d",
    )  # fmt: skip
    linear = Row(
        name="linear", pattern=_LINEAR, kernels={FLOAT, STATIC, DYNAMIC}, roles=_GEMM_ROLES,
        constraints=(c.float32, c.int4_groups_fit), gain=Gain.DRIVES, lowers_to="fully_connected",
        keeps=("linear",),
    )  # fmt: skip
    return [
        *_with_activations(conv, {FLOAT, STATIC, DYNAMIC}),
        *_with_activations(trained, {STATIC}),
        *_with_activations(conv_transpose, {FLOAT, STATIC}),
        *_with_activations(grouped_transpose, {FLOAT, STATIC}),
        *_with_activations(linear, {FLOAT, STATIC, DYNAMIC}),
        Row(
            name="linear_weight_only", pattern=_LINEAR, kernels={WEIGHT_ONLY}, roles=_GEMM_ROLES,
            constraints=(c.float32,), gain=Gain.DRIVES, delegated=False,
            lowers_to="dequantize_per_channel and addmm in portable kernels",
        ),
        Row(
            name="embedding_weight_only", pattern=op("embedding", weight="weight", indices="indices"),
            kernels={WEIGHT_ONLY}, roles={"weight": Role.WEIGHT, "indices": Role.PASSTHROUGH},
            constraints=(c.float32_weight,), gain=Gain.DRIVES, delegated=False,
            lowers_to="dequantize_per_channel and embedding in portable kernels",
        ),
        Row(name="mm", pattern=op("mm", self="input", mat2="other"), kernels={FLOAT},
            constraints=(c.float32,), lowers_to="fully_connected or batch_matrix_multiply"),
        Row(name="bmm", pattern=op("bmm", self="input", mat2="other"), kernels={FLOAT},
            constraints=(c.float32,), lowers_to="batch_matrix_multiply"),
    ]  # fmt: skip


def _binary() -> list[Row]:
    rows: list[Row] = []
    for name, kernel in (("add", "add2"), ("sub", "subtract"), ("mul", "multiply2")):
        checks = (c.float32, c.product_fits if name == "mul" else alpha_is_one)
        row = Row(
            name=name, pattern=op(f"{name}.Tensor", self="input", other="other"), kernels={FLOAT, STATIC},
            constraints=checks, lowers_to=kernel,
        )  # fmt: skip
        rows.extend(_with_activations(row, {FLOAT, STATIC}))
    for name, target, kernel in (
        ("div", "div.Tensor", "divide"),
        ("maximum", "maximum", "maximum2"),
        ("minimum", "minimum", "minimum2"),
    ):
        rows.append(
            Row(name=name, pattern=op(target, self="input", other="other"), kernels={FLOAT, STATIC},
                constraints=(c.float32,), lowers_to=kernel)
        )  # fmt: skip
    return rows


def _fixed(scale: float, zero_point: int) -> dict[str, FixedQSpec]:
    return {"output": FixedQSpec(dtype=DType.INT8, scale=scale, zero_point=zero_point)}


def _unary() -> list[Row]:
    both, only_float = {FLOAT, STATIC}, {FLOAT}
    # in int8 the argument of a root or logarithm can become zero, so these stay float
    listed: tuple[tuple[str, tuple[str, ...], set[Kernel], str], ...] = (
        ("relu", ("relu",), both, "clamp"),
        ("hardtanh", ("relu6", "hardtanh", "clamp.default"), both, "clamp"),
        ("hardswish", ("hardswish",), both, "hardswish"),
        ("gelu", ("gelu",), both, "gelu"),
        ("elu", ("elu",), both, "elu"),
        ("leaky_relu", ("leaky_relu",), both, "leaky_relu"),
        ("abs", ("abs",), both, "abs"),
        ("neg", ("neg",), both, "negate"),
        ("floor", ("floor",), both, "floor"),
        ("ceil", ("ceil",), both, "ceiling"),
        ("exp", ("exp",), both, "exp"),
        ("sin", ("sin",), both, "sine"),
        ("cos", ("cos",), both, "cosine"),
        ("sqrt", ("sqrt",), only_float, "square_root"),
        ("rsqrt", ("rsqrt",), only_float, "reciprocal_square_root"),
        ("log", ("log",), only_float, "log"),
    )
    more = {
        "gelu": (c.exact_gelu,), "elu": (c.plain_elu,),
        "relu": (layout.not_of_maximum,), "hardtanh": (layout.not_of_maximum,),
    }  # fmt: skip
    rows = [
        Row(name=name, pattern=op(*names, self="input"), kernels=kernels,
            constraints=(c.float32, *more.get(name, ())), lowers_to=kernel,
            keeps=names if name in ("hardswish", "elu") else ())
        for name, names, kernels, kernel in listed
    ]  # fmt: skip
    bounded = [
        attrs.evolve(
            row, name=f"{row.name}_of_maximum", kernels={STATIC}, constraints=(c.float32, layout.of_maximum),
            shares=("input", "output"),
        )
        for row in rows if row.name in _ACTIVATIONS
    ]  # fmt: skip
    return [
        *rows,
        *bounded,
        Row(name="sigmoid", pattern=op("sigmoid", self="input"), kernels=both, constraints=(c.float32,),
            qspecs=_fixed(1 / 256, -128), lowers_to="sigmoid"),
        Row(name="tanh", pattern=op("tanh", self="input"), kernels=both, constraints=(c.float32,),
            qspecs=_fixed(1 / 128, 0), lowers_to="tanh"),
        Row(name="square", pattern=op("square", "pow.Tensor_Scalar", self="input"), kernels=both,
            constraints=(c.float32, c.square_only), lowers_to="square"),
        Row(name="softmax", pattern=op("softmax.int", "_softmax", self="input"), kernels=only_float,
            constraints=(c.float32, c.last_dimension, layout.contiguous), lowers_to="softmax"),
        Row(name="prelu", pattern=op("prelu", self="input", weight="weight"), kernels=both,
            roles={"weight": Role.WEIGHT}, constraints=(c.float32, c.slope_for_each_channel),
            qspecs=_ONE_SCALE, lowers_to="prelu", keeps=("prelu",)),
    ]  # fmt: skip


def _mover(
    name: str,
    pattern: Op,
    *checks: Constraint,
    lowers_to: str,
    shares: str = "input",
    keeps: tuple[str, ...] = (),
) -> Row:
    """A row that moves data: its tensors have one set of parameters, and nothing is lost."""
    return Row(
        name=name, pattern=pattern, kernels={FLOAT, STATIC}, constraints=(c.float32, *checks),
        shares=(shares, "output"), lowers_to=lowers_to, keeps=keeps,
    )  # fmt: skip


def _movers_and_pools() -> list[Row]:
    return [
        _mover("max_pool2d", op("max_pool2d", self="input"), w.pool_window, lowers_to="max_pooling_2d",
               keeps=("max_pool2d",)),
        _mover("max", _VALUES, w.maximum_over_height_or_width, lowers_to="max_pooling_2d"),
        _mover("cat", op("cat", tensors="inputs*"), c.two_or_more, lowers_to="concatenate", shares="inputs"),
        _mover("pad", op("pad", "constant_pad_nd", self="input"), c.pads_with_zero,
               lowers_to="static_constant_pad"),
        _mover("slice", op("slice.Tensor", self="input"), c.static_slice, lowers_to="static_slice"),
        _mover("view", op("view", "reshape", "flatten.using_ints", "_unsafe_view", self="input"),
               c.one_dynamic_dimension, lowers_to="static_reshape"),
        _mover("clone", op("clone", self="input"), c.same_layout, c.copies_alone,
               lowers_to="copy, or nothing"),
        _mover("view_of_clone", op("view", "_unsafe_view", self=op("clone", self="input")), c.same_layout,
               c.one_dynamic_dimension, lowers_to="static_reshape"),
        _mover("permute", op("permute", "transpose.int", "t", self="input"), lowers_to="static_transpose"),
        Row(name="mean", pattern=op("mean.dim", self="input"), kernels={FLOAT, STATIC},
            constraints=(c.float32, w.mean_over_height_and_width), shares=("input", "output"),
            lowers_to="global_average_pooling_2d"),
        Row(name="adaptive_avg_pool2d", pattern=op("adaptive_avg_pool2d", self="input"),
            kernels={FLOAT, STATIC}, constraints=(c.float32, w.unit_output), shares=("input", "output"),
            lowers_to="global_average_pooling_2d"),
        Row(name="avg_pool2d", pattern=op("avg_pool2d", self="input"), kernels={FLOAT},
            constraints=(c.float32, w.average_of_plain_window), lowers_to="average_pooling_2d"),
        Row(name="upsample_bilinear2d", pattern=op("upsample_bilinear2d.vec", input="input"),
            kernels={FLOAT}, constraints=(c.float32, c.resize_to_constant_size),
            lowers_to="static_resize_bilinear_2d", keeps=("upsample_bilinear2d.vec",)),
    ]  # fmt: skip


def _conversions() -> list[Row]:
    namespace = "quantized_decomposed"
    return [
        Row(name=name, pattern=op(f"{namespace}.{name}_per_tensor.default", input="input"), kernels={FLOAT},
            roles={"input": Role.PASSTHROUGH}, converts=True, lowers_to="convert")
        for name in ("quantize", "dequantize")
    ]  # fmt: skip


TABLE = SupportTable((*_gemm(), *_binary(), *_unary(), *_movers_and_pools(), *_conversions()))
