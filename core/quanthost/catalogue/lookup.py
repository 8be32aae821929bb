"""All operators of the catalogue, looked up by the names that patterns use."""

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
"""By the operator's name with overload."""

_PREFIX = "aten."


def entries_of(pattern: str) -> tuple[Entry, ...]:
    """The operators that a pattern's name means: it may leave out namespace and overload."""
    return tuple(entry for name, entry in CATALOGUE.items() if name_matches(pattern, f"{_PREFIX}{name}"))


def entry_of(operator: str) -> Entry | None:
    """What the catalogue has of a node's operator (``"aten.conv2d.default"``), ``None`` for others.

    Another overload of a listed operator counts as it: what is known of one holds for the other.
    """
    name = operator.removeprefix(_PREFIX)
    found = CATALOGUE.get(name)
    if found is not None:
        return found
    base = name.partition(".")[0]
    return next((entry for entry in CATALOGUE.values() if entry.base == base), None)
