"""Question 2f: training, saved models and the command line."""

import json
import re
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image

import experiments
import mlp
from data_preparation import load_splits, preprocess
from model_utils.command_line import check_folder_is_free
from model_utils.saved_models import SavedModel, SavedModelError, is_saved, load_model, remove_saved, save_model

SMALL_SPLIT = {"train": 3000, "validation": 1000, "test": "official", "seed": 0}


def validation_accuracy(model, small_data):
    inputs, labels = small_data[1]
    return np.mean(model.predict(inputs) == labels)


# Training


def test_q2f_training_learns_real_garments(trained, small_data):
    model, h, history = trained
    assert len(history) == h.epochs
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert validation_accuracy(model, small_data) > 0.7  # a guess is right in 0.1


def test_q2f_training_ends_with_the_weights_best_on_validation(small_data, monkeypatch):
    h = mlp.Hyperparameters(hidden_sizes=(8,), epochs=4)
    model = mlp.build(h)
    weights_by_epoch = []

    def measure(*_):
        weights_by_epoch.append(model.parameters.copy())
        return 1.0, [0.5, 0.9, 0.3, 0.9][len(weights_by_epoch) - 1]

    monkeypatch.setattr(mlp, "_loss_and_accuracy", measure)
    history = mlp.train(model, *small_data, h, progress=False)
    assert mlp.best_epoch(history)["epoch"] == 2
    np.testing.assert_array_equal(model.parameters, weights_by_epoch[1])


def test_q2f_same_seed_same_weights_to_the_last_bit(small_data):
    def train(seed):
        h = mlp.Hyperparameters(hidden_sizes=(32,), epochs=2, dropout=0.2, flip=True, shift=1, seed=seed)
        model = mlp.build(h)
        mlp.train(model, *small_data, h, progress=False)
        return model.parameters

    np.testing.assert_array_equal(train(0), train(0))
    assert not np.array_equal(train(0), train(1))


@pytest.mark.parametrize("augmentation", [{}, {"flip": True, "shift": 1}])
def test_q2b_images_train_to_the_same_weights_as_their_preprocessed_inputs(small_splits, small_data, augmentation):
    h = mlp.Hyperparameters(hidden_sizes=(16,), epochs=2, batch_size=96, **augmentation)
    models = []
    for training, validation in (small_splits[:2], small_data):
        model = mlp.build(h)
        history = mlp.train(model, training, validation, h, progress=False)
        models.append((model.parameters, history[-1]["validation_loss"], mlp.evaluate(model, *validation)))
    np.testing.assert_array_equal(models[0][0], models[1][0])
    assert models[0][1:] == models[1][1:]


def test_q2b_images_of_another_width_than_the_models_are_refused(small_splits):
    with pytest.raises(ValueError, match=r"training images: expected shape \(N, 100\)"):
        mlp.train(mlp.build(mlp.Hyperparameters(), 100), *small_splits[:2], mlp.Hyperparameters())


def test_q2f_early_stopping_waits_for_its_patience(small_data, monkeypatch):
    accuracies = iter([0.5, 0.7, 0.6, 0.8, 0.8, 0.7, 0.9])
    monkeypatch.setattr(mlp, "_loss_and_accuracy", lambda *_: (1.0, next(accuracies)))
    h = mlp.Hyperparameters(hidden_sizes=(8,), epochs=50, patience=2)
    history = mlp.train(mlp.build(h), *small_data, h, progress=False)
    assert [row["validation_accuracy"] for row in history] == [0.5, 0.7, 0.6, 0.8, 0.8, 0.7]


