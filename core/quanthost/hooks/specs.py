"""The hook specifications: the contract between the host and every plugin.

A plugin is an object with functions or methods of these names, each marked with ``hookimpl``. It may leave
out arguments that it does not use, and must not invent others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from quanthost.deprecation import Deprecated

if TYPE_CHECKING:
    from executorch.exir.backend.partitioner import Partitioner
    from torch.fx import GraphModule

    from quanthost.values import BackendInfo, Decision, Match, PieceRecord, QSpecChoice, Refusal, Request

__all__ = ["LoweringOptions", "Problem", "RowMiss", "hookimpl", "hookspec"]

PROJECT = "quanthost"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@attrs.frozen(kw_only=True)
class RowMiss:
    """A row whose pattern held at a node of the captured graph, and the constraint that refused it."""

    node: str
    row: str
    reason: str


@attrs.frozen(kw_only=True)
class Problem:
    """Something that ``quanthost_validate`` will not let pass: which node, what is wrong, what to do."""

    node: str
    message: str
    remedy: str


@attrs.frozen(kw_only=True)
class LoweringOptions:
    """What a backend wants of the way to its program; unset parts keep the toolchain's defaults.

    ``passes`` are edge passes run before partitioning; ``edge_compile_config`` and ``backend_config`` are
    ExecuTorch's ``EdgeCompileConfig`` and ``ExecutorchBackendConfig``; ``around`` makes a context manager
    that is entered while the program is lowered (``Replacement.entered``, to replace a function of the
    toolchain in this thread alone); ``runtime_modules`` are importable modules that register
    what the program needs at run time (``executorch.kernels.quantized``).
    """

    passes: tuple[Any, ...] = ()
    edge_compile_config: Any | None = None
    backend_config: Any | None = None
    around: Callable[[], Any] | None = None
    runtime_modules: tuple[str, ...] = ()


@hookspec(firstresult=True)
def quanthost_backend_info() -> BackendInfo:
    """Say what the backend is: its recipes in full (the default first), options and runtime.

    Called before anything is captured. The names must agree with the static manifest.
    """
    raise NotImplementedError


@hookspec
def quanthost_transform_for_annotation(graph_module: GraphModule, request: Request) -> GraphModule:
    """Rewrite the captured graph into operators that the table has rows for.

    Decompose a compound operator, turn a scalar into a tensor, put a fused operator in place of its
    written-out form. The graph is a private copy and may be changed in place; return it. Implementations
    are called one after the other, each with the result of the one before.
    """
    raise NotImplementedError


@hookspec
def quanthost_annotate(
    graph_module: GraphModule, request: Request, open_nodes: frozenset[str]
) -> list[Match | RowMiss]:
    """Find the places where a row of the backend holds for the recipe ``request.recipe``.

    Pure: the graph is not changed. Matches cover nodes of ``open_nodes`` only (an override or a backend of
    higher priority has closed the others), and no node twice. Each row whose pattern held but whose
    constraint refused it is returned as ``RowMiss``, so that the reason reaches the user.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def quanthost_choose_qspecs(match: Match, request: Request) -> QSpecChoice | Refusal:
    """Give each captured tensor of a match its qspec, or refuse the match with a reason.

    Captures that are absent from the choice stay float. Wrap this hook (``hookimpl(wrapper=True)``) to
    change the choice of another plugin: that is how overrides, accuracy guards and mixed precision work.
    """
    raise NotImplementedError


@hookspec
def quanthost_validate(
    graph_module: GraphModule, decisions: tuple[Decision, ...], request: Request
) -> list[Problem]:
    """Check the annotated graph against what the target can do; return what must not pass."""
    raise NotImplementedError


@hookspec
def quanthost_create_partitioners(request: Request) -> list[Partitioner]:
    """Make the ExecuTorch partitioners that hand the graph to the backend's delegate, in order.

    An empty list leaves everything to the runtime's portable and quantized kernels.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def quanthost_lowering_options(request: Request) -> LoweringOptions:
    """Say how the edge program is made: passes, configurations, what the program needs at run time."""
    raise NotImplementedError


@hookspec(firstresult=True)
def quanthost_create_runner(
    program: bytes, request: Request, pieces: tuple[PieceRecord, ...]
) -> Callable[[list[Any]], list[Any]]:
    """Return a callable that runs the ``.pte`` on a flat list of tensors, where ExecuTorch's runtime can't.

    ``pieces`` are the program's delegated calls, in order. Return ``None`` to have the ExecuTorch runtime of
    this machine execute it. Called when the program is made, and when one that was run so is loaded again.
    """
    raise NotImplementedError


# hooks, and arguments as "hook.argument", that still work; a plugin that has one is warned when it is loaded
DEPRECATED: dict[str, Deprecated] = {}

HOOKS = (
    quanthost_backend_info,
    quanthost_transform_for_annotation,
    quanthost_annotate,
    quanthost_choose_qspecs,
    quanthost_validate,
    quanthost_create_partitioners,
    quanthost_lowering_options,
    quanthost_create_runner,
)
