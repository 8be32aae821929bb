"""Settings of the XNNPACK delegate besides partitions: tags of absorbed q/dq, and its edge configuration."""

from __future__ import annotations

from quanthost.api import Claim, LoweringOptions
from quanthost_xnnpack_like.dequantize import dequantize_for_each_reader
from quanthost_xnnpack_like.preprocess import quick_preprocess

__all__ = ["lowering_options", "mark_implicit"]


def mark_implicit(claim: Claim) -> None:
    """Tag the q/dq nodes that an integer kernel absorbs; untagged ones become separate conversions."""
    from executorch.backends.xnnpack.utils.quant_utils import (
        is_dequant,
        is_quant,
        tag_as_implicit_q_dq,
    )

    if not claim.computes:
        return
    for node in claim.nodes:
        if is_quant(node) or is_dequant(node):
            tag_as_implicit_q_dq(node)


def lowering_options() -> LoweringOptions:
    """The configuration of the delegate's own tooling, and kernels for operators outside of the delegate."""
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig

    return LoweringOptions(
        passes=(dequantize_for_each_reader,),
        edge_compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        backend_config=ExecutorchBackendConfig(extract_delegate_segments=True),
        runtime_modules=("executorch.kernels.quantized",),
        around=quick_preprocess,
    )
