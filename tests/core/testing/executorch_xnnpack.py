"""ExecuTorch's own quantizer and partitioner for XNNPACK as a plugin, as an author would wrap them."""

from __future__ import annotations

from functools import partial

from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)

from quanthost.api import (
    BackendInfo,
    DType,
    Granularity,
    Kernel,
    LoweringOptions,
    QSpec,
    Recipe,
    Symmetry,
    WrappedBackend,
)

__all__ = ["backend"]

_WEIGHT = QSpec(
    dtype=DType.INT8, quant_min=-127, granularity=Granularity.PER_CHANNEL, axis=0, symmetry=Symmetry.SYMMETRIC
)
_RECIPES = (
    Recipe(name="int8_static", kernel=Kernel.STATIC, activation=QSpec(dtype=DType.INT8), weight=_WEIGHT),
    Recipe(name="int8_dynamic", kernel=Kernel.DYNAMIC, activation=QSpec(dtype=DType.INT8), weight=_WEIGHT),
    Recipe(name="fp32", kernel=Kernel.FLOAT),
)


def _quantizer(*, is_dynamic: bool) -> XNNPACKQuantizer:
    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=is_dynamic)
    return XNNPACKQuantizer().set_global(config)


backend = WrappedBackend(
    info=BackendInfo(name="executorch_xnnpack", recipes=_RECIPES, runtime="XnnpackBackend"),
    quantizers={
        "int8_static": partial(_quantizer, is_dynamic=False),
        "int8_dynamic": partial(_quantizer, is_dynamic=True),
    },
    partitioners=lambda: [XnnpackPartitioner()],
    lowering=LoweringOptions(runtime_modules=("executorch.kernels.quantized",)),
)
