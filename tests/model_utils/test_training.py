"""What training an MLP and training a backbone have in common."""

import math

import numpy as np
import pytest

from model_utils.training import (
    EpochBar,
    TrainingDiverged,
    best_epoch,
    check_batches,
    check_loss,
    measure,
    out_of_patience,
)

pytestmark = pytest.mark.q2f


def history_of(*accuracies):
    return [
        {"epoch": epoch, "train_loss": 1 / epoch, "validation_accuracy": accuracy}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


def test_best_epoch_is_the_first_of_highest_validation_accuracy():
    assert best_epoch(history_of(0.5, 0.9, 0.3, 0.9))["epoch"] == 2


@pytest.mark.parametrize(
    ("accuracies", "patience", "is_out"),
    [
        ((), 2, False),
        ((0.5,), 1, False),
        ((0.5, 0.5), 1, True),
        ((0.7, 0.6), 2, False),
        ((0.7, 0.6, 0.7), 2, True),
        ((0.7, 0.6, 0.8), 2, False),
        ((0.7, 0.6, 0.5, 0.4), 0, False),
    ],
)
def test_patience_runs_out_after_so_many_epochs_without_a_better_one(accuracies, patience, is_out):
    assert out_of_patience(history_of(*accuracies), patience) is is_out


@pytest.mark.parametrize(("batch_size", "n_images"), [(1, 3000), (2999, 3000), (4, 9), (128, 1)])
def test_batches_that_leave_an_image_alone_are_refused_for_batch_norm_only(batch_size, n_images):
    with pytest.raises(ValueError, match=f"batch_size: .* but {batch_size} for {n_images:,} samples"):
        check_batches(True, batch_size, n_images)
    check_batches(False, batch_size, n_images)
    check_batches(True, batch_size + 1, 2 * (batch_size + 1))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_training_with_a_hint(loss):
    message = f"^loss is {loss} in epoch 3; .* Try a learning_rate below 0.05.$"
    with pytest.raises(TrainingDiverged, match=message):
        check_loss(loss, "epoch 3", 0.05)
    check_loss(1e30, "epoch 3", 0.05)


def test_epoch_bar_shows_the_last_epoch_and_the_best(capsys):
    bar = EpochBar(3, "backbone")
    for row in history_of(0.5, 0.9, 0.7):
        bar(row)
    last_line = capsys.readouterr().out.split("\r")[-1]
    for text in ("backbone: 100%", "3/3", "loss 0.333", "validation accuracy 0.7000", "best 0.9000"):
        assert text in last_line


def test_measure_agrees_with_a_count_by_hand():
    """Of 60 images in the classes a, b, c and d; nothing is taken for a d, and no image is a c."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 3], 60)
    logits = rng.normal(size=(60, 4))
    logits[:, 3] = -9
    predictions = [max(range(4), key=row.__getitem__) for row in logits.tolist()]
    counts = [[0] * 4 for _ in range(4)]
    for label, prediction in zip(labels, predictions, strict=True):
        counts[label][prediction] += 1
    metrics = measure(logits, labels, "abcd")
    assert metrics["confusion_matrix"] == counts
    assert metrics["n_images"] == 60
    assert metrics["accuracy"] == sum(counts[k][k] for k in range(4)) / 60
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected_loss = -sum(math.log(row[label]) for row, label in zip(probabilities, labels, strict=True)) / 60
    assert metrics["cross_entropy"] == pytest.approx(expected_loss)
    means = dict.fromkeys(("precision", "recall", "f1"), 0)
    for k, name in enumerate("abcd"):
        called, real = sum(row[k] for row in counts), sum(counts[k])
        precision = counts[k][k] / called if called else 0
        recall = counts[k][k] / real if real else 0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        expected = {"precision": precision, "recall": recall, "f1": f1}
        assert metrics["per_class"][name] == pytest.approx(expected)
        means = {key: mean + expected[key] / 4 for key, mean in means.items()}
    assert {key: metrics[key] for key in means} == pytest.approx(means)


def test_a_bar_that_is_closed_before_its_last_epoch_ends_its_line(capsys):
    bar = EpochBar(3)
    (row,) = history_of(0.5)
    bar(row)
    bar.close()
    printed = capsys.readouterr().out
    assert "1/3" in printed.split("\r")[-1]
    assert printed.endswith("\n")
