"""Quick lowering gives the program of ExecuTorch's own on each network of the benchmarks."""

import pytest
from networks import NETWORKS, Network
from torch import nn
from two_ways import same_program
from whole import WHOLE

import quanthost

pytestmark = pytest.mark.slow

# unrolled to thousands of operators, the first takes either way longer than a test may; what the others have,
# smaller networks have too: make test-whole
LARGE = (
    *("speaker-lstm", "efficientnet-lite0", "resnet18", "mobilenet-v1-025", "mobilenet-v2", "vit-6"),
    "crepe-tiny",
)
LOWERED = tuple(row for row in NETWORKS if row.name not in (LARGE[:1] if WHOLE else LARGE))
# six equal layers, of which ExecuTorch lowers each as it does the second
TRANSFORMERS = ("minilm-l6", "vit-6")


@pytest.mark.parametrize("row", LOWERED, ids=lambda row: row.name)
def test_a_network_of_the_benchmarks(row: Network) -> None:
    """The same delegated operators, kernels, decisions, and equal outputs."""
    model, inputs = row.build()
    if row.name in TRANSFORMERS and not WHOLE:
        _keep_two_layers(model)
    prepared = quanthost.prepare(quanthost.capture(model, inputs), "xnnpack_like")
    converted = quanthost.convert(quanthost.calibrate(prepared, row.calibration()[:2]))

    same_program(converted, inputs)


def _keep_two_layers(model: nn.Module) -> None:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    (layers,) = [module for module in lists if len(module) == 6]
    del layers[2:]
