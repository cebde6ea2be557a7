"""Training an MLP on garments, its saved folder and its command line."""

import json
import re
import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

import mlp
from data_preparation import CLASS_NAMES, Split, preprocess, ten_views
from model_utils.losses import softmax
from model_utils.saved_models import SavedModelError, load_model, save_model
from model_utils.training import TrainingDiverged, best_epoch

pytestmark = pytest.mark.q2f

SMALL_SPLIT = {"train": 3000, "validation": 1000, "test": "official", "seed": 0}
STEPS_PER_EPOCH = 24  # 3000 images, 128 a step


def accuracy(model, split):
    return np.mean(model.predict(preprocess(split.images)) == split.labels)


def spoil_step(model, monkeypatch, epoch, step, accident):
    """Let an accident happen to the logits of one step of the model's training."""

    def forward(x, training=False, forward=model.forward, calls=iter(range(10**6))):  # noqa: B008
        logits = forward(x, training)
        return accident(logits) if training and next(calls) == (epoch - 1) * STEPS_PER_EPOCH + step - 1 else logits

    monkeypatch.setattr(model, "forward", forward)


def press_ctrl_c(logits):
    raise KeyboardInterrupt


# Training ----------------------------------------------------------------------------------------------------------


def test_training_learns_real_garments(trained, small_splits):
    model, h, history = trained
    assert len(history) == h.epochs
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert accuracy(model, small_splits.validation) > 0.7  # a guess is right in 0.1


def test_training_ends_with_the_weights_best_on_validation(small_splits, monkeypatch):
    h = mlp.MLPHyperparameters(hidden_sizes=(8,), epochs=4)
    model = mlp.build(h)
    weights_by_epoch = []

    def loss_and_accuracy(*_):
        weights_by_epoch.append(model.parameters.copy())
        return 1.0, [0.5, 0.9, 0.3, 0.9][len(weights_by_epoch) - 1]

    monkeypatch.setattr(mlp, "_loss_and_accuracy", loss_and_accuracy)
    history = mlp.train(model, *small_splits[:2], h)
    assert best_epoch(history)["epoch"] == 2
    np.testing.assert_array_equal(model.parameters, weights_by_epoch[1])


def test_same_seed_same_weights_to_the_last_bit(small_splits):
    def train(seed):
        h = mlp.MLPHyperparameters(hidden_sizes=(32,), epochs=2, dropout=0.2, flip=True, shift=1, seed=seed)
        model = mlp.build(h)
        mlp.train(model, *small_splits[:2], h)
        return model.parameters

    np.testing.assert_array_equal(train(0), train(0))
    assert not np.array_equal(train(0), train(1))


@pytest.mark.q2b
def test_images_train_to_the_same_weights_as_their_preprocessed_inputs(small_splits):
    h = mlp.MLPHyperparameters(hidden_sizes=(16,), epochs=2, batch_size=96)
    models = []
    for prepare in (np.asarray, preprocess):
        training, validation = (Split(prepare(images), labels) for images, labels in small_splits[:2])
        model = mlp.build(h)
        history = mlp.train(model, training, validation, h)
        models.append((model.parameters, history[-1]["validation_loss"], mlp.evaluate(model, validation)))
    np.testing.assert_array_equal(models[0][0], models[1][0])
    assert models[0][1:] == models[1][1:]


@pytest.mark.q2b
@pytest.mark.parametrize("augmentation", [{"flip": True}, {"shift": 1}])
def test_augmentation_changes_images_and_is_refused_for_features(small_splits, augmentation):
    parameters = []
    for changes in ({}, augmentation):
        # One step with all images: only the images themselves can make a difference.
        h = mlp.MLPHyperparameters(hidden_sizes=(8,), epochs=1, batch_size=3000, **changes)
        model = mlp.build(h)
        mlp.train(model, *small_splits[:2], h)
        parameters.append(model.parameters)
    assert not np.allclose(*parameters)
    features = [Split(preprocess(images), labels) for images, labels in small_splits[:2]]
    with pytest.raises(ValueError, match="training images: flip and shift need images, uint8, got features"):
        mlp.train(model, *features, h)


@pytest.mark.q2b
def test_images_of_another_width_than_the_models_are_refused(small_splits):
    with pytest.raises(ValueError, match=r"training images: expected shape \(N, 100\)"):
        mlp.train(mlp.build(mlp.MLPHyperparameters(), 100), *small_splits[:2], mlp.MLPHyperparameters())