def test_q2f_images_take_a_quarter_of_the_memory_of_their_inputs(small_splits, small_data):
    """What training adds to its data is the same for both, and small: the images stay as they are."""
    h = mlp.Hyperparameters(hidden_sizes=(16,), epochs=1)
    model = mlp.build(h)
    tracemalloc.start()
    try:
        mlp.train(model, *small_splits[:2], h, progress=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    inputs = small_data[0][0]
    assert inputs.nbytes == 4 * small_splits.train.images.nbytes
    # A validation batch of 1,000 in float32, and what shuffling takes.
    assert peak < 0.6 * inputs.nbytes


def test_q2f_a_history_that_is_not_empty_is_refused(trained, small_data):
    model, h, history = trained
    with pytest.raises(ValueError, match=f"history: expected an empty list, got {len(history)} epochs"):
        mlp.train(model, *small_data, h, list(history), progress=False)


def test_q2f_learning_rate_follows_its_schedule(small_data):
    h = mlp.Hyperparameters(hidden_sizes=(8,), epochs=4, learning_rate=0.1, schedule="step")
    history = mlp.train(mlp.build(h), *small_data, h, progress=False)
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_q2f_weight_decay_shrinks_the_weights(small_data):
    def weight_norm(weight_decay):
        h = mlp.Hyperparameters(hidden_sizes=(32,), epochs=2, weight_decay=weight_decay)
        model = mlp.build(h)
        mlp.train(model, *small_data, h, progress=False)
        return np.linalg.norm(model.W[0])

    assert weight_norm(0.05) < 0.8 * weight_norm(0.0)


def test_q2f_progress_bar_shows_live_figures(small_data, capsys):
    h = mlp.Hyperparameters(hidden_sizes=(8,), epochs=2)
    history = mlp.train(mlp.build(h), *small_data, h)
    last_line = capsys.readouterr().out.split("\r")[-1]
    assert "2/2" in last_line
    assert f"validation accuracy {history[-1]['validation_accuracy']:.4f}" in last_line


def test_q2f_diverging_loss_stops_with_a_hint_and_keeps_the_last_good_weights(small_data, monkeypatch):
    h = mlp.Hyperparameters(hidden_sizes=(16,), epochs=3)
    model = mlp.build(h)
    steps_per_epoch = 24  # 3000 images, 128 a step

    def poisoned(x, training=False, forward=model.forward, calls=iter(range(1000))):  # noqa: B008
        logits = forward(x, training)
        return logits * np.float32(np.nan) if training and next(calls) == steps_per_epoch + 4 else logits

    monkeypatch.setattr(model, "forward", poisoned)
    history = []
    with pytest.raises(
        mlp.TrainingDiverged, match=r"nan in epoch 2, step 5 of 24; .* epoch 1 are kept.* learning_rate"
    ):
        mlp.train(model, *small_data, h, history, progress=False)
    assert len(history) == 1
    assert validation_accuracy(model, small_data) == history[0]["validation_accuracy"]


def test_q2f_far_too_high_a_learning_rate_diverges_and_leaves_the_first_weights(small_data):
    h = mlp.Hyperparameters(learning_rate=1e30)
    model = mlp.build(h)
    with pytest.raises(mlp.TrainingDiverged, match=r"epoch 1, .* epoch 0 are kept"):
        mlp.train(model, *small_data, h, progress=False)
    np.testing.assert_array_equal(model.parameters, mlp.build(h).parameters)


def test_q2f_weights_broken_by_the_last_step_of_an_epoch_are_not_kept(small_data):
    h = mlp.Hyperparameters(learning_rate=1e30, batch_size=3000, epochs=1)  # one step, after a finite loss
    model = mlp.build(h)
    with pytest.raises(mlp.TrainingDiverged, match=r"epoch 1, validation; .* epoch 0 are kept"):
        mlp.train(model, *small_data, h, progress=False)
    np.testing.assert_array_equal(model.parameters, mlp.build(h).parameters)


def test_q2f_clipping_holds_a_step_to_its_length(small_data):
    h = mlp.Hyperparameters(hidden_sizes=(16,), epochs=1, batch_size=3000, optimizer="sgd", clip_norm=0.01)
    model = mlp.build(h)
    before = model.parameters.copy()
    mlp.train(model, *small_data, h, progress=False)
    assert np.linalg.norm(model.parameters - before) == pytest.approx(h.learning_rate * 0.01, rel=1e-3)


def interrupt_in_epoch(model, epoch, monkeypatch):
    def interrupted(x, training=False, forward=model.forward, calls=iter(range(10**6))):  # noqa: B008
        if training and next(calls) == (epoch - 1) * 24 + 3:
            raise KeyboardInterrupt
        return forward(x, training)

    monkeypatch.setattr(model, "forward", interrupted)


def test_q2f_interrupted_training_keeps_the_best_weights_so_far(small_data, monkeypatch):
    h = mlp.Hyperparameters(hidden_sizes=(16,), epochs=5)
    model = mlp.build(h)
    interrupt_in_epoch(model, 4, monkeypatch)
    history = []
    with pytest.raises(KeyboardInterrupt):
        mlp.train(model, *small_data, h, history, progress=False)
    assert len(history) == 3
    assert validation_accuracy(model, small_data) == mlp.best_epoch(history)["validation_accuracy"]


def test_q2f_training_takes_any_features_not_just_pixels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 600)
    features = (rng.normal(size=(10, 20))[labels] + rng.normal(0, 0.3, (600, 20))).astype(np.float32)
    h = mlp.Hyperparameters(hidden_sizes=(16,), epochs=20)
    model = mlp.build(h, n_inputs=20)
    history = mlp.train(model, (features[:500], labels[:500]), (features[500:], labels[500:]), h, progress=False)
    assert mlp.best_epoch(history)["validation_accuracy"] > 0.95


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, labels: (np.where(np.arange(784) == 3, np.nan, x), labels), "inputs: .* finite numbers, got nan"),
        (lambda x, labels: (x[:, :100], labels), r"inputs: .* \(N, 784\) .* got \(\d+, 100\)"),
        (lambda x, labels: (x, labels + 1), "labels: .* 0 to 9, got 10"),
        (lambda x, labels: (x, labels[:-1]), r"labels: .* shape"),
        (lambda x, labels: ((x * 255).astype(np.uint8), labels), "inputs: expected floats, .* got uint8"),
    ],
)
@pytest.mark.parametrize("part", ["training", "validation"])
def test_q2f_training_refuses_bad_data_before_it_starts(small_data, part, spoil, message):
    data = dict(zip(("training", "validation"), small_data, strict=True))
    data[part] = spoil(*data[part])
    model = mlp.build(mlp.Hyperparameters())
    before = model.parameters.copy()
    with pytest.raises(ValueError, match=f"{part} {message}"):
        mlp.train(model, **data, hyperparameters=mlp.Hyperparameters(), progress=False)
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize("batch_size", [1, 2999])
def test_q2f_training_refuses_batches_that_batch_norm_cannot_use(small_data, batch_size):
    h = mlp.Hyperparameters(batch_norm=True, batch_size=batch_size)
    with pytest.raises(ValueError, match=f"batch_size: .* got {batch_size} for 3,000 images"):
        mlp.train(mlp.build(h), *small_data, h, progress=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("objective", "hinge"),
        ("label_smoothing", 1.0),
        ("optimizer", "lion"),
        ("learning_rate", -0.1),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("schedule", "linear"),
        ("weight_decay", -1e-4),
        ("clip_norm", -1.0),
        ("batch_size", 0),
        ("epochs", 0),
        ("patience", -1),
        ("shift", -1),
        ("seed", -1),
    ],
)
def test_q2f_hyperparameters_refuse_values_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected .* got"):
        mlp.Hyperparameters(**{name: value})


