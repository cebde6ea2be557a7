"""Optimizers, clipping and schedules, against PyTorch and known points."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from model_utils import optimizers
from model_utils.optimizers import OPTIMIZERS, SCHEDULES, clip_gradients

pytestmark = pytest.mark.q2f

TORCH_OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("block", [optimizers.BLOCK, 4, 2])
def test_optimizers_take_pytorchs_steps(name, weight_decay, block, monkeypatch):
    """30 steps down a quadratic bowl, from a point where the first 6 of 10 parameters decay."""
    monkeypatch.setattr(optimizers, "BLOCK", block)
    rng = np.random.default_rng(0)
    curvature, start = rng.random(10) * 3, rng.normal(size=10)
    parameters, gradients = start.copy(), np.zeros(10)
    optimizer = OPTIMIZERS[name](parameters, gradients, n_decayed=6, weight_decay=weight_decay)
    decayed, other = (torch.tensor(part, requires_grad=True) for part in np.split(start, [6]))
    groups = [{"params": [decayed], "weight_decay": weight_decay}, {"params": [other], "weight_decay": 0.0}]
    torch_optimizer = TORCH_OPTIMIZERS[name](groups, lr=0.05)
    for step in range(30):
        learning_rate = 0.05 / (1 + step)
        for group in torch_optimizer.param_groups:
            group["lr"] = learning_rate
        gradients[:] = curvature * parameters
        optimizer.step(learning_rate)
        torch_optimizer.zero_grad()
        (torch.from_numpy(curvature) * torch.cat([decayed, other]) ** 2 / 2).sum().backward()
        torch_optimizer.step()
    np.testing.assert_allclose(parameters, torch.cat([decayed, other]).detach(), rtol=1e-11)
    assert not np.allclose(parameters, start, atol=0.01)


def test_clipping_is_pytorchs():
    for scale, max_norm in product((0.01, 10), (1.0, 5.0)):
        gradients = np.random.default_rng(0).normal(size=50) * scale
        tensor = torch.zeros(50, dtype=torch.float64, requires_grad=True)
        tensor.grad = torch.from_numpy(gradients.copy())
        torch.nn.utils.clip_grad_norm_(tensor, max_norm)
        clip_gradients(gradients, max_norm)
        np.testing.assert_allclose(gradients, tensor.grad, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", {0: 1, 0.99: 1}),
        ("step", {0: 1, 0.49: 1, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 0.99: 0.01}),
        ("inverse_time", {0: 1, 1 / 9: 0.5, 1: 0.1}),
        ("cosine", {0: 0, 0.05: 0.5, 0.1: 1, 0.55: 0.5, 1: 0}),
    ],
)
def test_schedules_pass_through_known_points(name, expected):
    for t, factor in expected.items():
        assert SCHEDULES[name](t) == pytest.approx(factor, abs=1e-12)
