"""What a plugin says of itself without being imported, and what its code says once it is."""

from __future__ import annotations

import attrs

from quanthost.values import checks
from quanthost.values.profile import ArithmeticProfile
from quanthost.values.recipe import Recipe

__all__ = ["BackendInfo", "Manifest"]

_TEXT = checks.kind(str)


@attrs.frozen(kw_only=True)
class Manifest:
    """The static manifest, ``quanthost.toml`` in the plugin's package.

    ``api`` is a version range of the host's plugin API (``">=1,<2"``), ``requires`` the importable
    modules that the backend needs, ``runtime`` the name of the ExecuTorch backend that executes its
    programs (empty: portable kernels).
    """

    name: str = attrs.field(validator=checks.identifier())
    summary: str = attrs.field(validator=_TEXT)
    api: str = attrs.field(validator=_TEXT)
    recipes: tuple[str, ...] = attrs.field(
        converter=checks.as_tuple, validator=checks.each(checks.identifier())
    )
    requires: tuple[str, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(_TEXT)
    )
    runtime: str = attrs.field(default="", validator=_TEXT)


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
    runtime: str = attrs.field(default="", validator=_TEXT)
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
