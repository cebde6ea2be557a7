"""A few variants side by side: trained, stored, told from noise."""

import numpy as np
import pytest

import mlp
from data_preparation import load_splits
from experiments import variants
from model_utils.cnn_backbone import CNNHyperparameters
from model_utils.losses import OBJECTIVES


@pytest.mark.q2f
def test_compare_trains_every_variant_with_every_seed(small_splits):
    base = mlp.MLPHyperparameters(hidden_sizes=(8,), epochs=2)
    changes = {"none": {}, "half": {"dropout": 0.5}, "diverges": {"learning_rate": 1e30}}
    histories = variants.compare(*small_splits[:2], base, changes, seeds=(0, 1))
    assert [[len(run) for run in runs] for runs in histories.values()] == [[2, 2], [2, 2], [1, 1]]
    accuracy = {label: runs[0][0]["train_accuracy"] for label, runs in histories.items()}
    assert accuracy["half"] < accuracy["none"]
    assert accuracy["diverges"] == 0
    assert histories["none"][0][0]["train_loss"] != histories["none"][1][0]["train_loss"]


@pytest.mark.q2f
def test_compare_keeps_the_epochs_before_a_divergence(small_splits, monkeypatch):
    batches = []

    def loses_its_way(logits, labels, label_smoothing):
        batches.append(len(labels))
        return (np.nan if len(batches) > 30 else 1.0), np.zeros_like(logits)

    monkeypatch.setitem(OBJECTIVES, "cross_entropy", loses_its_way)
    base = mlp.MLPHyperparameters(hidden_sizes=(8,), epochs=9)  # 24 steps and a validation an epoch
    histories = variants.compare(*small_splits[:2], base, {"as it is": {}}, seeds=(0,))
    assert [row["epoch"] for row in histories["as it is"][0]] == [1]


@pytest.mark.q2f
def test_a_comparison_tells_a_difference_from_noise():
    def runs(*accuracies):
        return [[{"validation_accuracy": a, "train_accuracy": a}] for a in accuracies]

    histories = {"a": runs(0.90, 0.92, 0.94), "b": runs(0.90, 0.91, 0.92), "c": runs(0.70, 0.71, 0.72)}
    text = variants.describe(histories)
    assert "| a       | 0.9200 ± 0.0200          | 3 |" in text
    assert text.endswith("Best: **a**. Within two standard errors of it: b. Below it: c by 0.2100.")
    single = variants.describe({"a": runs(0.9), "b": runs(0.8)})
    assert "±" not in single, "one run tells nothing of the noise"
    assert "Best" not in single


@pytest.mark.q2f
@pytest.mark.parametrize(("one", "other"), [("0.10", "x, y"), ("0.10", "0")])
def test_comparisons_survive_storing_and_are_tied_to_their_hyperparameters(tmp_path, trained, one, other):
    _, base, history = trained
    histories = {one: [history, history[:1]], other: [history[1:]]}
    changes = {one: {"dropout": 0.1}, other: {}}
    variants.store(tmp_path / "comparison.csv", histories, base, changes)
    assert variants.load(tmp_path / "comparison.csv", base, changes) == histories
    with pytest.raises(ValueError, match=r"comparison\.csv: made with other hyperparameters"):
        variants.load(tmp_path / "comparison.csv", base, changes | {other: {"dropout": 0.2}})


@pytest.mark.q3b
def test_backbones_are_compared_side_by_side(tmp_path):
    splits = load_splits(train=1500, validation=500)
    base = CNNHyperparameters(channels=(4, 8, 8, 8, 8), n_features=16, epochs=1, batch_size=64, learning_rate=0.02)
    changes = {"3 x 3": {}, "2 x 2": {"kernel_sizes": (2,) * 5}}
    histories = variants.compare(splits.train, splits.validation, base, changes, seeds=(0, 1))
    assert [[len(run) for run in runs] for runs in histories.values()] == [[1, 1]] * 2
    variants.store(tmp_path / "study.csv", histories, base, changes)
    assert variants.load(tmp_path / "study.csv", base, changes) == histories
    assert "2 x 2" in variants.describe(histories)
