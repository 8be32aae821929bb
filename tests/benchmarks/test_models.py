"""Settling random weights: batch norms take the data's statistics, the head its mean."""

import models
import torch
from torch import nn


def settled() -> tuple[nn.Sequential, torch.Tensor]:
    """A linear, batch norm, linear stack settled on 64 seeded rows that are far from mean 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 5)).eval()
    rows = 10 + 4 * torch.randn(64, 4)
    models.settle(model, [(row[None],) for row in rows])
    return model, rows


def test_batch_norm_takes_the_mean_and_unbiased_variance_of_the_data():
    """Eval mode then normalizes as training mode did on the same data."""
    model, rows = settled()
    before = model[0](rows)
    torch.testing.assert_close(model[1].running_mean, before.mean(0))
    torch.testing.assert_close(model[1].running_var, before.var(0, unbiased=True))


def test_outputs_average_zero():
    """The head's bias took the constant part of every output."""
    model, rows = settled()
    torch.testing.assert_close(model(rows).mean(0), torch.zeros(5), atol=1e-5, rtol=0)


def test_the_model_is_left_in_eval_mode_with_its_momentum():
    """Settling is no training: nothing moves when the model is run afterwards."""
    model, rows = settled()
    mean = model[1].running_mean.clone()
    model(rows * 3)
    assert not any(module.training for module in model.modules())
    assert model[1].momentum == 0.1
    assert torch.equal(model[1].running_mean, mean)
