"""The objectives and their gradients, against PyTorch and by hand."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from model_utils.gradient_check import numerical_gradient
from model_utils.losses import OBJECTIVES, cross_entropy, mean_squared_error, softmax

pytestmark = pytest.mark.q2e


def torch_cross_entropy(logits, labels, label_smoothing):
    return nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")


def torch_mean_squared_error(logits, labels, label_smoothing):
    k = logits.shape[1]
    targets = nn.functional.one_hot(labels, k).to(logits.dtype) * (1 - label_smoothing) + label_smoothing / k
    return ((logits.softmax(dim=1) - targets) ** 2).sum(dim=1)


TORCH_OBJECTIVES = {"cross_entropy": torch_cross_entropy, "mean_squared_error": torch_mean_squared_error}

each_objective = pytest.mark.parametrize("objective", OBJECTIVES)


@each_objective
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", [1, 1e4])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_match_pytorch(objective, label_smoothing, size, weighted):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(32, 10))
    logits[:2] = [[1, -1] * 5, [-1, 1] * 5]
    logits *= size
    classes = rng.integers(0, 10, 32)
    weights = rng.uniform(0, 2, 32) if weighted else None
    loss, dlogits = OBJECTIVES[objective](logits, classes, label_smoothing, weights)
    torch_logits = torch.tensor(logits, requires_grad=True)
    torch_losses = TORCH_OBJECTIVES[objective](torch_logits, torch.from_numpy(classes), label_smoothing)
    torch_loss = torch.mean(torch_losses * torch.tensor(weights if weighted else 1.0))
    torch_loss.backward()
    assert loss == pytest.approx(torch_loss.item(), rel=1e-12)
    np.testing.assert_allclose(dlogits, torch_logits.grad, rtol=1e-9, atol=1e-15)


@each_objective
def test_losses_are_stable_in_float32(objective):
    logits = np.float32([[1e4, -1e4, 0], [-1e4, 1e4, 0]])
    loss, dlogits = OBJECTIVES[objective](logits, np.array([0, 0]))
    assert loss == {"cross_entropy": 1e4, "mean_squared_error": 1.0}[objective]
    assert np.isfinite(dlogits).all()
    assert dlogits.dtype == np.float32


def test_cross_entropy_of_a_guess_is_log_k():
    assert cross_entropy(np.zeros((5, 10)), np.arange(5))[0] == pytest.approx(math.log(10))


def test_integer_labels_give_what_one_hot_targets_give():
    logits = np.random.default_rng(0).normal(size=(6, 10))
    classes = np.array([0, 9, 3, 3, 5, 1])
    targets, p = np.eye(10)[classes], softmax(logits)
    assert cross_entropy(logits, classes)[0] == pytest.approx(-np.mean(np.sum(targets * np.log(p), axis=1)))
    assert mean_squared_error(logits, classes)[0] == pytest.approx(np.mean(np.sum((p - targets) ** 2, axis=1)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((0,), int), r"shape \(9,\), .* got \(0,\)"),
        ([0, 1, 2], r"shape \(9,\), .* got \(3,\)"),
        ([[0]] * 9, r"shape \(9,\), .* got \(9, 1\)"),
        ([0.0] * 9, "integers, got float64"),
        ([0] * 8 + [4], "0 to 3, got 4"),
        ([0] * 8 + [-1], "0 to 3, got -1"),
    ],
)
@each_objective
def test_losses_refuse_bad_labels(objective, wrong, message):
    with pytest.raises(ValueError, match=f"labels: expected .*{message}"):
        OBJECTIVES[objective](np.zeros((9, 4)), np.array(wrong))


@each_objective
def test_weighted_losses_go_down_as_their_gradients_say(objective):
    rng = np.random.default_rng(0)
    logits, classes, weights = rng.normal(size=(6, 4)), rng.integers(0, 4, 6), np.array([0, 0.5, 1, 1, 2, 3])
    loss = partial(OBJECTIVES[objective], labels=classes, label_smoothing=0.1, weights=weights)
    differences = numerical_gradient(lambda: loss(logits)[0], logits)
    np.testing.assert_allclose(loss(logits)[1], differences, rtol=1e-6, atol=1e-9)


@each_objective
def test_weights_of_one_change_nothing(objective):
    logits, classes = np.random.default_rng(0).normal(size=(9, 4)), np.arange(9) % 4
    loss, dlogits = OBJECTIVES[objective](logits, classes)
    weighted_loss, weighted_dlogits = OBJECTIVES[objective](logits, classes, weights=np.ones(9))
    assert weighted_loss == pytest.approx(loss, rel=1e-14)
    np.testing.assert_array_equal(weighted_dlogits, dlogits)


@each_objective
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_largest_logits_there_are_give_finite_losses(objective, dtype, label_smoothing):
    """Their difference is larger than any number of their type, and so is the loss of one of them."""
    largest = np.finfo(dtype).max
    logits = np.array([[largest, -largest, 0], [-largest, largest, 0], [largest, largest, largest]] * 40, dtype)
    loss, dlogits = OBJECTIVES[objective](logits, np.zeros(120, int), label_smoothing)
    assert np.isfinite(loss)
    np.testing.assert_allclose(softmax(logits)[:3], [[1, 0, 0], [0, 1, 0], [1 / 3] * 3], rtol=1e-6)
    assert np.isfinite(dlogits).all()
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-8)


@each_objective
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_not_made_to_look_like_one(objective, wrong):
    """The training stops at such a loss."""
    logits = np.zeros((4, 3))
    logits[1, 2] = wrong
    with np.errstate(invalid="ignore"):
        assert np.isnan(OBJECTIVES[objective](logits, np.zeros(4, int))[0])


def test_an_infinite_loss_stays_infinite():
    logits = np.array([[-np.inf, 0.0]])
    assert cross_entropy(logits, np.array([0]))[0] == np.inf
    assert cross_entropy(logits, np.array([1]))[0] == 0
