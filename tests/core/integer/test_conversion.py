"""The whole conversion: fused activations, islands, and operators that are to be left alone."""

from __future__ import annotations

import torch
from qdq_graphs import convert, fake_quantize, image, operators
from sample_graphs import graph_of

from quanthost.integer.conversion import ACCUMULATING, to_integers
from quanthost.values import FP32_HALF_EVEN


def test_an_activation_narrows_the_result() -> None:
    """A ReLU behind a sum is no operator: the sum saturates at its bound."""
    wanted, result, forms, module = convert(lambda x: torch.relu(x + x.flip(0)), image(4, 9))

    assert operators(module) == ["Add"]
    assert forms.integer.keys() >= {"relu"}
    assert float(result.min()) >= 0.0
    assert torch.equal(wanted > 0, result > 0)


def test_what_has_no_form_is_an_island() -> None:
    """It stays float, with a reason, and computes what it did."""
    wanted, result, forms, _ = convert(lambda x: torch.cumsum(x, 0), image(3, 4))

    assert list(forms.islands) == ["cumsum"]
    assert forms.islands["cumsum"]
    assert torch.equal(wanted, result)


def test_only_some_operators() -> None:
    """Those that are not named stay float."""
    module = graph_of(lambda x: fake_quantize(torch.tanh(fake_quantize(x))), image(3, 4))
    forms = to_integers(module, FP32_HALF_EVEN, ACCUMULATING)

    assert forms.integer == {}
    assert "tanh" in forms.islands