def test_early_stopping_waits_for_its_patience(small_splits, monkeypatch):
    accuracies = iter([0.5, 0.7, 0.6, 0.8, 0.8, 0.7, 0.9])
    monkeypatch.setattr(mlp, "_loss_and_accuracy", lambda *_: (1.0, next(accuracies)))
    h = mlp.MLPHyperparameters(hidden_sizes=(8,), epochs=50, patience=2)
    history = mlp.train(mlp.build(h), *small_splits[:2], h)
    assert [row["validation_accuracy"] for row in history] == [0.5, 0.7, 0.6, 0.8, 0.8, 0.7]


def test_images_take_a_quarter_of_the_memory_of_their_inputs(small_splits):
    """Training leaves the images as they are, and adds little to them: they are never all preprocessed at once."""
    h = mlp.MLPHyperparameters(hidden_sizes=(16,), epochs=1)
    model = mlp.build(h)
    tracemalloc.start()
    try:
        mlp.train(model, *small_splits[:2], h)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    inputs = preprocess(small_splits.train.images)
    assert inputs.nbytes == 4 * small_splits.train.images.nbytes
    # A validation batch of 1,000 in float32, and what shuffling takes.
    assert peak < 0.6 * inputs.nbytes


def test_on_epoch_gets_each_row_of_the_history_in_order(small_splits):
    h = mlp.MLPHyperparameters(hidden_sizes=(8,), epochs=3)
    rows = []
    history = mlp.train(mlp.build(h), *small_splits[:2], h, on_epoch=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows == history


def test_what_on_epoch_raises_ends_training_and_the_best_weights_so_far_are_kept(small_splits, monkeypatch):
    accuracies, weights_by_epoch = [0.5, 0.9, 0.3], []
    h = mlp.MLPHyperparameters(hidden_sizes=(8,), epochs=9)
    model = mlp.build(h)
    monkeypatch.setattr(mlp, "_loss_and_accuracy", lambda *_: (1.0, accuracies[len(weights_by_epoch)]))

    def on_epoch(row):
        weights_by_epoch.append(model.parameters.copy())
        if row["epoch"] == 3:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        mlp.train(model, *small_splits[:2], h, on_epoch)
    assert len(weights_by_epoch) == 3
    np.testing.assert_array_equal(model.parameters, weights_by_epoch[1])


def test_learning_rate_follows_its_schedule(small_splits):
    h = mlp.MLPHyperparameters(hidden_sizes=(8,), epochs=4, learning_rate=0.1, schedule="step")
    history = mlp.train(mlp.build(h), *small_splits[:2], h)
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_weight_decay_shrinks_the_weights(small_splits):
    def weight_norm(weight_decay):
        h = mlp.MLPHyperparameters(hidden_sizes=(32,), epochs=2, weight_decay=weight_decay)
        model = mlp.build(h)
        mlp.train(model, *small_splits[:2], h)
        return np.linalg.norm(model.W[0])

    assert weight_norm(0.05) < 0.8 * weight_norm(0.0)


def test_clipping_holds_a_step_to_its_length(small_splits):
    h = mlp.MLPHyperparameters(hidden_sizes=(16,), epochs=1, batch_size=3000, optimizer="sgd", clip_norm=0.01)
    model = mlp.build(h)
    before = model.parameters.copy()
    mlp.train(model, *small_splits[:2], h)
    assert np.linalg.norm(model.parameters - before) == pytest.approx(h.learning_rate * 0.01, rel=1e-3)


def test_diverging_loss_stops_with_a_hint_and_keeps_the_last_good_weights(small_splits, monkeypatch):
    h = mlp.MLPHyperparameters(hidden_sizes=(16,), epochs=3)
    model = mlp.build(h)
    spoil_step(model, monkeypatch, epoch=2, step=5, accident=lambda logits: logits * np.float32(np.nan))
    rows = []
    with pytest.raises(TrainingDiverged) as caught:
        mlp.train(model, *small_splits[:2], h, on_epoch=rows.append)
    assert str(caught.value) == (
        "loss is nan in epoch 2, step 5 of 24; the best weights before it are kept. Try a learning_rate below 0.05."
    )
    assert len(rows) == 1
    assert accuracy(model, small_splits.validation) == rows[0]["validation_accuracy"]


@pytest.mark.parametrize(
    ("batch_size", "where"),
    [
        (128, "epoch 1, step"),
        (3000, "epoch 1, validation"),  # one step, after a finite loss
    ],
)
def test_far_too_high_a_learning_rate_diverges_and_leaves_the_initial_weights(small_splits, batch_size, where):
    h = mlp.MLPHyperparameters(learning_rate=1e30, batch_size=batch_size, epochs=1)
    model = mlp.build(h)
    with pytest.raises(TrainingDiverged, match=f"in {where}.*; the best weights before it are kept"):
        mlp.train(model, *small_splits[:2], h)
    np.testing.assert_array_equal(model.parameters, mlp.build(h).parameters)


def test_interrupted_training_keeps_the_best_weights_so_far(small_splits, monkeypatch):
    h = mlp.MLPHyperparameters(hidden_sizes=(16,), epochs=5)
    model = mlp.build(h)
    spoil_step(model, monkeypatch, epoch=4, step=4, accident=press_ctrl_c)
    rows = []
    with pytest.raises(KeyboardInterrupt):
        mlp.train(model, *small_splits[:2], h, on_epoch=rows.append)
    assert len(rows) == 3
    assert accuracy(model, small_splits.validation) == best_epoch(rows)["validation_accuracy"]


def test_training_takes_any_features_not_just_pixels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 600)
    features = (rng.normal(size=(10, 20))[labels] + rng.normal(0, 0.3, (600, 20))).astype(np.float32)
    h = mlp.MLPHyperparameters(hidden_sizes=(16,), epochs=20)
    model = mlp.build(h, n_inputs=20)
    history = mlp.train(model, Split(features[:500], labels[:500]), Split(features[500:], labels[500:]), h)
    assert best_epoch(history)["validation_accuracy"] > 0.95