def test_q2f_folder_name_says_what_is_inside():
    h = mlp.Hyperparameters(hidden_sizes=(512, 256, 128, 64, 32, 16), learning_rate=0.1, epochs=350)
    assert h.name == "mlp__layers__512_256_128_64_32_16__lr_0.1__epoch_350__activation_relu__initiation_He"


def test_q2f_compare_trains_every_variant_with_every_seed(small_data):
    base = mlp.Hyperparameters(hidden_sizes=(8,), epochs=2)
    variants = {"none": {}, "half": {"dropout": 0.5}, "diverges": {"learning_rate": 1e30}}
    histories = experiments.compare(*small_data, base, variants, seeds=(0, 1))
    assert [[len(run) for run in runs] for runs in histories.values()] == [[2, 2], [2, 2], [1, 1]]
    accuracy = {label: runs[0][0]["train_accuracy"] for label, runs in histories.items()}
    assert accuracy["half"] < accuracy["none"]
    assert accuracy["diverges"] == 0
    assert histories["none"][0][0]["train_loss"] != histories["none"][1][0]["train_loss"]


def test_q2f_compare_keeps_the_epochs_before_a_divergence(small_data, monkeypatch):
    epochs = []

    def loses_its_way(logits, labels, label_smoothing):
        epochs.append(len(labels))
        return (np.nan if len(epochs) > 30 else 1.0), np.zeros_like(logits)

    monkeypatch.setitem(mlp.OBJECTIVES, "cross_entropy", loses_its_way)
    base = mlp.Hyperparameters(hidden_sizes=(8,), epochs=9)  # 24 steps and a validation an epoch
    histories = experiments.compare(*small_data, base, {"as it is": {}}, seeds=(0,))
    assert [row["epoch"] for row in histories["as it is"][0]] == [1]


