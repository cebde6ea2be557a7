"""The check by finite differences, which the MLP's own tests rely on."""

import numpy as np
import pytest

from model_utils.gradient_check import gradient_check, numerical_gradient, relative_error
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


def test_numerical_gradient_is_that_of_a_known_function():
    """The gradient of sum(x^3) is 3 x^2."""
    values = np.random.default_rng(3).normal(size=(3, 4))
    before = values.copy()
    gradient = numerical_gradient(lambda: float(np.sum(values**3)), values)
    assert relative_error(gradient, 3 * before**2) < 1e-9
    np.testing.assert_array_equal(values, before)


def test_relative_error_is_0_for_equal_and_1_for_opposite_gradients():
    gradient = np.array([3.0, 4.0])
    assert relative_error(gradient, gradient) == 0
    assert relative_error(gradient, -gradient) == 1
    assert relative_error(np.zeros(2), np.zeros(2)) == 0
