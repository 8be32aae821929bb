"""The small networks are the same at each call."""

from __future__ import annotations

import pytest
import torch

from quanthost.testing.cases.small_networks import NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    """Weights, inputs and outputs are equal; building one leaves torch's generator alone."""
    state = torch.get_rng_state()
    (first, inputs), (second, again) = NETWORKS[name](), NETWORKS[name]()

    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(inputs, again, strict=True))
    outputs = (module(*inputs) for module in (first, second))
    for one, other in zip(*(o if isinstance(o, tuple) else (o,) for o in outputs), strict=True):
        assert torch.equal(one, other)
