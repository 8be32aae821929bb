"""Measured costs: known sizes have their measured time, others are scaled from the nearest."""

from __future__ import annotations

import attrs
import pytest

from quanthost.errors import ValueCheckError
from quanthost.values import ConversionCost, CostTable, Kernel, Prices, SiteCost, Sizes, from_json, to_json


def conv(channels: int, size: int, window: int = 3) -> Sizes:
    shape = (1, channels, size, size)
    return Sizes(inputs=[shape], weight=(channels, channels, window, window), output=shape)


def cost(sizes: Sizes, seconds: float, kernel: Kernel = Kernel.STATIC, row: str = "conv") -> SiteCost:
    return SiteCost(row=row, kernel=kernel, sizes=sizes, seconds=seconds)


TABLE = CostTable(
    backend="soc", machine="a machine", versions={"torch": "2"},
    sites=[cost(conv(8, 8), 1e-3), cost(conv(64, 32), 4e-3), cost(conv(8, 8), 3e-3, Kernel.FLOAT)],
    conversions=[ConversionCost(elements=100, seconds=1e-6), ConversionCost(elements=10000, seconds=5e-5)],
)  # fmt: skip


def test_known() -> None:
    assert Prices(TABLE).seconds("conv", Kernel.STATIC, conv(8, 8)) == 1e-3
    assert Prices(TABLE).seconds("conv", Kernel.FLOAT, conv(8, 8)) == 3e-3


def test_nearest_by_work() -> None:
    """Twice the area has twice the time of the nearest operator."""
    wide = attrs.evolve(conv(8, 8), inputs=[(1, 8, 8, 16)], output=(1, 8, 8, 16))
    assert Prices(TABLE).seconds("conv", Kernel.STATIC, wide) == pytest.approx(2e-3)
    near_large = conv(64, 28)
    expected = 4e-3 * near_large.work / conv(64, 32).work
    assert Prices(TABLE).seconds("conv", Kernel.STATIC, near_large) == pytest.approx(expected)


def test_unknown_row() -> None:
    assert Prices(TABLE).seconds("linear", Kernel.STATIC, conv(8, 8)) is None
    assert Prices(TABLE).seconds("conv", Kernel.DYNAMIC, conv(8, 8)) is None


def test_conversions() -> None:
    assert Prices(TABLE).conversion(10000) == 5e-5
    assert Prices(TABLE).conversion(200) == pytest.approx(2e-6)
    assert Prices(attrs.evolve(TABLE, conversions=())).conversion(200) == 0


def test_work() -> None:
    """Multiplications of a convolution; elements read and written by operators without a weight."""
    assert conv(8, 4, window=3).work == 8 * 4 * 4 * 8 * 3 * 3
    assert Sizes(inputs=[(2, 3), (2, 3)], weight=(), output=(2, 3)).work == 18
    assert Sizes(inputs=[()], weight=(), output=()).work == 2


def test_round_trip() -> None:
    assert from_json(CostTable, to_json(TABLE)) == TABLE


def test_merged() -> None:
    newer = attrs.evolve(
        TABLE, sites=[cost(conv(8, 8), 9e-3)], skipped={"relu": "no kernel"},
        conversions=[ConversionCost(elements=100, seconds=7e-6)],
    )  # fmt: skip
    merged = TABLE.merged(newer)
    prices = Prices(merged)
    assert prices.seconds("conv", Kernel.STATIC, conv(8, 8)) == 9e-3
    assert prices.seconds("conv", Kernel.STATIC, conv(64, 32)) == 4e-3
    assert prices.conversion(100) == 7e-6
    assert merged.skipped == (("relu", "no kernel"),)


def test_checked() -> None:
    with pytest.raises(ValueCheckError, match="seconds"):
        SiteCost(row="conv", kernel=Kernel.STATIC, sizes=conv(8, 8), seconds="fast")  # type: ignore[arg-type]
