"""The check by finite differences, which the MLP's own tests rely on."""

import numpy as np
import pytest

from model_utils.gradient_check import gradient_check
from model_utils.layers import ACTIVATIONS
from model_utils.losses import cross_entropy
from model_utils.mlp import MLP

pytestmark = pytest.mark.q2d

x = np.random.default_rng(1).normal(size=(9, 7))
labels = np.random.default_rng(2).integers(0, 4, 9)


def test_gradient_check_notices_a_wrong_gradient(monkeypatch):
    forward, _ = ACTIVATIONS["tanh"]
    monkeypatch.setitem(ACTIVATIONS, "tanh", (forward, lambda da, a: np.multiply(da, 1 - 0.99 * a * a, out=da)))
    errors = gradient_check(MLP(7, (8, 6), 4, activation="tanh", dtype=np.float64), x, labels, cross_entropy)
    assert errors["W3"] < 1e-6 < errors["W1"], "only what lies before the wrong derivative is wrong"
    with pytest.raises(ValueError, match="float64, got float32"):
        gradient_check(MLP(7, (3,), 4), x, labels, cross_entropy)


def test_gradient_check_leaves_parameters_and_random_state_as_they_were():
    model = MLP(7, (8, 6), 4, dropout=0.5, dtype=np.float64)
    parameters, random_state = model.parameters.copy(), model.rng.bit_generator.state
    gradient_check(model, x, labels, cross_entropy)
    np.testing.assert_array_equal(model.parameters, parameters)
    assert model.rng.bit_generator.state == random_state
