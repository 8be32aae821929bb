"""``quanthost describe``: recipes, options and support table of one backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quanthost.cli.output import chatter_on_stderr, write, write_json
from quanthost.host.discovery import Policy, installed
from quanthost.toolchain.quiet import quiet_imports
from quanthost.values import AnyQSpec, BackendInfo, Manifest, Recipe, Role, to_data

if TYPE_CHECKING:
    from rich.console import RenderableType

    from quanthost.graph.table import Row

__all__ = ["describe"]


def describe(name: str, policy: Policy, *, as_json: bool) -> None:
    """Load one backend and show what it supports.

    Raises:
        DiscoveryError: the backend is unknown, blocked or broken.
    """
    with chatter_on_stderr(), quiet_imports():
        # late: most plugins load torch
        from quanthost.hooks.backend import TableBackend
        from quanthost.host.gathering import gather

        plugins = gather(name, policy)
        info, plugin = plugins.info(name), plugins.plugin(name)
    manifest = next(found.manifest for found in installed(policy) if found.name == name)
    rows = tuple(plugin.table) if isinstance(plugin, TableBackend) else None
    assert manifest is not None
    if as_json:
        write_json(_document(info, manifest, rows))
    else:
        write(*_screen(info, manifest, rows))


def _document(info: BackendInfo, manifest: Manifest, rows: tuple[Row, ...] | None) -> dict[str, Any]:
    return {
        "name": info.name,
        "summary": manifest.summary,
        "requires": list(manifest.requires),
        "runtime": info.runtime or None,
        "options": list(info.options),
        "qat": info.qat,
        "default_recipe": info.recipes[0].name,
        "recipes": to_data(info.recipes),
        "rows": None if rows is None else [_row_document(row) for row in rows],
    }


def _row_document(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "pattern": str(row.pattern),
        "kernels": _kernels(row),
        "constraints": [
            {"text": rule.text, "kernels": sorted(k.value for k in rule.kernels or row.kernels)}
            for rule in row.constraints
        ],
        "delegated": row.delegated,
        "lowers_to": row.lowers_to or None,
    }


def _screen(info: BackendInfo, manifest: Manifest, rows: tuple[Row, ...] | None) -> list[RenderableType]:
    from rich.text import Text

    from quanthost.report.layout import facts

    default, *others = info.recipes
    parts: list[RenderableType] = [
        facts(
            [
                (info.name, manifest.summary),
                ("requires", ", ".join(manifest.requires) or "nothing"),
                ("runtime", info.runtime or "portable kernels"),
                ("options", ", ".join(info.options) or "none"),
                ("training", "quantization-aware training" if info.qat else "no"),
            ]
        ),
        Text("\nrecipes", style="bold"),
        facts([(f"{default.name} (default)", _recipe(default)), *((r.name, _recipe(r)) for r in others)]),
        Text("\nsupport table" if rows is not None else "\nno support table: its hooks decide", style="bold"),
    ]
    return [*parts, *(part for row in rows or () for part in _row(row))]


def _row(row: Row) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    from quanthost.report.layout import facts

    pairs = [("pattern", str(row.pattern))]
    for number, rule in enumerate(row.constraints):
        only = (
            f" ({', '.join(sorted(k.value for k in rule.kernels))} only)" if rule.kernels is not None else ""
        )
        pairs.append(("" if number else "must hold", rule.text + only))
    if row.lowers_to:
        pairs.append(("runs as", row.lowers_to))
    head = Text.assemble((row.name, "bold"), f"  {', '.join(_kernels(row))}")
    return [head, Padding(facts(pairs), (0, 0, 0, 2))]


def _kernels(row: Row) -> list[str]:
    return sorted(kernel.value for kernel in row.kernels)


def _recipe(recipe: Recipe) -> str:
    roles = ((role, recipe.for_role(role)) for role in Role)
    specs = "; ".join(f"{role.value} {_qspec(spec)}" for role, spec in roles if spec is not None)
    return "\n".join(part for part in (recipe.summary, specs) if part)


def _qspec(spec: AnyQSpec) -> str:
    """The parts that are set: ``"int8 per_channel symmetric"``."""
    parts = to_data(spec)
    words = [parts.get(key) for key in ("dtype", "granularity", "symmetry", "timing")]
    return " ".join(str(word) for word in words if word is not None)
