"""Parts for scripts that exist already: a backend as torchao quantizer, partitioners, or export recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from quanthost.hooks.manager import Plugins
from quanthost.hooks.specs import LoweringOptions
from quanthost.host.requests import resolve
from quanthost.host.target import Backend, Target, TargetSettings, as_target
from quanthost.stages.preparing.prepare import HostQuantizer, recipe_of
from quanthost.toolchain.partition import Partitioner
from quanthost.toolchain.runtime import register_kernels
from quanthost.values import Kernel, Override, Request

if TYPE_CHECKING:
    from executorch.export import ExportRecipe

__all__ = ["as_export_recipe", "as_partitioners", "as_quantizer"]


def as_quantizer(
    backend: Backend | Target,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    **settings: Unpack[TargetSettings],
) -> HostQuantizer:
    """A torchao ``Quantizer`` for ``prepare_pt2e`` (``prepare_qat_pt2e`` where ``qat``).

    The arguments are a ``Target``, or its fields. One quantizer serves one graph; afterwards its
    ``decisions`` say what became of each node, and its ``latency`` what a placement for latency expects.
    """
    plugins, request = resolve(as_target(as_quantizer, backend, recipe, overrides, settings))
    return HostQuantizer(plugins, request)


def as_partitioners(
    backend: Backend | Target,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    **settings: Unpack[TargetSettings],
) -> list[Partitioner]:
    """The ExecuTorch partitioners for ``to_edge_transform_and_lower``, in order of priority.

    The arguments are a ``Target``, or its fields. Partitioners delegate whatever the backend runs, in
    integers or float: overrides and placement act in the quantizer. The kernels that the backend leaves
    operators to are registered, so that ``to_executorch`` finds them.
    """
    plugins, request = resolve(as_target(as_partitioners, backend, recipe, overrides, settings))
    recipe_of(plugins, request)
    _lowering_options(plugins, request)
    return plugins.partitioners(request, Partitioner)


def as_export_recipe(
    backend: Backend | Target,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    **settings: Unpack[TargetSettings],
) -> ExportRecipe:
    """An ``ExportRecipe`` for ``executorch.export.export``: quantizer, partitioners and configurations.

    The arguments are a ``Target``, or its fields.
    """
    from executorch.export import ExportRecipe, LoweringRecipe, QuantizationRecipe

    plugins, request = resolve(as_target(as_export_recipe, backend, recipe, overrides, settings))
    quantizer = HostQuantizer(plugins, request)
    options = _lowering_options(plugins, request)

    def first(name: str) -> Any:
        return next((getattr(o, name) for o in options if getattr(o, name) is not None), None)

    quantizes = recipe_of(plugins, request).kernel is not Kernel.FLOAT
    lowering = LoweringRecipe(
        partitioners=plugins.partitioners(request, Partitioner),
        edge_compile_config=first("edge_compile_config"),
    )
    return ExportRecipe(
        name=f"quanthost_{'_'.join(plugins.backends)}_{request.recipe}",
        quantization_recipe=QuantizationRecipe(quantizers=[quantizer]) if quantizes else None,
        lowering_recipe=lowering,
        executorch_backend_config=first("backend_config"),
    )


def _lowering_options(plugins: Plugins, request: Request) -> list[LoweringOptions]:
    """The options of each backend, whose kernels are registered."""
    options = plugins.lowering_options(request)
    for each in options:
        register_kernels(each.runtime_modules)
    return list(options)