def as_features(change):
    return lambda images, labels: (change(preprocess(images)), labels)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            as_features(lambda x: np.where(np.arange(784) == 3, np.nan, x)),
            "inputs: expected finite numbers, got nan in column 3",
        ),
        (as_features(lambda x: x[:, :100]), r"inputs: .* \(N, 784\) .* got \(\d+, 100\)"),
        (as_features(lambda x: (x * 255).astype(np.int64)), "inputs: expected floats, .* got int64"),
        (as_features(lambda x: (x * 255).astype(np.uint8)), r"images: .* \(N, 28, 28\) .* got \(\d+, 784\)"),
        (lambda images, labels: (images[:, :14], labels), r"images: .* \(N, 28, 28\) .* got \(\d+, 14, 28\)"),
        (lambda images, labels: (images[:0], labels[:0]), r"images: .* N at least 1, got \(0, 28, 28\)"),
        (lambda images, labels: (images, labels + 1), "labels: .* 0 to 9, got 10"),
        (lambda images, labels: (images, labels[:-1]), r"labels: .* shape"),
    ],
)
@pytest.mark.parametrize("part", ["training", "validation"])
def test_training_refuses_bad_data_before_it_starts(small_splits, part, spoil, message):
    data = dict(zip(("training", "validation"), small_splits, strict=False))
    data[part] = spoil(*data[part])
    model = mlp.build(mlp.MLPHyperparameters())
    before = model.parameters.copy()
    with pytest.raises(ValueError, match=f"{part} {message}"):
        mlp.train(model, **data, hyperparameters=mlp.MLPHyperparameters())
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize("batch_size", [1, 2999])
def test_training_refuses_batches_that_batch_norm_cannot_use(small_splits, batch_size):
    h = mlp.MLPHyperparameters(batch_norm=True, batch_size=batch_size)
    with pytest.raises(ValueError, match=f"batch_size: .* but {batch_size} for 3,000 samples"):
        mlp.train(mlp.build(h), *small_splits[:2], h)


def test_folder_name_says_what_is_inside():
    h = mlp.MLPHyperparameters(hidden_sizes=(512, 256, 128, 64, 32, 16), learning_rate=0.1, epochs=350)
    assert h.name == "mlp__layers__512_256_128_64_32_16__lr_0.1__epoch_350__activation_relu__initiation_He"


# Predicting and measuring ------------------------------------------------------------------------------------------


