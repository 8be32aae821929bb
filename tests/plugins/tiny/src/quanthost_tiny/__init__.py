"""The smallest useful backend: int8 linear layers, with or without ReLU, on ExecuTorch's own kernels."""

import quanthost.api as q

LINEAR = q.op("linear", input="input", weight="weight", bias="bias?")
ROWS = [
    q.Row(
        name=name, pattern=pattern, kernels={q.Kernel.STATIC}, gain=q.Gain.DRIVES,
        roles={"weight": q.Role.WEIGHT, "bias": q.Role.BIAS},
    )
    for name, pattern in (("linear", LINEAR), ("linear_relu", q.op("relu", self=LINEAR)))
]  # fmt: skip
INT8 = q.Recipe(
    name="int8_static", kernel=q.Kernel.STATIC, activation=q.QSpec(dtype=q.DType.INT8),
    weight=q.QSpec(dtype=q.DType.INT8, quant_min=-127, symmetry=q.Symmetry.SYMMETRIC),
)  # fmt: skip
backend = q.TableBackend(
    info=q.BackendInfo(name="tiny", recipes=[INT8]), table=q.SupportTable(ROWS),
    lowering=q.LoweringOptions(runtime_modules=("executorch.kernels.quantized",)),
)  # fmt: skip
