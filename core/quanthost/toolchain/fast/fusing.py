"""Skips torchao's search for convolutions with a batch norm if the graph has no convolution of that kind.

torchao searches a graph for training for 4 kinds of convolution in 12 variants each, and exports two
patterns for each variant: about 20 s for any network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import fx

from quanthost.toolchain.fast.accepted_code import FINGERPRINTS
from quanthost.toolchain.replacement import Replacement

__all__ = ["present_convolutions"]


def _search(
    original: Callable[..., Any],
    module: fx.GraphModule,
    conv_fn: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    name = f"aten::{conv_fn.__name__}"
    if any(_schema_name(node) == name for node in module.graph.nodes):
        return original(module, conv_fn, *args, **kwargs)
    # what the search also does
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _schema_name(node: fx.Node) -> str | None:
    schema = getattr(node.target, "_schema", None)
    return None if schema is None else schema.name


REPLACEMENTS = tuple(
    Replacement(f"torchao.quantization.pt2e.qat_utils:{name}", _search, FINGERPRINTS)
    for name in ("_fuse_conv_bn_qat_helper", "_fold_conv_bn_qat_helper")
)


@contextlib.contextmanager
def present_convolutions() -> Iterator[None]:
    """While entered, in this thread, torchao searches only for the kinds of convolution that a graph has."""
    with contextlib.ExitStack() as stack:
        for each in REPLACEMENTS:
            stack.enter_context(each.entered())
        yield
