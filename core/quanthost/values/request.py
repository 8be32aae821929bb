"""The frozen record of what the app developer asked for; every hook receives it."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from quanthost.values import checks
from quanthost.values.override import Override

__all__ = ["Placement", "Representation", "Request"]


class Representation(enum.Enum):
    """What the converted graph looks like: q/dq around float operators, or integer forms."""

    QDQ = "qdq"
    REFERENCE = "reference"
    INTEGER = "integer"


class Placement(enum.Enum):
    """How an operator that gains nothing by itself is placed between float and integer neighbours."""

    COST = "cost"
    ALL = "all"


def _backends(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _frozen_options(value: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    items = value.items() if isinstance(value, Mapping) else value
    return tuple(sorted((str(key), option) for key, option in items))


@attrs.frozen(kw_only=True)
class Request:
    """Backend(s) in order of priority, recipe, overrides in order, and the options of the backend."""

    backends: tuple[str, ...] = attrs.field(converter=_backends, validator=checks.each(checks.identifier()))
    recipe: str = attrs.field(validator=checks.identifier())
    overrides: tuple[Override, ...] = attrs.field(
        default=(), converter=tuple, validator=checks.each(checks.kind(Override))
    )
    qat: bool = attrs.field(default=False, validator=checks.kind(bool))
    placement: Placement = attrs.field(default=Placement.COST, validator=checks.kind(Placement))
    options: tuple[tuple[str, str | int | float | bool], ...] = attrs.field(
        default=(), converter=_frozen_options
    )

    def __attrs_post_init__(self) -> None:
        if not self.backends or len(set(self.backends)) != len(self.backends):
            checks.refuse(
                self, "backends", f"the backends {self.backends!r}",
                needed="at least one backend, each once, the first preferred",
                remedy="name the backends in order of priority", value=self.backends,
            )  # fmt: skip

    def option(self, name: str, default: str | int | float | bool | None = None) -> object:
        """The value of a backend's option, ``default`` where it was not given."""
        return dict(self.options).get(name, default)
