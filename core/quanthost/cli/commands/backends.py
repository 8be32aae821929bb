"""``quanthost backends``: the installed backends, read from their manifests alone."""

from __future__ import annotations

import typer

from quanthost.cli.options import Help, Json, policy_of

__all__ = ["backends"]


def backends(context: typer.Context, json: Json = False, help: Help = False) -> None:
    """List the installed backends and their recipes; imports none of them."""
    from quanthost.cli.backend_list import show_backends

    show_backends(policy_of(context), as_json=json)
