"""What is stored reaches its bar. Nothing is trained here: `pytest -m acceptance`."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

import cnn
import mlp
from data_preparation import N_OFFICIAL_TRAIN
from experiments import MODELS, RESULTS, cnn_finals
from experiments.benchmarks import mlp_memory
from experiments.mlp_steps import FINALS
from experiments.stored import read_rows

pytestmark = pytest.mark.acceptance


def named(networks, title):
    (network,) = (network for network in networks if network.title == title)
    return network


MLP_BARS = {"784-128-10": 0.895, "deep": 0.9, "512-256": 0.912, "1024-1024-1024": 0.92}


@pytest.mark.q2f
@pytest.mark.parametrize("label", FINALS)
def test_mlps_reach_their_bars_saved_and_over_three_seeds(label, capsys):
    runs = read_rows(RESULTS / "study_mlp_final.csv").query("model == @label")
    assert runs["seed"].nunique() >= 3
    assert runs["test"].mean() >= MLP_BARS[label]
    assert mlp.main(["evaluate", str(MODELS / "mlp" / FINALS[label].name)]) == 0
    assert float(capsys.readouterr().out.split()[-1]) >= MLP_BARS[label]


@pytest.mark.q2f
def test_the_mlp_for_small_memories_has_at_most_600_000_parameters():
    assert mlp.build(FINALS["512-256"]).n_parameters <= 600_000


PAIR_BARS = {"16-32-64-128-256": 0.94, "32-48-64-88-112": 0.942, "24-48-96-160-224": 0.95}


@pytest.mark.q3d
@pytest.mark.parametrize("label", cnn_finals.FINALS)
def test_pairs_reach_their_bars_saved_and_over_three_seeds(label):
    """Another test compares the saved pairs' predictions with those that their stored accuracies follow from."""
    h = cnn_finals.FINALS[label]
    runs = read_rows(RESULTS / "study_cnn_final.csv").query("model == @label")
    assert runs["seed"].nunique() >= 3
    assert runs["test"].mean() >= PAIR_BARS[label]
    folder = MODELS / "cnn" / cnn.pair_name(h, cnn.in_step(cnn.CLASSIFIER, h))
    _, saved = cnn.load(folder, "cpu")
    assert saved.metrics["test"]["accuracy"] >= PAIR_BARS[label]


@pytest.mark.q4
@pytest.mark.parametrize(
    ("title", "bar"),
    [
        ("lenet5", 0.905),
        ("modern_lenet", 0.92),
        ("resnet18", 0.935),
        ("efficientnet_lite0_ImageNet_frozen", 0.9),
        ("efficientnet_lite0_ImageNet", 0.94),
        ("vit", 0.91),
        ("vgg11_bn", 0.93),
    ],
)
def test_other_networks_reach_their_bars(measured_networks, title, bar):
    assert named(measured_networks, title).metrics["test"]["accuracy"] >= bar


@pytest.mark.q4
def test_stored_metrics_follow_from_stored_predictions(measured_networks, official):
    """scikit-learn is the outside truth."""
    labels = official.labels[N_OFFICIAL_TRAIN:]
    assert len(measured_networks) >= 13
    for network in measured_networks:
        test = network.metrics["test"]
        assert test["accuracy"] == pytest.approx(np.mean(network.predictions == labels), abs=0.0005)
        means = precision_recall_fscore_support(labels, network.predictions, average="macro")[:3]
        assert [test[name] for name in ("precision", "recall", "f1")] == pytest.approx(means, abs=0.001)


@pytest.mark.q4
def test_training_took_less_memory_than_the_bar():
    row = read_rows(mlp_memory.STORED).iloc[0]
    assert row["data_in_float32"] == 60_000 * 784 * 4
    assert row["training"] <= 1.3 * row["data_in_float32"]