@pytest.mark.q2b
def test_logits_of_images_are_those_of_their_inputs_whatever_the_batch(trained, small_splits):
    model, _, _ = trained
    images = small_splits.test.images[:250]
    expected = model.predict_logits(preprocess(images))
    np.testing.assert_allclose(mlp.predict_logits(model, images, batch_size=100), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(mlp.predict_logits(model, preprocess(images)), expected)


@pytest.mark.parametrize("n_views", [5, 10])
def test_views_predict_by_the_mean_of_their_logits(n_views, trained, small_splits):
    model, _, _ = trained
    images = small_splits.test.images[:150]
    expected = sum(model.predict_logits(preprocess(view)) for view in ten_views(images)[:n_views]) / n_views
    actual = mlp.predict_logits(model, images, n_views=n_views, batch_size=100)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_model_that_averages_views_is_measured_with_one_and_with_all(trained, small_splits):
    model, h, _ = trained
    h = replace(mlp.MLPHyperparameters(), hidden_sizes=h.hidden_sizes)
    for without_views in (h, mlp.ClassifierHyperparameters()):
        assert mlp.measure_mlp(model, small_splits, without_views).keys() == {"validation", "test"}
    metrics = mlp.measure_mlp(model, small_splits, replace(h, n_views=5))
    assert metrics["test"] == mlp.evaluate(model, small_splits.test, n_views=5)
    assert metrics["test_one_view"] == mlp.evaluate(model, small_splits.test)
    assert metrics.keys() == {"validation", "test", "validation_one_view", "test_one_view"}


def test_evaluate_agrees_with_a_count_by_hand(trained, small_splits):
    model, _, history = trained
    images, labels = small_splits.validation
    metrics = mlp.evaluate(model, small_splits.validation)
    predictions = model.predict(preprocess(images))
    is_bag, called_bag = labels == 8, predictions == 8
    hits = np.sum(is_bag & called_bag)
    bag = metrics["per_class"]["Bag"]
    assert bag["precision"] == pytest.approx(hits / called_bag.sum())
    assert bag["recall"] == pytest.approx(hits / is_bag.sum())
    assert metrics["accuracy"] == np.mean(predictions == labels) == best_epoch(history)["validation_accuracy"]
    assert metrics["confusion_matrix"][8][6] == np.sum(is_bag & (predictions == 6))
    assert np.sum(metrics["confusion_matrix"]) == metrics["n_images"] == len(labels)
    with pytest.raises(ValueError, match=r"split labels: expected shape \(1000,\), .* got \(999,\)"):
        mlp.evaluate(model, Split(images, labels[1:]))


# Saved models ------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved_folder(tmp_path, trained, small_splits):
    model, h, history = trained
    metrics = {part: mlp.evaluate(model, getattr(small_splits, part)) for part in ("validation", "test")}
    folder = tmp_path / h.name
    mlp.save(folder, model, h, history, SMALL_SPLIT, metrics)
    return folder


def resave(folder, change):
    """Save a model again after a change, with checksums that fit."""
    saved = load_model(folder, "mlp")
    change(saved)
    save_model(folder, saved)


def test_saved_model_gives_the_same_logits_and_says_what_it_is(saved_folder, trained, small_splits):
    model, h, history = trained
    loaded, saved = mlp.load(saved_folder)
    logits_of = partial(mlp.predict_logits, x=small_splits.validation.images)
    np.testing.assert_array_equal(logits_of(loaded), logits_of(model))
    assert repr(loaded) == repr(model)
    assert saved.history == history
    description = json.loads((saved_folder / "model.json").read_text())
    assert description["kind"] == "mlp"
    assert description["hyperparameters"]["dropout"] == h.dropout
    assert description["split"] == SMALL_SPLIT
    assert description["versions"]["numpy"] == np.__version__
    assert {path.suffix for path in saved_folder.iterdir()} == {".safetensors", ".json", ".csv", ".md", ".png"}


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "history.csv", "metrics.json"])
def test_incomplete_or_damaged_saved_model_is_refused_by_the_files_name(saved_folder, name):
    path = saved_folder / name
    content = path.read_bytes()
    # In history.csv a line is lost: what is left is a table, too.
    path.write_bytes(content[: content.rindex(b"\n", 0, -1) + 1 if name == "history.csv" else len(content) // 2])
    with pytest.raises(SavedModelError, match=name):
        mlp.load(saved_folder)
    path.unlink()
    with pytest.raises(SavedModelError, match=f"{name}: missing"):
        mlp.load(saved_folder)


def hyperparameter(name, value):
    return lambda saved: saved.description["hyperparameters"].update({name: value})


def weight(name, change):
    return lambda saved: saved.weights.update({name: change(saved.weights[name])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved.description.update(hyperparameters=[]), r"model\.json: damaged .*hyperparameters"),
        (lambda saved: saved.description.update(dtype="O"), "float32, got|, O, got"),
        (lambda saved: saved.description.update(sizes=[784, 33, 10]), r"sizes: expected \[32, 10\]"),
        (lambda saved: saved.description.update(sizes=[783, 32, 10]), r"W1 of shape \(783, 32\)"),
        (hyperparameter("hidden_sizes", [31]), r"sizes: expected \[31, 10\]"),
        (hyperparameter("activation", ["relu"]), "not a saved NumPy MLP"),
        (hyperparameter("dropout", float("nan")), "dropout: expected a number"),
        (hyperparameter("depth", 3), "depth"),
        (hyperparameter("batch_norm", False), "gamma1, running_mean1, running_var1 not known"),
        (lambda saved: saved.weights.pop("b2"), "b2 missing"),
        (weight("W1", lambda W: W.astype(np.float64)), "W1 of shape .* float32, got .* float64"),
        (weight("W1", lambda W: W.T.copy()), r"W1 of shape \(784, 32\), float32, got \(32, 784\)"),
        (weight("b1", lambda b: b * np.float32("nan")), "finite numbers in b1"),
        (weight("b1", lambda b: b + np.float32("inf")), "finite numbers in b1"),
        (weight("running_var1", np.negative), "variances of at least 0 in running_var1"),
    ],
)
def test_saved_model_that_contradicts_itself_is_refused(saved_folder, change, message):
    resave(saved_folder, change)
    with pytest.raises(SavedModelError, match=message):
        mlp.load(saved_folder)


def test_a_saved_model_that_claims_huge_layers_is_refused_before_it_is_built(saved_folder, monkeypatch):
    def claim(saved):
        saved.description["sizes"] = [784, 100_000, 10]
        saved.description["hyperparameters"]["hidden_sizes"] = [100_000]

    resave(saved_folder, claim)
    monkeypatch.setattr(mlp, "build", lambda *_: pytest.fail("it is built"))
    with pytest.raises(SavedModelError, match=r"W1 of shape \(784, 100000\)"):
        mlp.load(saved_folder)


def test_what_is_no_saved_mlp_is_refused(saved_folder, tmp_path):
    with pytest.raises(SavedModelError, match="no such folder"):
        mlp.load(tmp_path / "nothing")
    resave(saved_folder, lambda saved: saved.description.update(kind="pair"))
    with pytest.raises(SavedModelError, match=r"expected kind mlp in model\.json, got 'pair'"):
        mlp.load(saved_folder)


# The command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = mlp.main([str(argument) for argument in arguments])
        return status, capsys.readouterr()

    return run


@pytest.fixture
def train_small(run, tmp_path):
    return partial(run, "train", "--train-size", 3000, "--validation-size", 1000, "--models-dir", tmp_path)


def test_command_line_trains_evaluates_inspects_and_predicts(run, train_small, tmp_path, small_splits):
    options = ["--hidden-sizes", 24, 16, "--epochs", 2, "--batch-norm"]
    status, printed = train_small(*options)
    assert status == 0
    assert "2/2" in printed.out, "the progress bar"
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
    names = [CLASS_NAMES[k] for k in model.predict(preprocess(small_splits.test.images[:2]))]
    for line, path, name in zip(lines, pictures, names, strict=True):
        assert line.startswith(f"{path}: {name} ")
    _, printed = run("predict", folder, inverted, "--invert")
    assert printed.out.split(": ")[1] == lines[0].split(": ")[1] + "\n"

    status, printed = train_small(*options)
    assert status == 1
    assert f"{folder} exists" in printed.err
    assert "--overwrite" in printed.err
    status, _ = train_small(*options, "--overwrite", "--seed", 1)
    assert status == 0
    assert not np.array_equal(mlp.load(folder)[0].parameters, model.parameters)


def test_command_line_shows_the_accuracy_of_one_view_and_of_all(run, train_small, tmp_path, small_splits):
    _, printed = train_small("--hidden-sizes", 16, "--epochs", 1, "--shift", 1, "--n-views", 5)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    metrics = json.loads((folder / "metrics.json").read_text())
    all_views, one = (f"{metrics[part]['accuracy']:.4f}" for part in ("test", "test_one_view"))
    assert one != all_views
    assert printed.out.endswith(f"test accuracy {all_views}\n")
    status, printed = run("evaluate", folder)
    assert status == 0
    lines = printed.out.splitlines()
    assert (lines[0], lines[-1]) == (f"test accuracy from one view {one}; from 5 views:", f"test accuracy {all_views}")
    picture = tmp_path / "a.png"
    Image.fromarray(small_splits.test.images[0]).save(picture)
    model, _ = mlp.load(folder)
    p = softmax(mlp.predict_logits(model, small_splits.test.images[:1], n_views=5))[0]
    _, printed = run("predict", folder, picture)
    assert f"{CLASS_NAMES[p.argmax()]} {p.max():.3f}" in printed.out


def test_evaluate_fails_when_the_stored_accuracy_is_not_that_of_the_weights(run, saved_folder):
    stored = load_model(saved_folder, "mlp").metrics["test"]["accuracy"] + 0.001
    resave(saved_folder, lambda saved: saved.metrics["test"].update(accuracy=stored))
    status, printed = run("evaluate", saved_folder)
    assert status == 1
    assert f"stored test accuracy is {stored:.4f}" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--activation", "relo"], "activation: expected one of relu"),
        (["train", "--dropout", "1.5"], "dropout: expected a number from 0 to below 1, got 1.5"),
        (["train", "--train-size", "60000"], "at most 60,000 images"),
        (["evaluate", "models/mlp/nothing"], "no such folder"),
    ],
)
def test_command_line_explains_bad_input_without_a_traceback(run, tmp_path, arguments, message):
    if arguments[0] == "train":
        arguments = [*arguments, "--models-dir", tmp_path]
    status, printed = run(*arguments)
    assert status == 1
    assert printed.err.startswith("mlp.py: ")
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert not list(tmp_path.iterdir())


