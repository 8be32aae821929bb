"""What a plugin's code says of its backend."""

from __future__ import annotations

import attrs

from quanthost.values import checks
from quanthost.values.profile import ArithmeticProfile
from quanthost.values.recipe import Recipe

__all__ = ["BackendInfo"]


@attrs.frozen(kw_only=True)
class BackendInfo:
    """What ``quanthost_backend_info`` returns: the recipes in full, the default first.

    ``arithmetic`` is how the target rescales, so that the integer representation has its bits.
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
                remedy="rename or remove the doubled recipe", value=names,
            )  # fmt: skip

    def recipe(self, name: str) -> Recipe | None:
        """The recipe of that name, ``None`` where the backend has none."""
        return next((recipe for recipe in self.recipes if recipe.name == name), None)
