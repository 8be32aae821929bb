"""``Override``: an app developer's rule that gives some nodes another recipe, other qspecs, or float."""

from __future__ import annotations

import attrs

from quanthost.values import checks
from quanthost.values.qspec import AnyQSpec, DerivedQSpec, FixedQSpec, QSpec, SharedQSpec
from quanthost.values.recipe import Role

__all__ = ["Override"]

_SPEC = checks.kind(QSpec, FixedQSpec, DerivedQSpec, SharedQSpec, optional=True)
_TEXT = checks.kind(str, optional=True)
SELECTORS = ("module_name", "module_type", "operator", "node")
ACTIONS = ("recipe", "keep_float", "activation", "weight", "bias")


@attrs.frozen(kw_only=True)
class Override:
    """One rule; a node must match every selector that is set, and the first matching rule wins.

    Selectors: ``module_name`` is a glob over the dotted path of the module (``"layers.*.mlp"`` also
    selects modules inside it; ``*`` stands for any characters, dots too), ``module_type`` the class name or
    its dotted path, ``operator`` an aten name (``"aten.conv2d"`` or with overload), ``node`` the name of a
    node of the captured graph.

    Exactly one kind of action: ``recipe`` names another recipe of the backend, ``keep_float`` leaves the node
    in float, or qspecs replace the recipe's for the roles that are set.
    """

    module_name: str | None = attrs.field(default=None, validator=_TEXT)
    module_type: str | None = attrs.field(default=None, validator=_TEXT)
    operator: str | None = attrs.field(default=None, validator=_TEXT)
    node: str | None = attrs.field(default=None, validator=_TEXT)
    recipe: str | None = attrs.field(default=None, validator=_TEXT)
    keep_float: bool = attrs.field(default=False, validator=checks.kind(bool))
    activation: AnyQSpec | None = attrs.field(default=None, validator=_SPEC)
    weight: AnyQSpec | None = attrs.field(default=None, validator=_SPEC)
    bias: AnyQSpec | None = attrs.field(default=None, validator=_SPEC)

    def __attrs_post_init__(self) -> None:
        if not any(getattr(self, name) is not None for name in SELECTORS):
            checks.refuse(
                self, "node", "an override that selects nothing",
                needed="one or more of " + ", ".join(SELECTORS),
                remedy="say which nodes it is for, for example module_name='head.*'",
            )  # fmt: skip
        kinds = (self.recipe is not None) + self.keep_float + bool(self.qspecs)
        if kinds != 1:
            checks.refuse(
                self, "recipe", f"an override with {kinds or 'no'} actions",
                needed="exactly one: a recipe, keep_float=True, or qspecs for roles",
                remedy="split it into several overrides, or remove one action",
            )  # fmt: skip

    @property
    def qspecs(self) -> dict[Role, AnyQSpec]:
        """The qspecs that replace the recipe's, by role."""
        specs = {role: getattr(self, role.value, None) for role in Role}
        return {role: spec for role, spec in specs.items() if spec is not None}

    def __str__(self) -> str:
        set_fields = (
            f"{name}={getattr(self, name)!r}"
            for name in SELECTORS + ACTIONS
            if getattr(self, name) not in (None, False)
        )
        return f"override({', '.join(set_fields)})"
