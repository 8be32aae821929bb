"""Looks up catalogue entries by the operator names that patterns and nodes use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quanthost.catalogue import layers, movers, pointwise
from quanthost.catalogue.entries import Entry
from quanthost.graph.operators import name_matches

__all__ = ["CATALOGUE", "entries_of", "entry_of"]

CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {entry.name: entry for entry in (*layers.ENTRIES, *pointwise.ENTRIES, *movers.ENTRIES)}
)
"""All entries by operator name with overload."""

_PREFIX = "aten."


def entries_of(pattern: str) -> tuple[Entry, ...]:
    """The entries that a pattern's name matches; it may omit namespace and overload."""
    return tuple(entry for name, entry in CATALOGUE.items() if name_matches(pattern, f"{_PREFIX}{name}"))


def entry_of(operator: str) -> Entry | None:
    """The entry of a node's operator (``"aten.conv2d.default"``), or ``None``.

    An overload without an entry has the entry of another overload, since the facts hold for all of them.
    """
    name = operator.removeprefix(_PREFIX)
    if name in CATALOGUE:
        return CATALOGUE[name]
    base = name.partition(".")[0]
    return next((entry for entry in CATALOGUE.values() if entry.base == base), None)
