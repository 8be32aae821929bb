"""Parts for scripts that exist already: a backend as torchao quantizer, partitioners, or export recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quanthost.hooks.manager import Plugins
from quanthost.host.discovery import Policy
from quanthost.host.measured_costs import Costs
from quanthost.host.requests import Backend, Options, gather, make_request
from quanthost.stages.preparing.prepare import HostQuantizer, recipe_of
from quanthost.toolchain.partition import Partitioner
from quanthost.toolchain.runtime import register_kernels
from quanthost.values import Kernel, Override, Placement, Request

if TYPE_CHECKING:
    from executorch.export import ExportRecipe

__all__ = ["as_export_recipe", "as_partitioners", "as_quantizer"]


def as_quantizer(
    backend: Backend,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    *,
    qat: bool = False,
    placement: Placement | str = Placement.COST,
    optimize_for: str = "accuracy",
    costs: Costs | None = None,
    options: Options | None = None,
    policy: Policy | None = None,
) -> HostQuantizer:
    """A torchao ``Quantizer`` for ``prepare_pt2e`` (``prepare_qat_pt2e`` where ``qat``).

    One quantizer serves one graph; afterwards its ``decisions`` say what became of each node, and its
    ``latency`` what a placement for latency expects. ``optimize_for`` and ``costs`` are those of ``prepare``.
    """
    plugins = gather(backend, policy)
    request = make_request(
        plugins, recipe=recipe, overrides=overrides, qat=qat, placement=placement, options=options,
        optimize_for=optimize_for, costs=costs,
    )  # fmt: skip
    return HostQuantizer(plugins, request)


def as_partitioners(
    backend: Backend,
    recipe: str | None = None,
    *,
    options: Options | None = None,
    policy: Policy | None = None,
) -> list[Partitioner]:
    """The ExecuTorch partitioners for ``to_edge_transform_and_lower``, in order of priority.

    They delegate whatever the backend runs, integers and float alike: a placement for latency is the
    quantizer's. The kernels that the backend leaves operators to are registered, so that ``to_executorch``
    finds them.
    """
    plugins = gather(backend, policy)
    request = make_request(plugins, recipe=recipe, options=options)
    recipe_of(plugins, request)
    _register_kernels(plugins, request)
    return plugins.partitioners(request, Partitioner)


def as_export_recipe(
    backend: Backend,
    recipe: str | None = None,
    overrides: Sequence[Override] = (),
    *,
    optimize_for: str = "accuracy",
    costs: Costs | None = None,
    options: Options | None = None,
    policy: Policy | None = None,
) -> ExportRecipe:
    """An ``ExportRecipe`` for ``executorch.export.export``: quantizer, partitioners and configurations.

    ``optimize_for`` and ``costs`` are those of ``prepare``.
    """
    from executorch.export import ExportRecipe, LoweringRecipe, QuantizationRecipe

    plugins = gather(backend, policy)
    request = make_request(
        plugins, recipe=recipe, overrides=overrides, options=options, optimize_for=optimize_for, costs=costs
    )
    quantizer = HostQuantizer(plugins, request)
    given = plugins.lowering_options(request)
    _register_kernels(plugins, request)

    def first(name: str) -> Any:
        return next((getattr(o, name) for o in given if getattr(o, name) is not None), None)

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


def _register_kernels(plugins: Plugins, request: Request) -> None:
    for options in plugins.lowering_options(request):
        register_kernels(options.runtime_modules)
