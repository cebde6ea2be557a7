"""What sits between the matrix products: initialisation, activations, dropout."""

import numpy as np
import pytest
import torch
from torch import nn

from model_utils.layers import ACTIVATIONS, draw_dropout_mask
from model_utils.mlp import MLP


@pytest.mark.q2c
@pytest.mark.q2d
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_derivatives_match_pytorch(name, dtype):
    forward, backward = ACTIVATIONS[name]
    z = np.array([-100, -30, -2.5, -1, -1e-3, 1e-3, 0.5, 2, 30, 100], dtype)
    da = np.linspace(-2, 2, len(z), dtype=dtype)
    torch_z = torch.tensor(z, requires_grad=True)
    torch_a = getattr(nn.functional, name)(torch_z)
    torch_a.backward(torch.tensor(da))
    a = z.copy()
    forward(a)
    dz = da.copy()
    backward(dz, a)
    assert a.dtype == dz.dtype == dtype
    tolerance = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(a, torch_a.detach(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dz, torch_z.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.q2f
@pytest.mark.parametrize(("init", "std"), [("random", 0.01), ("Xavier", (2 / 700) ** 0.5), ("He", (2 / 400) ** 0.5)])
def test_initial_weights_have_the_promised_spread(init, std):
    W = MLP(400, (300,), init=init).W[0]
    # The standard error of a mean is std / sqrt(n), of a standard deviation std / sqrt(2 n).
    assert abs(W.mean()) < 4 * std / W.size**0.5
    assert W.std() == pytest.approx(std, abs=4 * std / (2 * W.size) ** 0.5)


@pytest.mark.q2f
def test_he_keeps_the_signal_of_a_deep_relu_network_and_small_random_weights_lose_it():
    images = np.random.default_rng(0).normal(size=(500, 256))
    spread = {
        init: MLP(256, (256,) * 8, activation="relu", init=init).forward(images).std() for init in ("He", "random")
    }
    assert 0.3 < spread["He"] < 3
    assert spread["random"] < 1e-6


@pytest.mark.q2f
@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_dropout_keeps_the_expected_activation(dropout):
    mask = np.empty((1000, 200), np.float32)
    draw_dropout_mask(mask, dropout, np.random.default_rng(0))
    assert np.unique(mask).tolist() == [0, np.float32(1 / (1 - dropout))]
    assert mask.mean() == pytest.approx(1, abs=4 * (dropout / (1 - dropout) / mask.size) ** 0.5)


@pytest.mark.q2f
def test_dropout_is_drawn_again_in_training_and_absent_in_prediction():
    x = np.random.default_rng(1).normal(size=(9, 7))
    model, without = (MLP(7, (8, 6), 4, dropout=dropout, dtype=np.float64) for dropout in (0.5, 0.0))
    assert not np.array_equal(model.forward(x, training=True), model.forward(x, training=True))
    np.testing.assert_array_equal(model.forward(x), without.forward(x))
