"""``why`` and ``trace`` as app developers and backend authors call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from quanthost.debugging.trace import trace as trace_stages
from quanthost.debugging.why import explain
from quanthost.host.requests import resolve
from quanthost.host.target import Backend, Target, TargetSettings, as_target
from quanthost.stages.capturing.capture import CapturedModel, capture
from quanthost.values import Override

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from quanthost.values.explanation import Explanation
    from quanthost.values.traced_graph import Trace

__all__ = ["trace", "why"]


def why(
    model: CapturedModel | ExportedProgram | nn.Module,
    node: str,
    backend: Backend | Target,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    *,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    lowered: bool = True,
    **settings: Unpack[TargetSettings],
) -> Explanation:
    """Explain what became of an operator: each row that was tried, and where it stopped.

    Args:
        model: What ``capture`` returned; or a model, which is captured with ``inputs`` and ``kwargs``.
        node: A node of the captured graph; or an operator (``"conv2d"``) or a module's dotted path, as a
            glob, for each node of it.
        backend: A ``Target``, or its backend, with the other fields as ``recipe``, ``overrides`` and
            ``settings``. Give those of the run that you want explained.
        lowered: Also convert and lower, with ranges of the example inputs, to see what the partitioners
            make of it. ``False`` answers sooner, for the captured graph alone.

    Raises:
        RequestError: no node, operator or module is named so; recipe or option does not exist.
        QuanthostError: the model cannot be captured or prepared. Where it cannot be lowered, the answer
            says why.
    """
    plugins, request = resolve(as_target(why, backend, recipe, overrides, settings))
    captured = model if isinstance(model, CapturedModel) else capture(model, inputs, kwargs)
    return explain(captured, plugins, request, node, lowered=lowered)


def trace(
    model: CapturedModel | ExportedProgram | nn.Module,
    backend: Backend | Target,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    *,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    **settings: Unpack[TargetSettings],
) -> Trace:
    """Record the graph after each stage, each node with the decision on it.

    Ranges are those of the example inputs. The arguments are those of ``why``;
    ``quanthost.report.trace_text.save_trace`` writes the graphs as text and as pictures.

    Raises:
        QuanthostError: the model cannot be captured or prepared. Where a later stage refuses, the
            trace ends there and says why.
    """
    plugins, request = resolve(as_target(trace, backend, recipe, overrides, settings))
    captured = model if isinstance(model, CapturedModel) else capture(model, inputs, kwargs)
    return trace_stages(captured, plugins, request)
