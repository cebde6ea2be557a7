"""The race to a test accuracy, and its two networks."""

import numpy as np
import pytest
import torch

import cnn
from data_preparation import Split
from experiments.benchmarks import cnn_accuracy, cnn_epoch
from model_utils.cnn_backbone import CNNHyperparameters

pytestmark = pytest.mark.q4


def test_the_usual_loop_trains_the_same_network():
    network, _ = cnn_epoch.usual_contestant()
    backbone = cnn.build(CNNHyperparameters())
    images = torch.rand(4, 1, 28, 28)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(images), backbone.eval()(images))


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
