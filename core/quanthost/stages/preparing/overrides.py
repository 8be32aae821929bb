"""Finds the override of each node: the first match wins, and an override without effect is an error."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from quanthost.errors import OverrideError
from quanthost.graph.operators import name_matches
from quanthost.graph.provenance import NodeInfo
from quanthost.hooks.manager import Plugins
from quanthost.values import (
    AnyQSpec,
    BackendInfo,
    FixedQSpec,
    Kernel,
    Override,
    QSpec,
    QSpecChoice,
    Request,
    Role,
    SharedQSpec,
)

__all__ = ["apply_qspecs", "in_module", "resolve_overrides"]


_READ: dict[str, tuple[str, Callable[[NodeInfo], str | None]]] = {
    "node": ("nodes", lambda node: node.name),
    "operator": ("operators", lambda node: node.operator),
    "module_name": ("modules", lambda node: node.module),
    "module_type": ("module types", lambda node: node.module_type),
}


def resolve_overrides(nodes: Iterable[NodeInfo], request: Request, plugins: Plugins) -> dict[str, Override]:
    """The rule of each node that has one, by node name.

    Raises:
        OverrideError: a rule matches no node, is hidden by earlier ones, or requests what the backend
            does not have.
    """
    listed = list(nodes)
    for override in request.overrides:
        _check_honoured(override, request, plugins)
    rules: dict[str, Override] = {}
    matched, decided = [0] * len(request.overrides), [0] * len(request.overrides)
    for node in listed:
        hits = [i for i, override in enumerate(request.overrides) if _selects(override, node)]
        for i in hits:
            matched[i] += 1
        if hits:
            decided[hits[0]] += 1
            rules[node.name] = request.overrides[hits[0]]
    for i, override in enumerate(request.overrides):
        if not matched[i]:
            raise _unused(override, listed)
        if not decided[i]:
            raise OverrideError(
                f"{override} has no effect: earlier overrides match all its {matched[i]} nodes",
                needed="an override that decides at least one node", stage="prepare", value=override,
                remedy="move it before the overrides that hide it, or remove it",
            )  # fmt: skip
    return rules


def _selects(override: Override, node: NodeInfo) -> bool:
    return (
        (override.node is None or override.node == node.name)
        and (override.operator is None or name_matches(override.operator, node.operator))
        and (override.module_name is None or in_module(override.module_name, node.module))
        and (override.module_type is None or _of_type(override.module_type, node.module_type))
    )


def in_module(pattern: str, module: str | None) -> bool:
    """Whether a module's path, or that of a module around it, matches the pattern."""
    if module is None:
        return False
    parts = module.split(".")
    paths = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return any(fnmatch.fnmatchcase(path, pattern) for path in paths)


def _of_type(wanted: str, module_type: str | None) -> bool:
    return module_type is not None and wanted in (module_type, module_type.rsplit(".", 1)[-1])


def _unused(override: Override, nodes: list[NodeInfo]) -> OverrideError:
    """The error for an override that matches nothing; names the selector that matches nothing by itself."""
    selectors = [name for name in _READ if getattr(override, name) is not None]
    for name in selectors:
        others: dict[str, Any] = dict.fromkeys(set(selectors) - {name})
        alone = attrs.evolve(override, **others)
        if not any(_selects(alone, node) for node in nodes):
            label, read = _READ[name]
            there = sorted({value for node in nodes if (value := read(node))})
            shown = ", ".join(there[:12]) + (f" and {len(there) - 12} more" if len(there) > 12 else "")
            needed, remedy = f"a selector that matches; {label} of this model: {shown}", f"correct {name}"
            break
    else:
        needed = f"one node that {' and '.join(selectors)} all match; each matches others"
        remedy = "leave one of them out"
    return OverrideError(
        f"{override} matches no node", needed=needed, stage="prepare", value=override,
        remedy=f"{remedy}, or remove the override",
    )  # fmt: skip


def _check_honoured(override: Override, request: Request, plugins: Plugins) -> None:
    for backend in request.backends:
        info = plugins.info(backend)
        if override.recipe is not None and info.recipe(override.recipe) is None:
            raise OverrideError(
                f"{override} asks for the recipe {override.recipe!r}", plugin=backend, stage="prepare",
                needed="one of " + ", ".join(recipe.name for recipe in info.recipes), value=override,
                remedy="choose one of these recipes",
            )  # fmt: skip
        for role, spec in override.qspecs.items():
            _check_spec(override, role, spec, info, request)


def _check_spec(override: Override, role: Role, spec: AnyQSpec, info: BackendInfo, request: Request) -> None:
    """Refuse a storage format that no recipe of the backend has for the role and kernel."""
    base = info.recipe(request.recipe)
    kernel = base.kernel if base is not None else Kernel.FLOAT
    offered = [recipe.for_role(role) for recipe in info.recipes if recipe.kernel is kernel]
    formats = {_format(each) for each in offered if each is not None}
    if _format(spec) in formats:
        return
    has = ", ".join(sorted(formats)) or "none: it stays float"
    raise OverrideError(
        f"{override} asks for {_format(spec)} as {role.value}", plugin=info.name, stage="prepare",
        needed=f"a format that the backend's {kernel.value} kernels have: {has}", value=spec,
        remedy="choose one of these formats, or keep_float=True",
    )  # fmt: skip


def _format(spec: AnyQSpec) -> str:
    dtype = getattr(spec, "dtype", None)
    if isinstance(spec, QSpec):
        return f"{spec.dtype.value} {spec.granularity.value} {spec.symmetry.value} {spec.timing.value}"
    return f"{type(spec).__name__} {dtype.value if dtype is not None else ''}".strip()


def apply_qspecs(choice: QSpecChoice, override: Override, roles: dict[str, Role]) -> QSpecChoice:
    """The choice with the override's qspecs in place of the recipe's; ``roles`` by capture name.

    A fixed or shared range comes from the kernel, not from the recipe, and stays. The axis of a weight's
    channels comes from the row, and stays as well.
    """
    return QSpecChoice(
        qspecs={
            name: _apply_to(spec, override, roles.get(name.split(".")[0], Role.ACTIVATION))
            for name, spec in choice.qspecs
        }
    )


def _apply_to(spec: AnyQSpec, override: Override, role: Role) -> AnyQSpec:
    new = override.qspecs.get(role)
    if new is None or isinstance(spec, (FixedQSpec, SharedQSpec)):
        return spec
    if isinstance(new, QSpec) and isinstance(spec, QSpec) and None not in (new.axis, spec.axis):
        return attrs.evolve(new, axis=spec.axis)
    return new