def test_q2f_a_comparison_tells_a_difference_from_noise():
    def runs(*accuracies):
        return [[{"validation_accuracy": a, "train_accuracy": a}] for a in accuracies]

    histories = {"a": runs(0.90, 0.92, 0.94), "b": runs(0.90, 0.91, 0.92), "c": runs(0.70, 0.71, 0.72)}
    text = experiments.describe(histories)
    assert "| a       | 0.9200 ± 0.0200          | 3 |" in text
    assert text.endswith("Best: **a**. Within two standard errors of it: b. Below it: c by 0.2100.")
    single = experiments.describe({"a": runs(0.9), "b": runs(0.8)})
    assert "±" not in single, "one run tells nothing of the noise"
    assert "Best" not in single


def test_q2f_comparisons_survive_storing_and_are_tied_to_their_hyperparameters(tmp_path, trained):
    _, base, history = trained
    histories = {"0.10": [history, history[:1]], "x, y": [history[1:]]}
    variants = {"0.10": {"dropout": 0.1}, "x, y": {}}
    experiments.store(tmp_path / "comparison.csv", histories, base, variants)
    assert experiments.load(tmp_path / "comparison.csv", base, variants) == histories
    with pytest.raises(ValueError, match=r"comparison\.csv: made with other hyperparameters"):
        experiments.load(tmp_path / "comparison.csv", base, variants | {"x, y": {"dropout": 0.2}})


def test_q2f_evaluate_agrees_with_a_count_by_hand(trained, small_data):
    model, _, _ = trained
    inputs, labels = small_data[1]
    metrics = mlp.evaluate(model, inputs, labels)
    predictions = model.predict(inputs)
    is_bag, called_bag = labels == 8, predictions == 8
    hits = np.sum(is_bag & called_bag)
    bag = metrics["per_class"]["Bag"]
    assert bag["precision"] == pytest.approx(hits / called_bag.sum())
    assert bag["recall"] == pytest.approx(hits / is_bag.sum())
    assert metrics["accuracy"] == np.mean(predictions == labels)
    assert metrics["confusion_matrix"][8][6] == np.sum(is_bag & (predictions == 6))
    assert np.sum(metrics["confusion_matrix"]) == metrics["n_images"] == len(labels)


# Saved models


@pytest.fixture
def saved_folder(tmp_path, trained, small_data):
    model, h, history = trained
    metrics = {"validation": mlp.evaluate(model, *small_data[1])}
    test = load_splits(**SMALL_SPLIT).test
    metrics["test"] = mlp.evaluate(model, preprocess(test.images), test.labels)
    folder = tmp_path / h.name
    mlp.save(folder, model, h, history, SMALL_SPLIT, metrics)
    return folder