def stop_training(monkeypatch, epoch, accident):
    """Let an accident happen in an epoch of the model that the command line is about to build."""
    build = mlp.build

    def build_spoilt(h):
        model = build(h)
        spoil_step(model, monkeypatch, epoch, 4, accident)
        return model

    monkeypatch.setattr(mlp, "build", build_spoilt)


ACCIDENTS = pytest.mark.parametrize(
    ("accident", "expected_status", "message"),
    [(press_ctrl_c, 130, "interrupted"), (lambda logits: logits * np.float32(np.inf), 1, "loss is nan in epoch")],
    ids=["Ctrl-C", "divergence"],
)


@ACCIDENTS
def test_stopped_command_saves_the_best_weights_so_far(
    run, train_small, tmp_path, monkeypatch, accident, expected_status, message
):
    stop_training(monkeypatch, 3, accident)
    status, printed = train_small("--hidden-sizes", 16)
    assert status == expected_status
    assert printed.err.startswith(f"mlp.py: {message}")
    monkeypatch.undo()
    (folder,) = tmp_path.iterdir()
    _, saved = mlp.load(folder)
    assert saved.description["epochs_run"] == len(saved.history) == 2
    assert run("evaluate", folder)[0] == 0


@ACCIDENTS
def test_command_that_is_stopped_in_its_first_epoch_saves_nothing(
    train_small, tmp_path, monkeypatch, accident, expected_status, message
):
    stop_training(monkeypatch, 1, accident)
    status, printed = train_small("--hidden-sizes", 16)
    assert status == expected_status
    assert printed.err.startswith(f"mlp.py: {message}")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_costs_neither_the_trained_model_nor_the_old_one(run, train_small, tmp_path, full_disk):
    options = ["--hidden-sizes", 16, "--epochs", 1, "--models-dir", tmp_path / "models"]
    assert train_small(*options)[0] == 0
    (folder,) = (path for path in (tmp_path / "models").iterdir())
    before = mlp.load(folder)[0].parameters
    full_disk(tmp_path / "models")
    status, printed = train_small(*options, "--overwrite", "--seed", 1)
    assert status == 1
    assert printed.err.count("\n") == 1
    elsewhere = re.fullmatch(
        r"mlp\.py: (.+): not saved \(.*No space left.*\); it is in (.+) instead: .*\n", printed.err
    )[2]
    assert np.array_equal(mlp.load(folder)[0].parameters, before)
    assert run("evaluate", elsewhere)[0] == 0
    assert mlp.load(elsewhere)[1].description["hyperparameters"]["seed"] == 1
    full_disk(tmp_path / "elsewhere")
    status, printed = train_small(*options, "--overwrite")
    assert status == 1
    assert re.fullmatch(
        r"mlp\.py: .+: not saved .*; saving it elsewhere failed, too: .+: not saved \(.*No space left.*\n", printed.err
    )
