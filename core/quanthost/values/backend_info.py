"""``BackendInfo``: the recipes, options and arithmetic of a backend, as its plugin declares them."""

from __future__ import annotations

import attrs

from quanthost.values import checks
from quanthost.values.profile import ArithmeticProfile
from quanthost.values.recipe import Recipe

__all__ = ["BackendInfo"]


@attrs.frozen(kw_only=True)
class BackendInfo:
    """The result of ``quanthost_backend_info``: the complete recipes, the default first, and capabilities.

    ``arithmetic`` is how the target rescales, so that the integer representation has the target's bits.
    """

    name: str = attrs.field(validator=checks.identifier())
    recipes: tuple[Recipe, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.kind(Recipe))
    )
    qat: bool = attrs.field(default=False, validator=checks.kind(bool))
    runtime: str = attrs.field(default="", validator=checks.kind(str))
    options: tuple[str, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.identifier())
    )
    arithmetic: ArithmeticProfile | None = attrs.field(
        default=None, validator=checks.kind(ArithmeticProfile, optional=True)
    )

    def __attrs_post_init__(self) -> None:
        names = [recipe.name for recipe in self.recipes]
        if not names or len(set(names)) != len(names):
            checks.refuse(
                self, "recipes", f"the recipes {names!r}", needed="at least one, each name once",
                remedy="rename or remove the duplicate recipe", value=names,
            )  # fmt: skip

    def recipe(self, name: str) -> Recipe | None:
        """The recipe of that name, or ``None``."""
        return next((recipe for recipe in self.recipes if recipe.name == name), None)
