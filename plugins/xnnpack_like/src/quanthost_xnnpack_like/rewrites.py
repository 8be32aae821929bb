"""The rewrites before annotation, in order: operators become ones that the table has rows for."""

from __future__ import annotations

from quanthost_xnnpack_like.activations import (
    clamp_to_hardtanh,
    elu_with_alpha,
    hardsigmoid_to_products,
    prelu_to_four_dimensions,
    silu_to_product,
)
from quanthost_xnnpack_like.attention import attention_to_products
from quanthost_xnnpack_like.biases import bias_for_each_layer
from quanthost_xnnpack_like.constant_folding import fold_constants
from quanthost_xnnpack_like.hardsigmoid import hardsigmoid_into_layer
from quanthost_xnnpack_like.hardswish import written_out_hardsigmoid, written_out_hardswish
from quanthost_xnnpack_like.normalizations import batch_norm_to_convolution, layer_norm_to_products
from quanthost_xnnpack_like.products import addmm_to_linear, mm_to_linear
from quanthost_xnnpack_like.reductions import (
    amax_to_values_of_max,
    max_keeps_dimension,
    mean_keeps_dimensions,
)
from quanthost_xnnpack_like.scalars import reversed_difference_to_difference, scalars_to_tensors
from quanthost_xnnpack_like.shapes import (
    drop_identities,
    reshapes_to_view,
    select_to_slice,
    splits_to_slices,
)

__all__ = ["REWRITES"]

REWRITES = (
    fold_constants,
    attention_to_products,
    drop_identities,
    reshapes_to_view,
    select_to_slice,
    splits_to_slices,
    mean_keeps_dimensions,
    amax_to_values_of_max,
    max_keeps_dimension,
    silu_to_product,
    clamp_to_hardtanh,
    elu_with_alpha,
    written_out_hardswish,
    written_out_hardsigmoid,
    hardsigmoid_into_layer,
    hardsigmoid_to_products,
    addmm_to_linear,
    mm_to_linear,
    prelu_to_four_dimensions,
    batch_norm_to_convolution,
    layer_norm_to_products,
    scalars_to_tensors,
    reversed_difference_to_difference,
    bias_for_each_layer,
)
