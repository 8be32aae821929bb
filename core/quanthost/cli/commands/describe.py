"""``quanthost describe``: recipes, options and support table of one backend."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from quanthost.cli.options import BackendName, Json, policy_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from quanthost.graph.table import Row
    from quanthost.host.discovery import Installed
    from quanthost.host.policy import Policy
    from quanthost.values import BackendInfo, Manifest

__all__ = ["describe"]

_Data = dict[str, Any]


def describe(context: typer.Context, backend: BackendName, json: Json = False) -> None:
    """Show a backend's recipes, options and support table."""
    from quanthost.cli.output import write, write_json
    from quanthost.host.described_backends import description
    from quanthost.host.discovery import installed

    policy = policy_of(context)
    plugin = next((plugin for plugin in installed(policy) if plugin.name == backend), None)
    make = partial(_load, backend, policy, plugin)
    # loading refuses a backend that is not installed or may not be used
    document = make() if plugin is None else description(plugin, make)
    if json:
        write_json(document)
    else:
        write(*_screen(document))


def _load(name: str, policy: Policy, installed: Installed | None) -> _Data:
    from quanthost.cli.output import chatter_on_stderr
    from quanthost.toolchain.quiet import quiet_imports

    with chatter_on_stderr(), quiet_imports():
        # late: most plugins load torch
        from quanthost.hooks.backend import TableBackend
        from quanthost.host.requests import resolve
        from quanthost.host.target import Target

        plugins, _ = resolve(Target(backend=name, policy=policy))
        info, plugin = plugins.info(name), plugins.plugin(name)
    assert installed is not None
    assert installed.manifest is not None
    rows = tuple(plugin.table) if isinstance(plugin, TableBackend) else None
    return _document(info, installed.manifest, rows)


def _document(info: BackendInfo, manifest: Manifest, rows: tuple[Row, ...] | None) -> _Data:
    from quanthost.values import to_data

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


def _row_document(row: Row) -> _Data:
    return {
        "name": row.name,
        "pattern": str(row.pattern),
        "kernels": sorted(kernel.value for kernel in row.kernels),
        "constraints": [
            {"text": rule.text, "kernels": sorted(k.value for k in rule.kernels or row.kernels)}
            for rule in row.constraints
        ],
        "delegated": row.delegated,
        "lowers_to": row.lowers_to or None,
    }


def _screen(document: _Data) -> list[RenderableType]:
    from rich.text import Text

    from quanthost.report.columns import facts

    default, *others = document["recipes"]
    rows = document["rows"]
    parts: list[RenderableType] = [
        facts(
            [
                (document["name"], document["summary"]),
                ("requires", ", ".join(document["requires"]) or "nothing"),
                ("runtime", document["runtime"] or "portable kernels"),
                ("options", ", ".join(document["options"]) or "none"),
                ("training", "quantization-aware training" if document["qat"] else "no"),
            ]
        ),
        Text("\nrecipes", style="bold"),
        facts(
            [(f"{default['name']} (default)", _recipe(default)), *((r["name"], _recipe(r)) for r in others)]
        ),
        Text("\nsupport table" if rows is not None else "\nno support table: its hooks decide", style="bold"),
    ]
    return [*parts, *(part for row in rows or () for part in _row(row))]


def _row(row: _Data) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    from quanthost.report.columns import facts

    pairs = [("pattern", row["pattern"])]
    for number, rule in enumerate(row["constraints"]):
        only = f" ({', '.join(rule['kernels'])} only)" if rule["kernels"] != row["kernels"] else ""
        pairs.append(("" if number else "must hold", rule["text"] + only))
    if row["lowers_to"]:
        pairs.append(("runs as", row["lowers_to"]))
    head = Text.assemble((row["name"], "bold"), f"  {', '.join(row['kernels'])}")
    return [head, Padding(facts(pairs), (0, 0, 0, 2))]


def _recipe(recipe: _Data) -> str:
    from quanthost.values import Role

    specs = [(role.value, recipe.get(role.value)) for role in Role]
    roles = "; ".join(f"{role} {_qspec(spec)}" for role, spec in specs if spec is not None)
    return "\n".join(part for part in (recipe["summary"], roles) if part)


def _qspec(spec: _Data) -> str:
    """The parts that are set: ``"int8 per_channel symmetric"``."""
    words = [spec.get(key) for key in ("dtype", "granularity", "symmetry", "timing")]
    return " ".join(str(word) for word in words if word is not None)
