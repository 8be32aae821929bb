"""Which rule an app developer gave for which node: first match wins, one without effect is an error."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from quanthost.errors import OverrideError
from quanthost.graph.operators import name_matches
from quanthost.graph.provenance import NodeInfo
from quanthost.hooks.manager import Plugins
from quanthost.values import AnyQSpec, BackendInfo, Kernel, Override, QSpec, QSpecChoice, Request, Role

__all__ = ["apply_qspecs", "resolve_overrides"]


def resolve_overrides(nodes: Iterable[NodeInfo], request: Request, plugins: Plugins) -> dict[str, Override]:
    """The rule of each node that has one, by node name.

    Raises:
        OverrideError: a rule matches no node, is hidden by earlier ones, or asks for what the backend
            does not have.
    """
    listed = list(nodes)
    for override in request.overrides:
        _check_honoured(override, request, plugins)
    rules: dict[str, Override] = {}
    matched: dict[Override, int] = dict.fromkeys(request.overrides, 0)
    for node in listed:
        hits = [override for override in request.overrides if _selects(override, node)]
        for override in hits:
            matched[override] += 1
        if hits:
            rules[node.name] = hits[0]
    effective = set(rules.values())
    for override in request.overrides:
        if not matched[override]:
            raise _unused(override, listed)
        if override not in effective:
            raise OverrideError(
                f"{override} has no effect: earlier overrides match all its {matched[override]} nodes",
                needed="an override that decides at least one node", stage="prepare", value=override,
                remedy="move it before the overrides that hide it, or remove it",
            )  # fmt: skip
    return rules


def _selects(override: Override, node: NodeInfo) -> bool:
    return (
        (override.node is None or override.node == node.name)
        and (override.operator is None or name_matches(override.operator, node.operator))
        and (override.module_name is None or _in_module(override.module_name, node.module))
        and (override.module_type is None or _of_type(override.module_type, node.module_type))
    )


def _in_module(pattern: str, module: str | None) -> bool:
    """The module itself, or one that lies inside it."""
    if module is None:
        return False
    parts = module.split(".")
    paths = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return any(fnmatch.fnmatchcase(path, pattern) for path in paths)


def _of_type(wanted: str, module_type: str | None) -> bool:
    return module_type is not None and wanted in (module_type, module_type.rsplit(".", 1)[-1])


def _unused(override: Override, nodes: list[NodeInfo]) -> OverrideError:
    fields = (
        ("node", "nodes", lambda n: n.name),
        ("operator", "operators", lambda n: n.operator),
        ("module_name", "modules", lambda n: n.module),
        ("module_type", "module types", lambda n: n.module_type),
    )
    field, label, read = next(f for f in fields if getattr(override, f[0]) is not None)
    there = sorted({str(read(node)) for node in nodes if read(node)})
    shown = ", ".join(there[:12]) + (f" and {len(there) - 12} more" if len(there) > 12 else "")
    return OverrideError(
        f"{override} matches no node", needed=f"a selector that matches; {label} of this model: {shown}",
        stage="prepare", value=override, remedy=f"correct {field}, or remove the override",
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
    """A backend honours the storage formats that its own recipes of that kernel have for the role."""
    base = info.recipe(request.recipe)
    kernel = base.kernel if base is not None else Kernel.FLOAT
    offered = [recipe.for_role(role) for recipe in info.recipes if recipe.kernel is kernel]
    formats = {_format(known) for known in offered if known is not None}
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
    """The choice with the override's qspecs in place of the recipe's; ``roles`` by capture name."""
    replaced = {
        name: override.qspecs.get(roles.get(name.split(".")[0], Role.ACTIVATION), spec)
        for name, spec in choice.qspecs
    }
    return QSpecChoice(qspecs=replaced)
