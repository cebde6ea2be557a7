"""The rivals do the work that they are timed for."""

import numpy as np
import pytest

from data_preparation import Split, preprocess
from experiments.benchmarks.rivals import LEARNING_RATE, MOMENTUM, RIVALS
from model_utils.losses import softmax

pytestmark = pytest.mark.q4


NAMES = [name for name in RIVALS if name not in ("floor", "pytorch_compiled")]
SIZES = (784, 16, 10)


@pytest.fixture
def make(need, monkeypatch):
    """A function that makes a rival, or skips the test by name if its package is missing."""

    def make(name, *arguments):
        need(*{"jax": ["jax"], "keras": ["keras", "jax"]}.get(name, []))
        monkeypatch.setenv("KERAS_BACKEND", "jax")  # which the race would set for good
        return RIVALS[name].make(*arguments)

    return make


@pytest.mark.parametrize("name", NAMES)
def test_every_rival_learns_from_all_images(name, small_splits, make):
    training = Split(*(part[:1000] for part in small_splits.train))
    x = preprocess(training.images)
    contestant = make(name, SIZES, 64, training, x)
    losses = [contestant.epoch() for _ in range(6)]
    assert losses[-1] < 0.75 * losses[0]
    assert np.mean(contestant.predict(x).argmax(axis=1) == training.labels) > 0.6


@pytest.mark.parametrize("name", [name for name in NAMES if name != "scikit_learn"])
def test_every_rival_makes_the_same_updates_the_smaller_last_batch_included(name, make):
    """On black images only the biases of the output layer learn, by formulas that two lines say.

    All images and labels are the same, so that the order makes no difference. scikit-learn's is left out: it has no
    weights before its first epoch.
    """
    n_images, batch_size = 160, 64  # two whole batches and half of one
    training = Split(np.zeros((n_images, 28, 28), np.uint8), np.full(n_images, 3))
    x = preprocess(training.images)
    contestant = make(name, (784, 10), batch_size, training, x)

    def log_probabilities():
        return np.log(softmax(contestant.predict(x[:1]).astype(np.float64)))

    b, v = log_probabilities(), 0.0
    contestant.epoch()
    for _ in range(3):
        v = MOMENTUM * v + softmax(b) - np.eye(10)[3]
        b = b - LEARNING_RATE * v
    assert log_probabilities() == pytest.approx(np.log(softmax(b)), abs=1e-5)
