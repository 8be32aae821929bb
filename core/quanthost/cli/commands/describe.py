"""``quanthost describe``: recipes, options and support table of one backend."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from quanthost.cli.output import chatter_on_stderr, write, write_json
from quanthost.host.described_backends import described
from quanthost.host.discovery import Installed, Policy, installed
from quanthost.toolchain.quiet import quiet_imports
from quanthost.values import BackendInfo, Manifest, Role, to_data

if TYPE_CHECKING:
    from rich.console import RenderableType

    from quanthost.graph.table import Row

__all__ = ["describe"]

_Data = dict[str, Any]


def describe(name: str, policy: Policy, *, as_json: bool) -> None:
    """Show what one backend supports, which loads it unless it was shown before.

    Raises:
        DiscoveryError: the backend is unknown, blocked or broken.
    """
    found = next((found for found in installed(policy) if found.name == name), None)
    make = partial(_loaded, name, policy, found)
    # what is not installed, or not to be used, is refused by loading it
    document = make() if found is None else described(found, make)
    if as_json:
        write_json(document)
    else:
        write(*_screen(document))


def _loaded(name: str, policy: Policy, found: Installed | None) -> _Data:
    with chatter_on_stderr(), quiet_imports():
        # late: most plugins load torch
        from quanthost.hooks.backend import TableBackend
        from quanthost.host.requests import gather

        plugins = gather(name, policy)
        info, plugin = plugins.info(name), plugins.plugin(name)
    assert found is not None
    assert found.manifest is not None
    return _document(info, found.manifest, tuple(plugin.table) if isinstance(plugin, TableBackend) else None)


def _document(info: BackendInfo, manifest: Manifest, rows: tuple[Row, ...] | None) -> _Data:
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
    specs = [(role.value, recipe.get(role.value)) for role in Role]
    told = "; ".join(f"{role} {_qspec(spec)}" for role, spec in specs if spec is not None)
    return "\n".join(part for part in (recipe["summary"], told) if part)


def _qspec(spec: _Data) -> str:
    """The parts that are set: ``"int8 per_channel symmetric"``."""
    words = [spec.get(key) for key in ("dtype", "granularity", "symmetry", "timing")]
    return " ".join(str(word) for word in words if word is not None)
