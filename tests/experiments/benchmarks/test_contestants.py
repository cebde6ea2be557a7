"""The contestants do the work that they are timed for."""

import numpy as np
import pytest
import torch

from data_preparation import Split, preprocess
from experiments.benchmarks import cnn_accuracy
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


def test_usual_loop_is_timed_until_it_reaches_its_goal(small_splits, monkeypatch):
    """A network that calls everything a T-shirt, and after two epochs everything what it is."""
    epochs = []

    def predict(images):
        logits = torch.zeros(len(images), 10)
        logits[:, 0] = 1
        labels = torch.from_numpy(small_splits.test.labels[: len(images)].copy())
        return torch.nn.functional.one_hot(labels, 10).float() if len(epochs) == 2 else logits

    few = small_splits._replace(test=Split(*(part[:200] for part in small_splits.test)))
    network = torch.nn.Identity()
    network.forward = predict
    monkeypatch.setattr(cnn_accuracy, "usual_contestant", lambda: (network, lambda: epochs.append(1)))
    rows = cnn_accuracy.usual_loop(few)
    assert [row["accuracy"] for row in rows] == [np.mean(few.test.labels == 0), 1.0]
