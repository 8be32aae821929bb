"""``Target``: the complete request to backends as one value, and keywords as a shorthand for it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

import attrs

from quanthost.errors import RequestError
from quanthost.host.policy import Policy
from quanthost.values import CostTable, Objective, Override, Placement, Toolchain, checks
from quanthost.values.choices import choose, nearest
from quanthost.values.request import Option, check_option, sorted_options

__all__ = ["Backend", "Costs", "Options", "Target", "TargetSettings", "as_target", "check_names"]

# names, or plugin objects that no distribution registers: tests and notebooks of a backend's author have them
Backend: TypeAlias = str | object | Sequence[str | object]
Costs: TypeAlias = CostTable | str | os.PathLike[str]
Options: TypeAlias = Mapping[str, Option]


class TargetSettings(TypedDict, total=False):
    """The keywords besides backend, recipe and overrides; ``Target`` explains each."""

    qat: bool
    placement: Placement | str
    optimize_for: Objective | str
    costs: Costs | None
    options: Options | None
    policy: Policy | None
    toolchain: Toolchain | str


def _as_backends(value: Backend) -> tuple[str | object, ...]:
    return (value,) if isinstance(value, str) or not isinstance(value, Sequence) else tuple(value)


def _as_placement(value: Placement | str) -> Placement:
    return choose(Placement, value, "placement")


def _as_objective(value: Objective | str) -> Objective:
    return choose(Objective, value, "optimize_for")


def _as_toolchain(value: Toolchain | str) -> Toolchain:
    return choose(Toolchain, value, "toolchain")


def _as_options(value: Options | None) -> tuple[tuple[str, Option], ...]:
    return sorted_options({} if value is None else value)


@attrs.frozen(kw_only=True)
class Target:
    """The complete request to backends; functions that take it also take its fields as keywords.

    ``attrs.evolve(target, recipe="fp32")`` is the same with another recipe.

    Args:
        backend: A backend's name, or several in order of priority: operators that an earlier one takes are
            closed to the later ones. A plugin object can be used instead of a name.
        recipe: A recipe that each backend has; the first backend's first one where ``None``.
        overrides: Rules for single nodes; the first that matches a node wins.
        qat: Insert fake quantize modules for training, see ``prepare``.
        placement: ``"cost"`` leaves in float what gains nothing from integers, ``"all"`` does not.
        optimize_for: ``"accuracy"`` (and size), or ``"latency"``: what is faster in float stays float.
        costs: Measured costs for ``"latency"``, or a file of them; the costs of the first backend on this
            machine, as ``quanthost measure`` saves them, where ``None``.
        options: Options of the backend.
        policy: Which plugins may be imported; from ``QUANTHOST_BACKENDS`` where ``None``.
        toolchain: ``"fast"`` replaces functions of ExecuTorch by faster ones that give the same program;
            ``"upstream"`` runs ExecuTorch's own.

    Raises:
        RequestError: no backend, one that is named twice, or an unknown placement, objective or toolchain.
        ValueCheckError: another field has a value of the wrong type.
    """

    backend: tuple[str | object, ...] = attrs.field(converter=_as_backends)
    recipe: str | None = attrs.field(default=None, validator=attrs.validators.optional(checks.identifier()))
    overrides: tuple[Override, ...] = attrs.field(
        default=(), converter=checks.as_tuple, validator=checks.each(checks.kind(Override))
    )
    qat: bool = attrs.field(default=False, validator=checks.kind(bool))
    placement: Placement = attrs.field(default=Placement.COST, converter=_as_placement)
    optimize_for: Objective = attrs.field(default=Objective.ACCURACY, converter=_as_objective)
    costs: Costs | None = attrs.field(
        default=None, validator=checks.kind(CostTable, str, os.PathLike, optional=True), repr=False
    )
    # repr, since True, 1 and 1.0 are equal but differ for a backend
    options: tuple[tuple[str, Option], ...] = attrs.field(
        default=(), converter=_as_options, validator=checks.each(checks.pair(check_option)), eq=repr
    )
    policy: Policy | None = attrs.field(default=None, validator=checks.kind(Policy, optional=True))
    toolchain: Toolchain = attrs.field(default=Toolchain.FAST, converter=_as_toolchain)

    def __attrs_post_init__(self) -> None:
        for backend in self.backend:
            has_hooks = callable(getattr(backend, "quanthost_backend_info", None))
            if not isinstance(backend, str) and (isinstance(backend, type) or not has_hooks):
                raise RequestError(
                    f"the backend {backend!r}", needed="the name of one, or a plugin object with its hooks",
                    stage="prepare", value=backend,
                    remedy="name an installed backend, or give an instance of TableBackend",
                )  # fmt: skip
        check_names([each if isinstance(each, str) else id(each) for each in self.backend], self.backend)


def check_names(names: Sequence[object], backends: Sequence[str | object]) -> None:
    """Refuse no backends, and one that is named twice.

    Raises:
        RequestError: either is so.
    """
    if names and len(set(names)) == len(names):
        return
    shown = [each if isinstance(each, str) else type(each).__name__ for each in backends]
    raise RequestError(
        f"the backends {shown!r}", needed="at least one backend, each once, the first preferred",
        stage="prepare", remedy="name the backends in order of priority", value=tuple(backends),
    )  # fmt: skip


def as_target(
    function: Callable[..., Any],
    backend: Backend | Target,
    recipe: str | None,
    overrides: Sequence[Override],
    settings: TargetSettings,
) -> Target:
    """The target that a public function was called with, as one value or as keywords.

    Args:
        function: The function, for the messages.
        backend: A target, or the backend of one.
        recipe: Of a target, with ``overrides`` and ``settings``.

    Raises:
        RequestError: a target and keywords, an unknown keyword, or a target that cannot be.
    """
    for keyword in settings:
        if keyword not in TargetSettings.__annotations__:
            raise _unknown_keyword(function, keyword)
    if not isinstance(backend, Target):
        return Target(backend=backend, recipe=recipe, overrides=overrides, **settings)
    positional = {"recipe": recipe is not None, "overrides": len(overrides) > 0}
    beside = [*(field for field, is_given in positional.items() if is_given), *settings]
    if beside:
        raise RequestError(
            f"{function.__name__}() with a Target and also {', '.join(beside)}", value=backend,
            needed="a Target, or its fields as keywords",
            remedy=f"put them into the target: attrs.evolve(target, {beside[0]}=...)",
        )  # fmt: skip
    return backend


def _unknown_keyword(function: Callable[..., Any], keyword: str) -> RequestError:
    parameters = [name for name in inspect.signature(function).parameters if name != "settings"]
    keywords = [*parameters, *TargetSettings.__annotations__]
    close = nearest(keyword, keywords)
    return RequestError(
        f"{function.__name__}() with the unknown keyword {keyword!r}", needed=f"one of {', '.join(keywords)}",
        remedy="remove it" if close is None else f"write {close}", value=keyword,
    )  # fmt: skip
