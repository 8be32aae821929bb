"""Quick lowering gives the program of ExecuTorch's own on each network of the benchmarks."""

import pytest
from networks import NETWORKS, Network
from two_ways import same_program

import quanthost

pytestmark = pytest.mark.slow

# unrolled to thousands of operators, it takes either way longer than a test may
LOWERED = tuple(row for row in NETWORKS if row.name != "speaker-lstm")


@pytest.mark.parametrize("row", LOWERED, ids=lambda row: row.name)
def test_a_network_of_the_benchmarks(row: Network) -> None:
    """The same delegated operators, kernels, decisions, and equal outputs."""
    model, inputs = row.build()
    prepared = quanthost.prepare(quanthost.capture(model, inputs), "xnnpack_like")
    converted = quanthost.convert(quanthost.calibrate(prepared, row.calibration()[:2]))

    same_program(converted, inputs)
