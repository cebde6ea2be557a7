"""The checks of the notebook's exercises: they accept what is right, and name the usual mistakes."""

import math

import numpy as np
import pytest

from model_utils import exercises

pytestmark = pytest.mark.q2d


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def momentum(theta, v, g, learning_rate):
    v = 0.9 * v + g
    return theta - learning_rate * v, v


def affine_backward(dz, a, W):
    return dz @ W.T, a.T @ dz, dz.sum(axis=0)


RIGHT = {
    exercises.check_shuffled_pixels: "same",
    exercises.check_parameter_count: 235_146,
    exercises.check_first_loss: 2.3,
    exercises.check_softmax: softmax,
    exercises.check_affine_backward: affine_backward,
    exercises.check_softplus_backward: lambda da, z: da / (1 + np.exp(-z)),
    exercises.check_equal_weights: 1,
    exercises.check_scaled_weights: 1,
    exercises.check_momentum: momentum,
}

WRONG = [
    (exercises.check_shuffled_pixels, "lower", "changed places"),
    (exercises.check_parameter_count, 234_752, "bias"),
    (exercises.check_parameter_count, 235_930, "inputs have no biases"),
    (exercises.check_first_loss, math.log2(10), "in bits"),
    (exercises.check_first_loss, 0.1, "probability"),
    (exercises.check_first_loss, 2.5, "1/10"),
    (exercises.check_softmax, lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), "each row's own"),
    (exercises.check_softmax, lambda z: np.exp(z - z.max()) / np.exp(z - z.max()).sum(axis=1, keepdims=True), "Almost"),
    (exercises.check_softmax, lambda z: np.exp(z) / np.exp(z).sum(axis=0), "axis 1"),
    (exercises.check_softmax, lambda z: np.exp(z) / np.exp(z).sum(), "each row"),
    (exercises.check_softmax, lambda z: z, "expected"),
    (exercises.check_softmax, lambda z: z[0], "expected shape"),
    (exercises.check_softmax, lambda z: 1 / 0, "ZeroDivisionError"),
    (exercises.check_affine_backward, lambda dz, a, W: (dz @ W.T, a.T @ dz / len(a), dz.sum(axis=0)), "not a mean"),
    (exercises.check_affine_backward, lambda dz, a, W: (dz @ W.T, dz.T @ a, dz.sum(axis=0)), "dW must have shape"),
    (exercises.check_affine_backward, lambda dz, a, W: (dz @ W.T, a.T @ dz, dz.max(axis=0)), "db differs"),
    (exercises.check_affine_backward, lambda dz, a, W: dz, "three arrays"),
    (exercises.check_softplus_backward, lambda da, z: 1 / (1 + np.exp(-z)), "multiplies it by da"),
    (exercises.check_softplus_backward, lambda da, z: da * np.exp(z), "differs from the numerical gradient"),
    (exercises.check_softplus_backward, lambda da, z: da[0], "expected shape"),
    (exercises.check_softplus_backward, lambda da, z: z > 0, "differs from the numerical gradient"),
    (exercises.check_affine_backward, lambda dz, a, W: (dz > 0, W, W), "da must have shape"),
    (exercises.check_affine_backward, lambda dz, a, W: (a > 0, W, W[0]), "da differs"),
    (exercises.check_parameter_count, (235, 146), "without commas"),
    (exercises.check_parameter_count, "235146", "quotation marks"),
    (exercises.check_scaled_weights, 0, "factor of 1"),
    (exercises.check_equal_weights, 128, "different gradients"),
    (exercises.check_scaled_weights, 10, "tenfold"),
    (exercises.check_momentum, lambda t, v, g, r: (t - r * v, 0.9 * v + g), "not with the old one"),
    (exercises.check_momentum, lambda t, v, g, r: (t + r * (0.9 * v + g), 0.9 * v + g), "minus sign"),
    (exercises.check_momentum, lambda t, v, g, r: (t - r * g, g), "velocity is"),
    (exercises.check_momentum, lambda t, v, g, r: t, "two arrays"),
]


@pytest.mark.parametrize("check", RIGHT, ids=lambda check: check.__name__)
def test_a_right_answer_is_right_and_none_is_no_answer(check):
    right = RIGHT[check]
    assert check(right) == "Right."
    assert check((lambda *arguments: None) if callable(right) else None) == exercises.UNANSWERED


def test_an_answer_computed_in_place_is_right_too():
    def softmax(z):
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        return z

    assert exercises.check_softmax(softmax) == "Right."
    assert exercises.check_shuffled_pixels(" Same") == "Right."
    assert exercises.check_first_loss(...) == exercises.UNANSWERED


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_a_hint(check, answer, hint):
    said = check(answer)
    assert said.startswith(("Not quite", "Almost", "Write"))
    assert hint in said
