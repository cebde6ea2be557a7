"""Question 4: what the documents say is what was measured, and what they point to exists."""

import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

import cnn
import comparison
import mlp
import report as build_report
from benchmarks import cnn_accuracy, report, rivals, rounds
from data_preparation import N_OFFICIAL_TRAIN, Split, preprocess
from model_utils import command_line, records, results
from model_utils.results import models_table, write_between_marks
from model_utils.tables import read_csv, write_csv

ROOT = Path(mlp.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def cells_by_model(table):
    """The cells of each row of a table of models, by the model's name."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: cells for name, *cells in rows}


def test_q4_readme_shows_the_stored_results():
    shown = cells_by_model(re.search(r"<!-- models -->\n(.*)\n<!-- /models -->", README, re.DOTALL)[1])
    stored = cells_by_model(results.recorded_models_table())
    assert len(shown) >= 4
    assert shown == {name: stored[name] for name in shown}, "run make notebooks"
    for name in ("seeds", "networks", "libraries"):
        assert f"<!-- {name} -->\n{results.TEXTS[name]()}\n<!-- /{name} -->" in README
    assert f"<!-- speed -->\n{report.speed_text()}\n<!-- /speed -->" in README


def test_q4_report_is_what_the_stored_results_make_it():
    shown = (ROOT / "REPORT.md").read_text(encoding="utf-8")
    assert shown == build_report.build(), "run make report"
    for path in re.findall(r"\]\((figures/[^)]+)\)", shown):
        assert (ROOT / path).exists(), path


def test_q4_reports_page_has_its_figures_in_it():
    page = build_report.to_html((ROOT / "REPORT.md").read_text(encoding="utf-8"))
    n_figures = len(re.findall(r"!\[", build_report.build()))
    assert len(re.findall(r'<img[^>]*src="data:image/png;base64,', page)) == n_figures > 5
    assert "<table>" in page


def test_q4_race_is_summed_up_as_it_went():
    """Against PyTorch, on each processor that the race was run on."""
    seconds = {}
    for row in report.read(report.RACE):
        cells = seconds.setdefault(row["processor"], {})
        cell = cells.setdefault((row["network"], row["batch_size"]), {})
        cell.setdefault(row["contestant"], {})[row["round"]] = row["seconds"]
    for cells in seconds.values():
        assert len(cells) == 9
        times = []
        for cell in cells.values():
            by_hand, pytorch = cell["NumPy by hand"], cell["PyTorch"]
            times.append(statistics.median(pytorch[number] / by_hand[number] for number in by_hand))
        mean = statistics.geometric_mean(times)
        assert f"{mean:.2f} times as fast in the geometric mean of the 9 cells, {min(times):.2f}" in report.race_text()


def test_q4_training_took_less_memory_than_the_bar():
    (row,) = read_csv(report.MEMORY)
    assert row["data_in_float32"] == 60_000 * 784 * 4
    assert row["training"] <= 1.3 * row["data_in_float32"]


def test_q4_contestants_take_turns_and_are_held_against_the_stored_ones(tmp_path, capsys):
    turns = []
    contestants = {("a", "1"): lambda: turns.append("a"), ("b", "2"): lambda: turns.append("b")}
    rows = rounds.alternate(contestants, 2, network="8-4", batch_size=64)
    assert turns == ["a", "b"] * 3  # the first round only warms up
    assert [(row["contestant"], row["round"]) for row in rows] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    stored = [row | {"seconds": 1.0} for row in rows]
    rounds.store(tmp_path / "race.csv", stored, "network", "batch_size")
    assert report.read(tmp_path / "race.csv") == stored
    capsys.readouterr()
    rounds.store(tmp_path / "race.csv", [row | {"seconds": 1.5} for row in rows], "network", "batch_size")
    assert re.search(r"\| a +\| 8-4 +\| 64 +\| 1\.5000 +\| 1\.0000 +\| 1\.50", capsys.readouterr().out)


def test_q4_what_other_processors_took_stays_stored(tmp_path, capsys):
    path = tmp_path / "race.csv"
    rows = rounds.alternate({("a", "1"): lambda: None}, 2)
    first, second, again = (
        [row | {"processor": processor, "seconds": seconds} for row in rows]
        for processor, seconds in (("first", 1.0), ("second", 2.0), ("first", 3.0))
    )
    rounds.store(path, first)
    rounds.store(path, second)
    assert report.read(path) == first + second
    assert "| a" not in capsys.readouterr().out  # times of different processors are not held against each other
    rounds.store(path, again)
    assert report.read(path) == second + again
    assert re.search(r"\| a +\| 3\.0000 +\| 1\.0000 +\| 3\.00", capsys.readouterr().out)


def test_q4_same_work_for_all_whose_epochs_race(small_splits, monkeypatch):
    """Each contestant that is installed goes through all images in one epoch, and learns from them."""
    training = Split(small_splits.train.images[:1000], small_splits.train.labels[:1000])
    x = preprocess(training.images)
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # which the race would set for good
    for make in (rivals.numpy_by_hand, rivals.pytorch, rivals.jax_jit, rivals.keras_fit, rivals.scikit_learn):
        try:
            contestant = make((784, 16, 10), 64, training, x)
        except ImportError:
            continue
        losses = [contestant.epoch() for _ in range(6)]
        assert losses[-1] < 0.75 * losses[0], make.__name__
        assert np.mean(contestant.predict(x).argmax(axis=1) == training.labels) > 0.6, make.__name__


def test_q4_usual_loop_is_timed_until_it_reaches_its_goal(small_splits, monkeypatch):
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


def test_q4_record_leaves_out_what_is_not_complete(tmp_path, capsys):
    assert comparison.main(["record", str(tmp_path / "CNN_8.checkpoint.tmp")]) == 0
    assert re.search(r"left out: .*CNN_8\.checkpoint\.tmp", capsys.readouterr().out)


def test_q4_results_table_shows_each_models_stored_accuracy(saved_models):
    shown = cells_by_model(models_table(saved_models.values()))
    assert shown.keys() == saved_models.keys()
    for name, folder in saved_models.items():
        accuracy = json.loads((folder / "metrics.json").read_text())["test"]["accuracy"]
        assert shown[name][0] == f"{accuracy:.4f}"


def test_q4_what_is_trained_besides_changes_no_document(tmp_path, saved_models, monkeypatch):
    (tmp_path / "models" / "mlp").mkdir(parents=True)
    name, folder = next((name, folder) for name, folder in saved_models.items() if name.startswith("mlp"))
    for new_name in (name, "mlp__of_a_user", f"{name}.old.tmp"):
        shutil.copytree(folder, tmp_path / "models" / "mlp" / new_name)
    monkeypatch.setattr(results, "MODELS", tmp_path / "models")
    assert cells_by_model(results.recorded_models_table()).keys() == {name}


def test_q4_saved_models_predict_what_their_records_say(saved_models, official):
    """Of the first images; a class that two processors round apart may differ."""
    images = official.images[N_OFFICIAL_TRAIN:][:300]
    by_model = {record.model: record for record in records.load_records()}
    assert len(saved_models) >= 10
    for name, folder in saved_models.items():
        if name.startswith("mlp"):
            predictions = mlp.load(folder)[0].predict(preprocess(images))
        else:
            predictions = cnn.load(folder, "cpu")[0].predict_logits(images).argmax(axis=1)
        recorded = np.array(list(by_model[name].predictions[:300])).astype(int)
        assert np.mean(predictions == recorded) >= 0.99, name


def test_q4_every_record_is_whole(official):
    """What a record says of the test images follows from its predictions; scikit-learn is the outside truth."""
    labels = official.labels[N_OFFICIAL_TRAIN:]
    for record in records.load_records():
        predictions = np.array(list(record.predictions)).astype(int)
        test = record.metrics["test"]
        assert test["accuracy"] == pytest.approx(np.mean(predictions == labels), abs=0.0005)
        means = precision_recall_fscore_support(labels, predictions, average="macro")[:3]
        assert [test[name] for name in ("precision", "recall", "f1")] == pytest.approx(means, abs=0.001)


@pytest.mark.parametrize(
    ("title", "bar"),
    [
        ("lenet5", 0.905),
        ("modern_lenet", 0.92),
        ("wide_cnn", 0.94),
        ("resnet18", 0.935),
        ("efficientnet_lite0_ImageNet_frozen", 0.9),
        ("efficientnet_lite0_ImageNet", 0.94),
        ("vit", 0.91),
    ],
)
def test_q4_recorded_networks_reach_their_bars(title, bar):
    (record,) = (record for record in records.load_records() if record.title == title)
    assert record.metrics["test"]["accuracy"] >= bar


def test_q4_readmes_commands_are_those_that_the_records_come_from():
    commands = re.findall(
        r"^python cnn\.py (train .*--epochs \d+|train .*--frozen .*)$", README.replace("\\\n", ""), re.MULTILINE
    )
    by_model = {record.model: record for record in records.load_records()}
    found = set()
    for command in commands:
        args = cnn._parser().parse_args(command.split())
        h = command_line.read_options(args, cnn.Hyperparameters())
        mlp_h = command_line.read_options(args, cnn.MLP_HYPERPARAMETERS, "mlp_", cnn.ONLY_FOR_IMAGES)
        record = by_model.get(cnn.model_name(h, mlp_h))
        if record:
            assert command_line.from_json(cnn.Hyperparameters, record.hyperparameters) == h
            assert command_line.from_json(mlp.Hyperparameters, record.mlp_hyperparameters) == mlp_h
            found.add(record.title)
    not_in_a_notebook = {record.title for record in by_model.values() if not record.title.startswith("MLP")}
    assert found == not_in_a_notebook - {"CNN_16_32_64_128_256"}


def test_q4_networks_without_a_record_are_listed_as_not_measured(tmp_path):
    record = records.load_records()[-1]
    records.save_record(record._replace(title="resnet18"), tmp_path)
    shown = cells_by_model(results.networks_table(tmp_path))
    assert shown["resnet18"][0] == f"{record.metrics['test']['accuracy']:.4f}"
    assert shown["vgg16_bn_ImageNet_frozen"] == ["not measured", *[""] * 8]
    assert len(shown) == len(results.TRANSFER)


def test_q4_a_record_does_not_replace_that_of_another_model(tmp_path):
    record = records.load_records()[0]
    path = records.save_record(record, tmp_path)
    assert records.save_record(record._replace(training_seconds=1.0), tmp_path) == path
    with pytest.raises(ValueError, match=f"{record.title}.json: is of another model, {record.model}"):
        records.save_record(record._replace(model="another"), tmp_path)
    assert records.load_records(tmp_path)[0].training_seconds == 1


@pytest.mark.parametrize("damage", ["metrics", "title"])
def test_q4_damaged_record_is_named(tmp_path, damage):
    record = records.load_records()[0]._asdict()
    del record[damage]
    (tmp_path / "vit.json").write_text(json.dumps(record | ({"metrics": {}} if damage == "metrics" else {})))
    with pytest.raises(ValueError, match=r"vit\.json: not a record of a network"):
        records.load_records(tmp_path)


def test_q4_confused_pairs_count_both_ways():
    matrix = np.zeros((10, 10), int)
    matrix[0, 6], matrix[6, 0], matrix[2, 4], matrix[3, 3] = 5, 4, 7, 900
    pairs = comparison.confused_pairs({"confusion_matrix": matrix.tolist()}, n=2)
    assert pairs == [("T-shirt/top", "Shirt", 9), ("Pullover", "Coat", 7)]


def test_q4_images_that_all_get_wrong():
    record = records.load_records()[0]
    two = [record._replace(predictions=digits) for digits in ("0123", "0923")]
    predictions, indices = comparison.wrong_in_all(two, np.array([0, 1, 5, 4]))
    assert indices.tolist() == [2, 3]
    assert predictions.tolist() == [[2, 3], [2, 3]]


def test_q4_libraries_learn_the_same_and_a_missing_one_is_left_out(small_splits, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(comparison, "SHAPES", ((784, 16, 10),))
    monkeypatch.setattr(comparison, "LIBRARIES_EPOCHS", 4)
    monkeypatch.setattr(comparison, "LIBRARIES_CSV", tmp_path / "libraries.csv")
    monkeypatch.setattr(comparison, "load_splits", lambda: small_splits)
    monkeypatch.setattr(comparison, "libraries_table", lambda: results.libraries_table(tmp_path / "libraries.csv"))
    monkeypatch.setitem(sys.modules, "keras", None)  # as if it were not installed
    assert comparison.main(["libraries"]) == 0
    output = capsys.readouterr().out
    assert "left out: Keras" in output
    assert "pip install -r requirements-keras.txt" in output
    rows = read_csv(tmp_path / "libraries.csv", ["system", "version", "network", "processor", "commit"])
    assert [row["system"] for row in rows] == [
        "Perceptron",
        "MLPClassifier",
        "NumPy by hand",
        "PyTorch",
        "scikit-learn",
    ]
    assert all(row["test_accuracy"] > 0.6 for row in rows)


def test_q4_keras_learns_the_same(small_splits):
    if not all(map(importlib.util.find_spec, ("keras", "tensorflow"))):
        pytest.skip("requirements-keras.txt is not installed")
    # In a process of its own: Keras keeps to the backend that it was first imported with.
    program = (
        "import comparison; from data_preparation import load_splits\n"
        "row = comparison.learn('Keras', (784, 16, 10), load_splits(train=3000, validation=1000), 4)\n"
        "print('accuracy', row['validation_accuracy'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0.6


def test_q4_readme_points_to_what_exists():
    for target, anchor in re.findall(r"\]\(([^)#:]+)(#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target
        if anchor and target.endswith(".md"):
            titles = re.findall(r"^#+ (.*)", (ROOT / target).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor[1:] in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], anchor
        elif anchor:
            assert f"## {anchor[1:].replace('-', ' ')}" in (ROOT / target).read_text(encoding="utf-8").replace("-", " ")
    for file, tests in re.findall(r"\]\((tests/\w+\.py)\) `(\w+)\*`", README):
        assert f"def {tests}" in (ROOT / file).read_text(encoding="utf-8")


def test_q4_results_are_written_between_their_marks_only(tmp_path):
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- models -->\nold\nold\n<!-- /models -->\nafter\n")
    write_between_marks(document, "models", "new")
    assert document.read_text() == "before\n<!-- models -->\nnew\n<!-- /models -->\nafter\n"
    with pytest.raises(ValueError, match=r"<!-- speed -->.* found 0"):
        write_between_marks(document, "speed", "new")
    assert "after" in document.read_text()


def test_q4_tables_survive_storing(tmp_path):
    rows = [{"name": "a, b", "n": 3, "x": 0.1}, {"name": "c", "n": -1, "x": 1e-9}, {"name": "1e-4", "n": 0, "x": 2.0}]
    write_csv(tmp_path / "new" / "rows.csv", rows)
    assert read_csv(tmp_path / "new" / "rows.csv", text_columns=["name"]) == rows
    with pytest.raises(ValueError, match="a, b"):
        read_csv(tmp_path / "new" / "rows.csv")
