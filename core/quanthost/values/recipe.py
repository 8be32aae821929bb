"""Recipes: named quantization configurations, with the roles of tensors and the kinds of kernels."""

from __future__ import annotations

import enum

import attrs

from quanthost.values import checks
from quanthost.values.qspec import AnyQSpec, DerivedQSpec, FixedQSpec, QSpec, SharedQSpec

__all__ = ["Kernel", "Recipe", "Role"]

_SPECS = (QSpec, FixedQSpec, DerivedQSpec, SharedQSpec)


class Role(enum.Enum):
    """The role of a captured tensor in its operator; a recipe has one qspec per role.

    ``PASSTHROUGH`` tensors (indices, masks, shapes, scalars) are never observed.
    """

    ACTIVATION = "activation"
    WEIGHT = "weight"
    BIAS = "bias"
    PASSTHROUGH = "passthrough"


class Kernel(enum.Enum):
    """Which arithmetic a target's kernel uses for an operator.

    ``FLOAT``: all operands are float. ``STATIC``: integer operands with ranges from calibration. ``DYNAMIC``:
    integer weights, activations quantized at run time. ``WEIGHT_ONLY``: only weights are integers.
    """

    FLOAT = "float"
    STATIC = "static"
    DYNAMIC = "dynamic"
    WEIGHT_ONLY = "weight_only"


@attrs.frozen(kw_only=True)
class Recipe:
    """Which kernels are requested and how each role is quantized; a role that is ``None`` stays float."""

    name: str = attrs.field(validator=checks.identifier())
    kernel: Kernel = attrs.field(validator=checks.kind(Kernel))
    summary: str = attrs.field(default="", validator=checks.kind(str))
    activation: AnyQSpec | None = attrs.field(default=None, validator=checks.kind(*_SPECS, optional=True))
    weight: AnyQSpec | None = attrs.field(default=None, validator=checks.kind(*_SPECS, optional=True))
    bias: AnyQSpec | None = attrs.field(default=None, validator=checks.kind(*_SPECS, optional=True))

    def __attrs_post_init__(self) -> None:
        quantizes = any(spec is not None for spec in (self.activation, self.weight, self.bias))
        if quantizes == (self.kernel is Kernel.FLOAT):
            checks.refuse(
                self, "kernel", f"the kernel {self.kernel.value} with "
                + ("qspecs" if quantizes else "no qspec"),
                needed="qspecs if and only if the kernel is not float",
                remedy="add a qspec for a role, or set kernel=Kernel.FLOAT",
            )  # fmt: skip

    def for_role(self, role: Role) -> AnyQSpec | None:
        """The qspec of a role, or ``None`` if it stays float."""
        if role is Role.PASSTHROUGH:
            return None
        spec: AnyQSpec | None = getattr(self, role.value)
        return spec
