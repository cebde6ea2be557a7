"""Saved networks side by side: what is measured, what is shown, and what is left out."""

import shutil

import numpy as np
import pytest

import cnn
import mlp
from data_preparation import N_OFFICIAL_TRAIN, Split
from experiments import __main__ as command_line
from experiments import networks
from model_utils.saved_models import SavedModelError, add_file, load_facts, load_model, save_model

pytestmark = pytest.mark.q4


def cells_by_model(table):
    """The cells of each row of a table of models, by the model's name."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: cells for name, *cells in rows}


@pytest.fixture
def measured_mlp(tmp_path, trained, small_splits):
    """A small MLP, saved and measured on few test images."""
    model, h, history = trained
    split = {"train": 3000, "validation": 1000, "test": 300, "seed": 0}
    splits = mlp.load_splits(**split)
    metrics = {"validation": mlp.evaluate(model, splits.validation), "test": mlp.evaluate(model, splits.test)}
    folder = tmp_path / "mlp" / h.name
    mlp.save(folder, model, h, history, split, metrics)
    networks.measure(folder)
    return folder, splits.test


def test_a_measured_mlp_predicts_what_it_says(measured_mlp, trained):
    folder, test = measured_mlp
    (network,) = networks.load_networks(folder.parents[1])
    assert network.title == "MLP_784_32_10"
    np.testing.assert_array_equal(network.predictions, mlp.predict_logits(trained[0], test.images).argmax(axis=1))
    assert np.mean(network.predictions == test.labels) == network.metrics["test"]["accuracy"]
    assert network.images_per_second > 0


def test_a_measured_pair_is_named_after_its_backbone(tmp_path):
    arguments = ["train", "--backbone", "resnet18", "--frozen", "--train-size", "300", "--validation-size", "100"]
    arguments += ["--test-size", "200", "--mlp-hidden-sizes", "16", "--mlp-epochs", "2", "--device", "cpu"]
    assert cnn.main([*arguments, "--models-dir", str(tmp_path / "cnn")]) == 0
    (folder,) = (tmp_path / "cnn").iterdir()
    networks.measure(folder)
    (network,) = networks.load_networks(tmp_path)
    assert network.title == "resnet18_frozen"
    assert len(network.predictions) == 200


def test_a_model_that_is_not_the_one_measured_is_refused(measured_mlp):
    folder, _ = measured_mlp
    saved = load_model(folder, "mlp")
    saved.metrics["test"]["accuracy"] += 0.01
    save_model(folder, saved)
    with pytest.raises(SavedModelError, match="the stored test accuracy is not that of the weights"):
        networks.measure(folder)


@pytest.mark.parametrize("damage", ["{}", "no JSON", '{"images_per_second": 1, "measured_on": {}, "predictions": "x"}'])
def test_a_damaged_measurement_is_named(measured_mlp, damage):
    folder, _ = measured_mlp
    add_file(folder, networks.MEASURED, damage)
    with pytest.raises(SavedModelError, match=rf"{folder.name}: not a measured network"):
        networks.load_networks(folder.parents[1])


def test_a_measurement_of_the_model_that_was_here_before_is_refused(measured_mlp):
    folder, _ = measured_mlp
    measured = (folder / networks.MEASURED).read_bytes()
    save_model(folder, load_model(folder, "mlp"))
    (folder / networks.MEASURED).write_bytes(measured)
    with pytest.raises(SavedModelError, match=r"measured\.json: damaged"):
        networks.load_networks(folder.parents[1])
    networks.measure(folder)
    assert len(networks.load_networks(folder.parents[1])) == 1


def test_what_is_not_complete_or_has_no_weights_is_left_out(measured_mlp, tmp_path, capsys):
    whole, _ = measured_mlp
    without = shutil.copytree(whole, whole.with_name("resnet18"))
    (without / "weights.safetensors").unlink()
    unfinished = shutil.copytree(whole, whole.with_name("CNN_8.checkpoint.tmp"))
    assert command_line.main(["measure", *map(str, (without, unfinished, whole))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("left out: ") for line in lines] == [True, True, False]


def test_what_is_trained_besides_changes_no_document(measured_mlp):
    folder, _ = measured_mlp
    for name in ("mlp__of_a_user", f"{folder.name}.old.tmp"):
        shutil.copytree(folder, folder.with_name(name))
    (folder.with_name("mlp__of_a_user") / networks.MEASURED).unlink()
    assert [network.folder for network in networks.load_networks(folder.parents[1])] == [folder]


def test_a_model_without_its_weights_is_a_network_but_no_model(measured_mlp):
    folder, _ = measured_mlp
    (folder / "weights.safetensors").unlink()
    assert [network.folder for network in networks.load_networks(folder.parents[1])] == [folder]
    with pytest.raises(SavedModelError, match=r"weights\.safetensors: missing"):
        mlp.load(folder)


@pytest.mark.acceptance
def test_tables_show_each_models_stored_accuracy(measured_networks, saved_models):
    of_models = cells_by_model(networks.models_table(saved_models.values()))
    assert of_models.keys() == saved_models.keys()
    for name, folder in saved_models.items():
        assert of_models[name][0] == f"{load_facts(folder).metrics['test']['accuracy']:.4f}"
    of_networks = cells_by_model(networks.networks_table(measured_networks))
    accuracies = [float(cells[0]) for cells in of_networks.values()]
    assert len(accuracies) == len(measured_networks)
    assert accuracies == sorted(accuracies, reverse=True)


def test_confused_pairs_count_both_ways():
    matrix = np.zeros((10, 10), int)
    matrix[0, 6], matrix[6, 0], matrix[2, 4], matrix[3, 3] = 5, 4, 7, 900
    pairs = networks.confused_pairs({"confusion_matrix": matrix.tolist()}, n=2)
    assert pairs == [("T-shirt/top", "Shirt", 9), ("Pullover", "Coat", 7)]


def test_images_that_all_get_wrong():
    predictions = np.array([[0, 1, 2, 3], [0, 9, 2, 3]])
    assert networks.wrong_in_all(predictions, np.array([0, 1, 5, 4])).tolist() == [2, 3]


@pytest.mark.acceptance
def test_saved_models_predict_what_is_stored_beside_them(measured_networks, saved_models, official):
    """Of the first images; a class that two processors round apart may differ."""
    few = Split(*(part[N_OFFICIAL_TRAIN:][:300] for part in official))
    for network in measured_networks:
        if network.folder.name not in saved_models:
            continue
        if network.description["kind"] == "mlp":
            n_views = network.description["hyperparameters"]["n_views"]
            logits = mlp.predict_logits(mlp.load(network.folder)[0], few.images, n_views)
        else:
            logits = cnn.load(network.folder, "cpu")[0].predict_logits(few.images)
        assert np.mean(logits.argmax(axis=1) == network.predictions[:300]) >= 0.99, network.title
