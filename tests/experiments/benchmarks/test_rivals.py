"""The rivals do the work that they are timed for."""

import numpy as np
import pytest

from data_preparation import Split, preprocess
from experiments.benchmarks.rivals import RIVALS

pytestmark = pytest.mark.q4


@pytest.mark.parametrize("name", [name for name in RIVALS if name not in ("floor", "pytorch_compiled")])
def test_same_work_for_all_whose_epochs_race(name, small_splits, monkeypatch, need):
    """Each contestant goes through all images in one epoch, and learns from them."""
    need(*{"jax": ["jax"], "keras": ["keras", "jax"]}.get(name, []))
    training = Split(*(part[:1000] for part in small_splits.train))
    x = preprocess(training.images)
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # which the race would set for good
    contestant = RIVALS[name].make((784, 16, 10), 64, training, x)
    losses = [contestant.epoch() for _ in range(6)]
    assert losses[-1] < 0.75 * losses[0]
    assert np.mean(contestant.predict(x).argmax(axis=1) == training.labels) > 0.6