def test_q2_saved_model_gives_the_same_logits_and_says_what_it_is(saved_folder, trained, small_data):
    model, h, history = trained
    loaded, saved = mlp.load(saved_folder)
    np.testing.assert_array_equal(loaded.predict_logits(small_data[1][0]), model.predict_logits(small_data[1][0]))
    assert repr(loaded) == repr(model)
    assert saved.history == history
    description = json.loads((saved_folder / "model.json").read_text())
    assert description["hyperparameters"]["dropout"] == h.dropout
    assert description["split"] == SMALL_SPLIT
    assert description["versions"]["numpy"] == np.__version__
    assert {path.suffix for path in saved_folder.iterdir()} == {".safetensors", ".json", ".csv"}


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "history.csv", "metrics.json"])
def test_q2_incomplete_or_damaged_saved_model_is_refused_by_the_files_name(saved_folder, name):
    path = saved_folder / name
    content = path.read_bytes()
    # In history.csv a line is lost: what is left is a table, too.
    path.write_bytes(content[: content.rindex(b"\n", 0, -1) + 1 if name == "history.csv" else len(content) // 2])
    with pytest.raises(SavedModelError, match=name):
        mlp.load(saved_folder)
    path.unlink()
    with pytest.raises(SavedModelError, match=f"{name}: missing"):
        mlp.load(saved_folder)


@pytest.mark.parametrize(
    ("file", "keys", "value"),
    [
        ("model.json", ["hyperparameters"], []),
        ("model.json", ["hyperparameters"], None),
        ("model.json", ["training_seconds"], KeyError),
        ("model.json", ["split"], KeyError),
        ("metrics.json", ["test", "per_class"], KeyError),
        ("metrics.json", ["validation", "f1"], KeyError),
    ],
)
def test_q2_saved_model_in_which_something_is_missing_is_refused(saved_folder, file, keys, value):
    content = json.loads((saved_folder / file).read_text())
    *outer, last = keys
    inner = content
    for key in outer:
        inner = inner[key]
    if value is KeyError:
        del inner[last]
    else:
        inner[last] = value
    (saved_folder / file).write_text(json.dumps(content))
    with pytest.raises(SavedModelError, match="not a saved NumPy MLP"):
        mlp.load(saved_folder)


def test_q2_what_is_no_saved_mlp_is_refused(saved_folder, tmp_path):
    metrics = (saved_folder / "metrics.json").read_text()
    (saved_folder / "metrics.json").write_text("{}")
    with pytest.raises(SavedModelError, match="validation"):
        mlp.load(saved_folder)
    (saved_folder / "metrics.json").write_text(metrics)
    with pytest.raises(SavedModelError, match="no such folder"):
        mlp.load(tmp_path / "nothing")
    description = json.loads((saved_folder / "model.json").read_text())
    description["hyperparameters"]["hidden_sizes"] = [31]
    (saved_folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(SavedModelError, match=r"W1 of shape \(784, 31\), got \(784, 32\)"):
        mlp.load(saved_folder)


def test_q2_a_save_cut_off_between_its_renames_is_put_back(saved_folder):
    expected = load_model(saved_folder)
    saved_folder.rename(saved_folder.with_name(saved_folder.name + ".old.tmp"))
    assert load_model(saved_folder).description == expected.description
    assert [path.name for path in saved_folder.parent.iterdir()] == [saved_folder.name]


def test_q2_a_model_that_was_put_aside_is_not_overwritten_unasked(saved_folder):
    saved_folder.rename(saved_folder.with_name(saved_folder.name + ".old.tmp"))
    with pytest.raises(ValueError, match=r"exists; choose another --models-dir"):
        check_folder_is_free(saved_folder, overwrite=False)


def test_q2_removed_is_removed_together_with_what_was_put_aside(saved_folder):
    """As a save that was cut off in its last step leaves it."""
    shutil.copytree(saved_folder, saved_folder.with_name(saved_folder.name + ".old.tmp"))
    remove_saved(saved_folder)
    assert not is_saved(saved_folder)
    assert list(saved_folder.parent.iterdir()) == []


def test_q2_a_save_that_fails_leaves_the_old_model_whole(saved_folder, trained):
    before = {path.name: path.read_bytes() for path in saved_folder.iterdir()}
    saved = load_model(saved_folder)
    with pytest.raises(TypeError):
        save_model(saved_folder, SavedModel(saved.weights, saved.description, saved.history, {"not JSON": object()}))
    assert {path.name: path.read_bytes() for path in saved_folder.iterdir()} == before
    save_model(saved_folder, saved)  # what the failed one left is no hindrance
    assert [path.name for path in saved_folder.parent.iterdir()] == [saved_folder.name]


# The command line


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = mlp.main([str(argument) for argument in arguments])
        return status, capsys.readouterr()

    return run


def test_q2_command_line_trains_evaluates_inspects_and_predicts(run, tmp_path, small_splits):
    options = ["--hidden-sizes", 24, 16, "--epochs", 2, "--batch-norm", "--train-size", 3000, "--validation-size", 1000]
    status, printed = run("train", *options, "--models-dir", tmp_path)
    assert status == 0
    folder = tmp_path / "mlp__layers__24_16__lr_0.05__epoch_2__activation_relu__initiation_He"
    accuracy = re.search(r"test accuracy (\d\.\d{4})\n$", printed.out)[1]

    status, printed = run("evaluate", folder)
    assert status == 0
    assert printed.out.splitlines()[-1] == f"test accuracy {accuracy}"

    status, printed = run("inspect", folder)
    assert status == 0
    for text in (
        "gamma1 x_hat(a0 W1) + b1",
        "(N, 24)",
        "19,450 parameters",
        "| learning_rate",
        "| train ",
        "| best ",
        "| Ankle boot",
        f"test accuracy {accuracy}",
    ):
        assert text in printed.out

    model, _ = mlp.load(folder)
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, image in zip(pictures, small_splits.test.images, strict=False):
        Image.fromarray(image).save(path)
    inverted = tmp_path / "inverted.png"
    Image.fromarray(255 - small_splits.test.images[0]).save(inverted)
    status, printed = run("predict", folder, *pictures)
    assert status == 0
    lines = printed.out.splitlines()
    names = [mlp.CLASS_NAMES[k] for k in model.predict(preprocess(small_splits.test.images[:2]))]
    assert [line.startswith(f"{p}: {name} ") for line, p, name in zip(lines, pictures, names, strict=True)] == [
        True
    ] * 2
    _, printed = run("predict", folder, inverted, "--invert")
    assert printed.out.split(": ")[1] == lines[0].split(": ")[1] + "\n"

    status, printed = run("train", *options, "--models-dir", tmp_path)
    assert status == 1
    assert f"{folder} exists" in printed.err
    assert "--overwrite" in printed.err
    status, _ = run("train", *options, "--models-dir", tmp_path, "--overwrite", "--seed", 1)
    assert status == 0
    assert not np.array_equal(mlp.load(folder)[0].parameters, model.parameters)


def test_q2_evaluate_fails_when_the_stored_accuracy_is_not_that_of_the_weights(run, saved_folder):
    path = saved_folder / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["test"]["accuracy"] += 0.001
    path.write_text(json.dumps(metrics))
    status, printed = run("evaluate", saved_folder)
    assert status == 1
    assert f"stored test accuracy is {metrics['test']['accuracy']:.4f}" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--activation", "relo"], "activation: expected one of relu"),
        (["train", "--dropout", "1.5"], "dropout: expected a number from 0 to below 1, got 1.5"),
        (["train", "--train-size", "60000"], "at most 60,000 images"),
        (["evaluate", "models/mlp/nothing"], "no such folder"),
    ],
)
def test_q2_command_line_explains_bad_input_without_a_traceback(run, tmp_path, arguments, message):
    if arguments[0] == "train":
        arguments = [*arguments, "--models-dir", str(tmp_path)]
    status, printed = run(*arguments)
    assert status == 1
    assert printed.err.startswith("mlp.py: ")
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert not list(tmp_path.iterdir())


def test_q2_interrupted_command_saves_the_best_weights_so_far(run, tmp_path, monkeypatch):
    build = mlp.build

    def build_interrupted(h):
        model = build(h)
        interrupt_in_epoch(model, 3, monkeypatch)
        return model

    monkeypatch.setattr(mlp, "build", build_interrupted)
    options = ["--hidden-sizes", 16, "--train-size", 3000, "--validation-size", 1000, "--models-dir", tmp_path]
    status, printed = run("train", *options)
    assert status == 130
    assert "interrupted" in printed.err
    monkeypatch.undo()
    (folder,) = tmp_path.iterdir()
    _, saved = mlp.load(folder)
    assert saved.description["epochs_run"] == len(saved.history) == 2
    assert run("evaluate", folder)[0] == 0


# The models in the repository


@pytest.mark.parametrize(
    ("layers", "bar"),
    [("128__", 0.885), ("512_256_128_64_32_16__", 0.885), ("", 0.905)],
    ids=["128", "deep", "best"],
)
def test_q2_saved_model_best_on_validation_reaches_its_bar(run, saved_models, layers, bar):
    folders = [folder for name, folder in saved_models.items() if name.startswith(f"mlp__layers__{layers}")]
    folder = max(folders, key=lambda folder: load_model(folder).metrics["validation"]["accuracy"])
    status, printed = run("evaluate", folder)
    assert status == 0, printed.err
    assert float(printed.out.split()[-1]) >= bar
