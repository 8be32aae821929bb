"""``quanthost backends``: what is installed, read off the manifests alone."""

from __future__ import annotations

from typing import Any

from quanthost.cli.output import write, write_json
from quanthost.host.discovery import Installed, Policy, installed

__all__ = ["backends"]


def backends(policy: Policy, *, as_json: bool) -> None:
    """List the installed backends, the unusable ones with the reason."""
    found = installed(policy)
    if as_json:
        write_json([_document(backend) for backend in found])
    elif not found:
        write("no backend is installed; a plugin is a distribution: pip install quanthost-xnnpack-like")
    else:
        _show(found)


def _show(found: tuple[Installed, ...]) -> None:
    # a table takes longer to import than all the rest of this command
    from quanthost.report.layout import columns

    write(columns(["backend", "recipes", "about"], map(_row, found), whole=["backend", "recipes"]))


def _row(backend: Installed) -> list[str]:
    recipes = () if backend.manifest is None else backend.manifest.recipes
    return [backend.name, "\n".join(recipes), _about(backend)]


def _about(backend: Installed) -> str:
    summary = backend.manifest.summary if backend.manifest is not None else ""
    lines = [summary, f"{backend.distribution} {backend.version}"]
    if backend.problem is not None:
        lines.append(f"cannot be used: {backend.problem.seen}; to do: {backend.problem.remedy}")
    return "\n".join(line for line in lines if line)


def _document(backend: Installed) -> dict[str, Any]:
    manifest, problem = backend.manifest, backend.problem
    return {
        "name": backend.name,
        "distribution": backend.distribution,
        "version": backend.version,
        "entry_point": backend.entry_point,
        "summary": None if manifest is None else manifest.summary,
        "api": None if manifest is None else manifest.api,
        "recipes": None if manifest is None else list(manifest.recipes),
        "requires": None if manifest is None else list(manifest.requires),
        "runtime": None if manifest is None else manifest.runtime or None,
        "problem": None if problem is None else {"seen": problem.seen, "to_do": problem.remedy},
    }
