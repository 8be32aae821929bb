"""Matches ids of cases, kinds of cases and names of rows with the patterns that select cases."""

from __future__ import annotations

import fnmatch
import re

import attrs

from quanthost.testing.results import Area

__all__ = ["Patterns"]


@attrs.frozen
class Patterns:
    """Ids of cases, or globs over them; all cases if there are none."""

    patterns: tuple[str, ...]

    def selects(self, case: str) -> bool:
        """Whether the id of a case is selected."""
        return not self.patterns or any(case == p or fnmatch.fnmatchcase(case, p) for p in self.patterns)

    def may_select_kind(self, kind: str) -> bool:
        """Whether a case of an area, or of a kind in it as ``"table/pair"``, may be selected.

        The first parts of a pattern decide, up to a star, which may reach beyond its part.
        """
        count = len(kind.split("/"))
        heads = ["/".join(pattern.split("/")[:count]) for pattern in self.patterns]
        return not heads or any(fnmatch.fnmatchcase(kind, _cut_at_star(head)) for head in heads)

    def may_select_name(self, name: str) -> bool:
        """Whether a case of a row, operator or network may be selected.

        The name is the third part of an id, where names are joined by ``+``; that of a network is the second.
        """
        split = [pattern.split("/") for pattern in self.patterns]
        places = [1 if parts[0] == Area.NETWORKS.value else 2 for parts in split]
        parts = [parts[place] if len(parts) > place else "*" for parts, place in zip(split, places)]
        names = [_cut_at_star(each) for part in parts for each in part.split("+")]
        return not names or any(fnmatch.fnmatchcase(name, each) for each in names)


def _cut_at_star(pattern: str) -> str:
    return re.sub(r"\*.*", "*", pattern)
