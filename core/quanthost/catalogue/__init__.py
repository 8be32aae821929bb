"""The catalogue of aten operators: example arguments and facts of each, independent of any support table."""

from __future__ import annotations

from quanthost.catalogue.entries import Entry, Variation
from quanthost.catalogue.lookup import CATALOGUE, entries_of, entry_of
from quanthost.catalogue.operands import Operand
from quanthost.catalogue.pattern_modules import PatternModule, fits, innermost, module_of
from quanthost.catalogue.timed_sizes import Example, examples_of

__all__ = [
    "CATALOGUE",
    "Entry",
    "Example",
    "Operand",
    "PatternModule",
    "Variation",
    "entries_of",
    "entry_of",
    "examples_of",
    "fits",
    "innermost",
    "module_of",
]
