"""The catalogue of aten operators: example arguments and facts of each, independent of any support table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quanthost.exports import lazy_exports

if TYPE_CHECKING:
    from quanthost.catalogue.entries import Entry as Entry
    from quanthost.catalogue.entries import Variation as Variation
    from quanthost.catalogue.lookup import CATALOGUE as CATALOGUE
    from quanthost.catalogue.lookup import entries_of as entries_of
    from quanthost.catalogue.lookup import entry_of as entry_of
    from quanthost.catalogue.operands import Operand as Operand
    from quanthost.catalogue.pattern_modules import PatternModule as PatternModule
    from quanthost.catalogue.pattern_modules import fits as fits
    from quanthost.catalogue.pattern_modules import innermost as innermost
    from quanthost.catalogue.pattern_modules import module_of as module_of
    from quanthost.catalogue.timed_sizes import Example as Example
    from quanthost.catalogue.timed_sizes import examples_of as examples_of
else:
    __getattr__, __dir__ = lazy_exports(__name__)
