"""Graph modules whose Python code is written when somebody calls them.

``torch.fx`` writes and compiles the code of a graph each time that a pass is done with it, though nobody runs
the graph between two passes: a third of the time of convert, and a fifth of lower.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch import fx
from torch.fx.graph import _PyTreeCodeGen

from quanthost.toolchain.fast.proved import FINGERPRINTS
from quanthost.toolchain.replacement import Replacement, replaced

__all__ = ["compiled_when_called"]


def _later(recompile: Callable[..., Any], module: fx.GraphModule) -> None:
    codegen = module.graph._codegen
    if isinstance(codegen, _PyTreeCodeGen):
        module._in_spec, module._out_spec = codegen.pytree_info.in_spec, codegen.pytree_info.out_spec

    def forward(self: fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
        recompile(self)
        return self.forward(*args, **kwargs)

    module._code = ""
    # each graph module has a class of its own
    type(module).forward = forward


REPLACEMENTS = (Replacement("torch.fx.graph_module:GraphModule.recompile", _later, FINGERPRINTS),)


def compiled_when_called() -> AbstractContextManager[None]:
    """While entered, in this thread, ``GraphModule.recompile`` waits for the first call of the module.

    What outlives the block and shall show its code needs a ``recompile`` after it.
    """
    return replaced(*REPLACEMENTS)
