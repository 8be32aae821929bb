"""Constraints that the support tables of several backends share."""

from __future__ import annotations

from quanthost.graph.table import Site, constraint

__all__ = ["alpha_is_one", "grouped", "not_grouped"]


@constraint("alpha is 1")
def alpha_is_one(site: Site) -> str | None:
    alpha = site.argument("alpha", 1)
    return None if alpha == 1 else f"alpha is {alpha}"


@constraint("groups > 1")
def grouped(site: Site) -> str | None:
    return None if site.argument("groups", 1) > 1 else "groups is 1"


@constraint("groups == 1")
def not_grouped(site: Site) -> str | None:
    groups = site.argument("groups", 1)
    return None if groups == 1 else f"groups is {groups}"
