"""Training a backbone, the pair with the NumPy MLP, saved pairs, and the command line."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cnn
import mlp
from data_preparation import CLASS_NAMES, Split, load_splits
from model_utils import backbone_training, backbones, command_line
from model_utils.backbones.imagenet import ImageNetHyperparameters
from model_utils.backbones.lenet import LeNetHyperparameters
from model_utils.cnn_backbone import CNNHyperparameters
from model_utils.pair import extract_features
from model_utils.saved_models import SavedModelError, load_model, save_model
from model_utils.training import TrainingDiverged, best_epoch, measure

pytestmark = pytest.mark.q3d

ROOT = Path(__file__).parents[1]
SMALL = CNNHyperparameters(channels=(4, 8, 8, 8, 8), n_features=16, epochs=3, batch_size=64, learning_rate=0.02)
SPLIT = {"train": 1500, "validation": 500, "test": 2000, "seed": 0}
# What `train_small` asks the command line for.
PAIR_H = CNNHyperparameters(channels=(4, 8, 8, 8, 8), n_features=16, epochs=2)
PAIR_MLP_H = replace(cnn.CLASSIFIER, hidden_sizes=(16,), epochs=2)


@pytest.fixture(scope="module")
def splits():
    return load_splits(**SPLIT)


@pytest.fixture(scope="module")
def few(splits):
    """Ten batches."""
    return Split(splits.train.images[:640], splits.train.labels[:640])


@pytest.fixture(scope="module")
def unbroken(splits):
    """A backbone trained in one go, with its history and what on_epoch got."""
    backbone, rows = cnn.build(SMALL), []
    history = cnn.train(backbone, splits.train, splits.validation, SMALL, rows.append)
    return backbone, history, rows


@pytest.fixture(scope="module")
def trained_pair(splits):
    """What `train_pair` returns: a pair, its histories and its metrics."""
    return cnn.train_pair(cnn.build(PAIR_H), splits, PAIR_H, PAIR_MLP_H)


@pytest.fixture(scope="module")
def saved_folder(trained_pair, tmp_path_factory):
    pair, histories, metrics = trained_pair
    folder = tmp_path_factory.mktemp("cnn") / cnn.pair_name(PAIR_H, PAIR_MLP_H)
    cnn.save(folder, pair, PAIR_H, PAIR_MLP_H, histories, SPLIT, metrics)
    return folder


def train_small(*extra, **options):
    """Arguments of the command line; an option may be given by keyword."""
    arguments = ["train", "--train-size", "1500", "--validation-size", "500", "--test-size", "2000", "--device", "cpu"]
    arguments += ["--channels", "4", "8", "8", "8", "8", "--n-features", "16", "--epochs", "2"]
    arguments += ["--mlp-hidden-sizes", "16", "--mlp-epochs", "2", *extra]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments


def accuracy(backbone, split):
    return np.mean(cnn.head_logits(backbone, split.images).argmax(axis=1) == split.labels)


def same_state(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def without_seconds(history):
    return [row | {"seconds": 0} for row in history]


# Training ------------------------------------------------------------------------------------------------------------


@pytest.mark.q3b
def test_training_learns_and_the_best_weights_stay(unbroken, splits):
    backbone, history, _ = unbroken
    assert [row["epoch"] for row in history] == [1, 2, 3]
    best = best_epoch(history)["validation_accuracy"]
    assert best > 0.4
    assert accuracy(backbone, splits.validation) == best
    assert not backbone.training


@pytest.mark.q3d
@pytest.mark.parametrize("end_to_end", [False, True])
def test_a_batch_of_one_is_refused_before_anything_is_trained(splits, end_to_end):
    """LeNet-5 has no batch normalisation, but its MLP has."""
    h = LeNetHyperparameters(epochs=1, batch_size=64, end_to_end=end_to_end)
    mlp_h = cnn.in_step(replace(PAIR_MLP_H, batch_norm=True), h)
    few = splits._replace(train=Split(*(part[:65] for part in splits.train)))
    backbone = cnn.build(h, mlp_h)
    with pytest.raises(ValueError, match="64 for 65 samples leaves a batch of one"):
        cnn.train_pair(backbone, few, h, mlp_h)
    assert backbone.trained_on == {}


@pytest.mark.q3b
def test_two_runs_are_the_same_to_the_last_bit(unbroken, splits):
    again = cnn.build(SMALL)
    before = torch.random.get_rng_state()
    cnn.train(again, splits.train, splits.validation, SMALL)
    assert same_state(again, unbroken[0])
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's random numbers were used up"


@pytest.mark.q3b
def test_training_says_what_it_ran_on(unbroken):
    backbone, *_ = unbroken
    precision = "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
    assert backbone.trained_on == {"device": "cpu", "precision": precision}
    assert cnn.build(SMALL).trained_on == {}


@pytest.mark.q3b
def test_on_epoch_gets_the_rows_of_the_history(unbroken):
    _, history, rows = unbroken
    assert rows == history
    assert list(rows[0]) == [
        "epoch",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
        "seconds",
    ]


@pytest.mark.q3b
@pytest.mark.parametrize("h", [SMALL, replace(SMALL, average=0.9, end_to_end=True)])
def test_resumed_training_ends_like_an_unbroken_one(splits, tmp_path, h):
    def untrained():  # with dropout in the MLP, whose masks must be the same again
        return cnn.build(h, replace(cnn.CLASSIFIER, dropout=0.1))

    checkpoint = tmp_path / "checkpoint"
    expected_backbone = untrained()
    expected_history = cnn.train(expected_backbone, splits.train, splits.validation, h)

    def go_on(on_epoch):
        backbone = untrained()
        return backbone, cnn.train(backbone, splits.train, splits.validation, h, on_epoch, checkpoint)

    for n_done in (1, 2):  # cut off twice, each time by the next process
        rows = []

        def stop(row, rows=rows, n_done=n_done):
            rows.append(row)
            if len(rows) == n_done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            go_on(stop)
        assert without_seconds(rows) == without_seconds(expected_history[:n_done])
    rows = []
    resumed, history = go_on(rows.append)
    assert same_state(resumed, expected_backbone)
    assert without_seconds(history) == without_seconds(expected_history)
    assert rows == history
    # There is nothing left to do.
    rows = []
    finished, again = go_on(rows.append)
    assert same_state(finished, expected_backbone)
    assert rows == again == history


@pytest.mark.q3b
def test_a_running_average_is_what_is_validated_and_kept(few, splits):
    h = replace(SMALL, epochs=1, average=0.75)
    states = []

    class Noting(torch.optim.AdamW):
        def step(self):
            super().step()
            states.append({name: tensor.detach().clone() for name, tensor in backbone.state_dict().items()})

    backbone = cnn.build(h)
    average = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Noting)
        history = cnn.train(backbone, few, splits.validation, h)
    assert len(states) == 10
    for state in states:
        average = {name: 0.75 * average[name] + 0.25 * tensor for name, tensor in state.items()}
    for name, tensor in backbone.state_dict().items():
        expected = average[name] if tensor.is_floating_point() else states[-1][name]
        torch.testing.assert_close(tensor, expected, msg=name)
    assert accuracy(backbone, splits.validation) == history[0]["validation_accuracy"]


@pytest.mark.q3b
def test_a_checkpoint_of_another_training_is_refused(splits, few, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    one = replace(SMALL, epochs=1)

    def go_on(training, hyperparameters, validation=splits.validation):
        backbone = cnn.build(hyperparameters)
        cnn.train(backbone, training, validation, hyperparameters, checkpoint=checkpoint)

    go_on(few, one)
    with pytest.raises(ValueError, match=r"checkpoint: the interrupted .* other settings: learning_rate 0.02$"):
        go_on(few, replace(one, learning_rate=0.1))
    for training, validation in (
        (Split(few.images, few.labels[::-1]), splits.validation),
        (few, Split(splits.validation.images[::-1], splits.validation.labels)),
    ):
        with pytest.raises(ValueError, match=r"checkpoint: the interrupted .* other settings: images\b"):
            go_on(training, one, validation)
    saved = load_model(checkpoint, kind="checkpoint")
    del saved.weights["now.head.bias"]
    save_model(checkpoint, saved)
    with pytest.raises(SavedModelError, match=r"checkpoint: not a checkpoint .*head\.bias"):
        go_on(few, one)


@pytest.mark.q3b
def test_a_batch_of_one_image_is_refused(splits, few):
    odd = Split(few.images[:129], few.labels[:129])
    with pytest.raises(ValueError, match=r"batch_size: batch normalisation needs at least two .* 64 for 129 samples"):
        cnn.train(cnn.build(SMALL), odd, splits.validation, SMALL)
    without_norm = replace(SMALL, batch_norm=False, epochs=1)
    assert len(cnn.train(cnn.build(without_norm), odd, splits.validation, without_norm)) == 1


@pytest.mark.q3b
def test_training_that_is_interrupted_in_an_epoch_keeps_the_best_weights_so_far(splits, few):
    backbone, rows = cnn.build(SMALL), []

    def stop_in_second_epoch(module, inputs):
        if rows and module.training:
            with torch.no_grad():
                backbone.head.weight.fill_(torch.nan)
            raise KeyboardInterrupt

    backbone.dropout.register_forward_pre_hook(stop_in_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        cnn.train(backbone, few, splits.validation, SMALL, rows.append)
    assert len(rows) == 1
    assert accuracy(backbone, splits.validation) == rows[0]["validation_accuracy"]
    assert not backbone.training


@pytest.mark.q3b
def test_what_on_epoch_raises_ends_the_training_and_the_best_weights_so_far_are_kept(splits, few):
    backbone, rows = cnn.build(SMALL), []

    def stop_after_second_epoch(row):
        rows.append(row)
        if len(rows) == 2:
            with torch.no_grad():
                backbone.head.weight.fill_(torch.nan)
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        cnn.train(backbone, few, splits.validation, SMALL, stop_after_second_epoch)
    assert len(rows) == 2
    assert accuracy(backbone, splits.validation) == best_epoch(rows)["validation_accuracy"]
    assert not backbone.training


@pytest.mark.q3b
def test_divergence_is_told_and_the_initial_weights_stay(splits):
    h = replace(SMALL, learning_rate=1e30, batch_norm=False)
    backbone = cnn.build(h)
    with pytest.raises(TrainingDiverged, match=r"loss is (nan|inf) in epoch 1, .* learning_rate below 1e\+30"):
        cnn.train(backbone, splits.train, splits.validation, h)
    assert same_state(backbone, cnn.build(h))


@pytest.mark.q3b
def test_patience_stops_early(splits, monkeypatch):
    few = Split(splits.train.images[:64], splits.train.labels[:64])
    ten = Split(splits.validation.images[:10], splits.validation.labels[:10])
    n_right = iter([3, 6, 5, 6, 9])

    def predict(backbone, images):
        right = np.arange(len(images)) < next(n_right)
        return np.eye(10)[np.where(right, ten.labels, (ten.labels + 1) % 10)]

    monkeypatch.setattr(backbone_training, "head_logits", predict)
    h = replace(SMALL, patience=2, epochs=9)
    history = cnn.train(cnn.build(h), few, ten, h)
    assert [row["validation_accuracy"] for row in history] == [0.3, 0.6, 0.5, 0.6]


@pytest.mark.q3b
def test_learning_rate_and_weight_decay_reach_the_optimizer(splits, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def spy(self, *arguments):
        seen.append([(group["lr"], group["weight_decay"], len(group["params"])) for group in self.param_groups])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    h = replace(SMALL, epochs=2, learning_rate=0.01, weight_decay=0.3)
    cnn.train(cnn.build(h), splits.train, splits.validation, h)
    rates = [groups[0][0] for groups in seen]
    assert len(rates) == 2 * 24
    assert max(rates) == pytest.approx(0.01, rel=0.01)
    assert rates[0] < 0.003
    assert rates[-1] < 1e-4
    # 5 convolutions, the fully connected layer and the head have weights; the head has a bias, the six batch norms a
    # scale and a shift each.
    assert {(decay, n) for groups in seen for _, decay, n in groups} == {(0.3, 7), (0.0, 1 + 2 * 6)}


@pytest.mark.q3b
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((9, 784), np.uint8), np.zeros(9, int), r"images: expected shape \(N, 28, 28\)"),
        (np.zeros((0, 28, 28), np.uint8), np.zeros(0, int), r"images: expected .* at least 1, got \(0, 28, 28\)"),
        (np.zeros((9, 28, 28)), np.zeros(9, int), r"images: expected pixels as uint8, 0 to 255, got float64"),
        (np.zeros((9, 28, 28), np.uint8), np.zeros(8, int), r"labels: expected shape \(9,\)"),
        (np.zeros((9, 28, 28), np.uint8), np.full(9, 10), r"labels: expected classes from 0 to 9, got 10"),
    ],
)
def test_wrong_images_and_labels_are_refused(splits, images, labels, message):
    wrong = Split(images, labels)
    for part, training, validation in (("training", wrong, splits.validation), ("validation", splits.train, wrong)):
        with pytest.raises(ValueError, match=f"{part} {message}"):
            cnn.train(cnn.build(SMALL), training, validation, SMALL)


@pytest.mark.q3b
def test_training_in_bfloat16_learns_too(splits, few, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    backbone = cnn.build(SMALL)
    types = {True: set(), False: set()}  # of the first convolution's output, in training and not
    backbone.layers[0].convolution.register_forward_hook(
        lambda layer, inputs, output: types[layer.training].add(output.dtype)
    )
    history = cnn.train(backbone, few, splits.validation, SMALL)
    assert types == {True: {torch.bfloat16}, False: {torch.float32}}
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    assert backbone.trained_on == {"device": "cpu", "precision": "bfloat16"}


# Pairs, trained and saved --------------------------------------------------------------------------------------------


def test_a_trained_pair_comes_with_its_histories_and_what_it_reaches(trained_pair, splits):
    pair, histories, metrics = trained_pair
    assert {part: len(history) for part, history in histories.items()} == {"backbone": 2, "mlp": 2}
    assert list(metrics) == ["validation", "test", "head_validation", "head_test"]
    for part, split in (("validation", splits.validation), ("test", splits.test)):
        assert measure(pair.predict_logits(split.images), split.labels, CLASS_NAMES) == metrics[part]
        head = measure(cnn.head_logits(pair.backbone, split.images), split.labels, CLASS_NAMES)
        assert head == metrics[f"head_{part}"]
    assert metrics["head_validation"]["accuracy"] == best_epoch(histories["backbone"])["validation_accuracy"]
    assert metrics["validation"]["accuracy"] == best_epoch(histories["mlp"])["validation_accuracy"]


def test_a_pair_that_is_trained_end_to_end_is_saved_loaded_and_evaluated(tmp_path, splits, capsys):
    arguments = train_small("--end-to-end", models_dir=tmp_path, average=0.5)
    assert cnn.main(arguments) == 0
    (folder,) = tmp_path.iterdir()
    assert folder.name == cnn.pair_name(PAIR_H, PAIR_MLP_H)
    pair, saved = cnn.load(folder, "cpu")
    assert {row["part"] for row in saved.history} == {"backbone"}
    assert "head_test" not in saved.metrics
    # What both learn with is the backbone's, and that is what is noted.
    shared = {name: saved.description["hyperparameters"][name] for name in ("label_smoothing", "batch_size", "epochs")}
    assert shared.items() <= saved.description["mlp_hyperparameters"].items()
    logits = pair.predict_logits(splits.test.images)
    assert measure(logits, splits.test.labels, CLASS_NAMES) == saved.metrics["test"]
    features = extract_features(pair.backbone, splits.test.images)
    assert np.array_equal(pair.classifier.predict_logits(features), logits), "features are read as they are"
    assert not np.array_equal(pair.classifier.W[0], mlp.build(PAIR_MLP_H, 16).W[0])
    assert cnn.main(["inspect", str(folder)]) == cnn.main(["evaluate", str(folder), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.endswith(f"test accuracy {saved.metrics['test']['accuracy']:.4f}\n")


def test_folder_is_named_after_what_is_in_it(saved_folder):
    assert saved_folder.name == "CNN_4_8_8_8_8_mlp__layers__16__lr_0.01__epoch_2__activation_relu__initiation_Xavier"
    names = {path.name for path in saved_folder.iterdir()}
    files = {"weights.safetensors", "model.json", "history.csv", "metrics.json"}
    assert names == files | {"README.md", "curves.png", "confusion.png"}
    description = json.loads((saved_folder / "model.json").read_text())
    assert description["kind"] == "pair"
    assert description["hyperparameters"]["channels"] == [4, 8, 8, 8, 8]
    assert description["split"] == SPLIT
    assert description["versions"]["torch"] == metadata.version("torch")


def test_a_saved_pair_is_loaded_as_it_was_saved(trained_pair, saved_folder, splits, tmp_path):
    pair, histories, metrics = trained_pair
    loaded, saved = cnn.load(saved_folder, "cpu")
    logits = loaded.predict_logits(splits.test.images)
    assert measure(logits, splits.test.labels, CLASS_NAMES) == saved.metrics["test"] == metrics["test"]
    head = measure(cnn.head_logits(loaded.backbone, splits.test.images), splits.test.labels, CLASS_NAMES)
    assert head == saved.metrics["head_test"]
    assert loaded.backbone.trained_on == pair.backbone.trained_on == saved.description["trained_on"] != {}
    rows = {part: [dict(row) for row in saved.history if row["part"] == part] for part in ("backbone", "mlp")}
    for part, history in rows.items():
        assert history == [{"part": part} | row for row in histories[part]]
    h = backbones.hyperparameters_from_json(saved.description["hyperparameters"])
    mlp_h = mlp.ClassifierHyperparameters(**saved.description["mlp_hyperparameters"])
    assert (h, mlp_h) == (PAIR_H, PAIR_MLP_H)
    cnn.save(tmp_path / "again", loaded, h, mlp_h, histories, saved.description["split"], saved.metrics)
    again, saved_again = cnn.load(tmp_path / "again", "cpu")
    assert np.array_equal(again.predict_logits(splits.test.images), logits)
    assert saved_again.description == saved.description
    assert saved_again.history == saved.history


@pytest.mark.parametrize("missing", ["backbone.head.bias", "standardizer.std", "mlp.W1"])
def test_a_pair_with_an_array_missing_is_refused(saved_folder, tmp_path, missing):
    saved = load_model(saved_folder, kind="pair")
    del saved.weights[missing]
    save_model(tmp_path / "broken", saved)
    with pytest.raises(SavedModelError, match=f"broken: not a saved backbone with its MLP .*{missing}"):
        cnn.load(tmp_path / "broken")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("backbone.layers.0.convolution.weight", lambda w: w[:3].copy(), r"shape \(4, 1, 3, 3\), .*got \(3, 1, 3, 3\)"),
        ("backbone.layers.0.convolution.weight", lambda w: w.astype(np.float16), "float32, got .* float16"),
        ("backbone.head.weight", lambda w: w * np.float32("nan"), "finite numbers"),
        ("backbone.norm.running_var", np.negative, "variances of at least 0"),
        ("mlp.W1", lambda w: w.T[:5].copy(), r"got \(5, 16\)"),
        ("standardizer.mean", lambda mean: mean[:1].copy(), r"shape \(16,\), float32, got \(1,\)"),
        ("standardizer.mean", lambda mean: mean + np.float32("inf"), "finite numbers"),
        ("standardizer.std", np.zeros_like, "above 0"),
        ("standardizer.std", np.negative, "above 0"),
    ],
)
def test_a_pair_whose_arrays_cannot_be_its_own_is_refused_before_it_is_built(
    saved_folder, tmp_path, monkeypatch, name, change, message
):
    saved = load_model(saved_folder, kind="pair")
    saved.weights[name] = change(saved.weights[name])
    save_model(tmp_path / "broken", saved)
    monkeypatch.setattr(mlp, "build", lambda *_: pytest.fail("it is built"))
    with pytest.raises(SavedModelError, match=f"broken: .*{message}.*{name}|broken: .*{name}.*{message}"):
        cnn.load(tmp_path / "broken")


@pytest.mark.parametrize("channels", [[10**5] * 5, [10**9] * 5, [10**30] * 5])
def test_a_pair_that_claims_huge_layers_is_refused_without_memory_for_them(saved_folder, tmp_path, channels):
    saved = load_model(saved_folder, kind="pair")
    saved.description["hyperparameters"]["channels"] = channels
    save_model(tmp_path / "huge", saved)
    with pytest.raises(SavedModelError, match="huge: not a saved backbone"):
        cnn.load(tmp_path / "huge")


@pytest.mark.parametrize("missing", ["hyperparameters", "mlp_hyperparameters", "trained_on", "split", "epochs_run"])
def test_a_pair_with_something_missing_in_its_description_is_refused(saved_folder, tmp_path, missing):
    saved = load_model(saved_folder, kind="pair")
    del saved.description[missing]
    save_model(tmp_path / "broken", saved)
    with pytest.raises(SavedModelError, match=rf"broken.model\.json: damaged .*missing {missing}"):
        cnn.load(tmp_path / "broken")


def test_a_pair_of_an_unknown_backbone_is_refused(saved_folder, tmp_path):
    saved = load_model(saved_folder, kind="pair")
    saved.description["hyperparameters"]["backbone"] = "lenet6"
    save_model(tmp_path / "unknown", saved)
    with pytest.raises(SavedModelError, match=r"unknown: not a saved backbone .*expected one of cnn5, .*'lenet6'"):
        cnn.load(tmp_path / "unknown")


def test_a_saved_mlp_is_not_taken_for_a_pair(saved_folder, few, tmp_path):
    h = mlp.MLPHyperparameters(hidden_sizes=(4,), epochs=1)
    model = mlp.build(h)
    history = mlp.train(model, few, few, h)
    metrics = {part: mlp.evaluate(model, few) for part in ("validation", "test")}
    mlp.save(tmp_path / "mlp", model, h, history, SPLIT, metrics)
    with pytest.raises(SavedModelError, match=r"mlp: expected kind pair in model\.json, got 'mlp'"):
        cnn.load(tmp_path / "mlp")
    with pytest.raises(SavedModelError, match=r"expected kind mlp in model\.json, got 'pair'"):
        mlp.load(saved_folder)


# The command line ----------------------------------------------------------------------------------------------------


def test_evaluate_ends_with_the_accuracy_and_checks_it(saved_folder, tmp_path, capsys):
    assert cnn.main(["evaluate", str(saved_folder), "--device", "cpu"]) == 0
    assert re.search(r"2,000 test images\ntest accuracy 0\.\d{4}\n$", capsys.readouterr().out)
    saved = load_model(saved_folder, kind="pair")
    saved.metrics["test"]["accuracy"] += 0.01
    save_model(tmp_path / "changed", saved)
    assert cnn.main(["evaluate", str(tmp_path / "changed"), "--device", "cpu"]) == 1
    assert "these are not the weights that were measured" in capsys.readouterr().err


def test_inspect_shows_layers_and_metrics(saved_folder, capsys):
    assert cnn.main(["inspect", str(saved_folder)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"layers\.4\.convolution +\| Conv2d +\| 8 x 2 x 2 +\| 576 +\| 2,304", shown)
    assert "MLP 16-16-10" in shown
    assert re.search(r"multiply-adds", shown)
    assert re.search(r"\| channels +\| 4 8 8 8 8 ", shown)
    metrics = load_model(saved_folder, kind="pair").metrics
    assert f"test accuracy of the backbone's own head {metrics['head_test']['accuracy']:.4f}\n" in shown
    assert shown.endswith(f"test accuracy {metrics['test']['accuracy']:.4f}\n")
    assert (saved_folder / "README.md").read_text().endswith(shown.split("\n\n", 1)[1])


def test_predict_names_the_garment_in_a_picture(saved_folder, splits, tmp_path, capsys):
    image = splits.test.images[0]
    Image.fromarray(image).save(tmp_path / "garment.png")
    Image.fromarray(255 - image).save(tmp_path / "inverted.png")
    assert cnn.main(["predict", str(saved_folder), str(tmp_path / "garment.png")]) == 0
    as_it_is = capsys.readouterr().out.split(": ")[1]
    assert cnn.main(["predict", str(saved_folder), str(tmp_path / "inverted.png"), "--invert"]) == 0
    assert capsys.readouterr().out.split(": ")[1] == as_it_is
    assert re.fullmatch(r"(\D+ \d\.\d{3}(, |\n)){3}", as_it_is)


def test_export_writes_a_file_or_names_the_packages_it_needs(saved_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cnn, "export_onnx", lambda path, *pair: path.write_text("onnx"))
    assert cnn.main(["export", str(saved_folder), str(tmp_path / "pair.onnx")]) == 0
    assert str(tmp_path / "pair.onnx") in capsys.readouterr().out
    assert (tmp_path / "pair.onnx").read_text() == "onnx"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert cnn.main(["export", str(saved_folder), str(tmp_path / "other.onnx")]) == 1
    assert "pip install onnx onnxscript" in capsys.readouterr().err
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "nowhere: no such folder"),
        (train_small(init="best"), "init: expected one of random, Xavier, He, got 'best'"),
        (train_small("--pool-strides", "2", "1", "2", "1", "2"), "pool_sizes: expected an odd number at stride 1"),
        (train_small("--average", "1"), "average: expected a number from 0 to below 1"),
        (train_small(mlp_dropout=1.5), "dropout: expected a number from 0 to below 1"),
        (train_small(train_size=70_000), "train, validation, test: expected at most"),
        (train_small("--resume"), "no training run to resume"),
        (
            train_small("--mlp-batch-norm", mlp_batch_size=1),
            "batch_size: batch normalisation needs at least two samples in a batch",
        ),
        (["train", "--backbone", "lenet6"], "backbone: expected one of cnn5, lenet5, "),
        (
            ["train", "--backbone", "lenet5", "--channels", "6", "16"],
            "channels: an option of cnn5, not of lenet5",
        ),
        (
            ["train", "--backbone", "resnet18", "--frozen", "--epochs", "3"],
            "epochs: expected the default, because a frozen backbone is not trained, got 3",
        ),
        (["train", "--backbone", "resnet18", "--frozen", "--end-to-end"], "end_to_end: expected the default"),
        (["train", "--backbone", "vit", "--frozen"], "frozen: an option of resnet18, not of vit"),
        (
            ["train", "--backbone", "modern_lenet", "--no-batch-norm"],
            "batch_norm: an option of cnn5, not of modern_lenet",
        ),
        (
            ["train", "--backbone", "resnet18", "--weights", "imagenet"],
            "weights: expected one of random, ImageNet, got 'imagenet'",
        ),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys):
    if arguments[0] == "train":
        arguments = [*arguments, "--models-dir", str(tmp_path)]
    assert cnn.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("cnn.py: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_only_one_process_trains_what_is_saved_in_one_place(tmp_path, capsys):
    checkpoint = tmp_path / "CNN_4_8_8_8_8.checkpoint.tmp"
    with command_line.reserved(checkpoint):
        assert cnn.main(train_small(models_dir=tmp_path)) == 1
        error = capsys.readouterr().err
        assert f"{checkpoint}: another process is training a backbone of this name, with this MLP or another; " in error
    assert list(tmp_path.iterdir()) == []


def test_a_saved_pair_is_not_overwritten_unasked(saved_folder, capsys):
    before = (saved_folder / "weights.safetensors").stat()
    assert cnn.main(train_small(models_dir=saved_folder.parent)) == 1
    assert "exists; choose another --models-dir, or replace it with --overwrite" in capsys.readouterr().err
    assert (saved_folder / "weights.safetensors").stat() == before


@pytest.mark.q4
def test_a_lenet_is_trained_saved_and_evaluated_by_the_command_line(tmp_path, capsys):
    arguments = ["train", "--backbone", "lenet5", "--train-size", "1500", "--validation-size", "500", "--epochs", "2"]
    arguments += ["--mlp-hidden-sizes", "16", "--mlp-epochs", "2", "--device", "cpu", "--models-dir", str(tmp_path)]
    assert cnn.main(arguments) == 0
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("lenet5_mlp__layers__16__")
    listed = json.loads((folder / "model.json").read_text())["hyperparameters"]
    assert listed["backbone"] == "lenet5"
    assert listed["epochs"] == 2
    assert not {"channels", "kernel_sizes", "image_size", "weights", "frozen"} & listed.keys()
    _, saved = cnn.load(folder, "cpu")
    assert backbones.hyperparameters_from_json(saved.description["hyperparameters"]) == LeNetHyperparameters(epochs=2)
    assert saved.description["split"] == SPLIT | {"test": "official"}
    assert cnn.main(["evaluate", str(folder), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "10,000 test images\n" in shown
    assert 0.4 < float(shown.split()[-1]) < 1


@pytest.mark.q4
def test_a_frozen_network_is_saved_and_evaluated(tmp_path, capsys):
    arguments = ["train", "--backbone", "resnet18", "--frozen", "--train-size", "300", "--validation-size", "100"]
    arguments += ["--test-size", "200", "--mlp-hidden-sizes", "16", "--mlp-epochs", "2", "--device", "cpu"]
    assert cnn.main([*arguments, "--models-dir", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("resnet18_frozen_mlp__layers__16__")
    initial = cnn.build(ImageNetHyperparameters()).state_dict()
    trained, saved = cnn.load(folder, "cpu")
    assert all(torch.equal(tensor, initial[name]) for name, tensor in trained.backbone.state_dict().items())
    assert "head_test" not in saved.metrics
    assert {row["part"] for row in saved.history} == {"mlp"}
    assert saved.description["trained_on"] == {}
    assert cnn.main(["inspect", str(folder)]) == 0
    assert "own head" not in capsys.readouterr().out
    assert cnn.main(["evaluate", str(folder), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "200 test images" in shown
    assert shown.endswith(f"test accuracy {saved.metrics['test']['accuracy']:.4f}\n")


# What ends a training from outside -----------------------------------------------------------------------------------

# Runs cnn.py as its own process does, but says "paused" after its first checkpoint and waits there for a signal, so
# that no signal finds it elsewhere; and says "leaving" as the last of Python is taken down, where it waits for its
# standard input to end.
PAUSING = """
import os, runpy, signal, sys, time
from model_utils import checkpoints

class Last:
    def __del__(self, write=os.write, read=os.read):
        write(2, b"leaving\\n")
        read(0, 1)

def save_then_pause(*arguments, save=checkpoints.save_checkpoint):
    save(*arguments)
    os.write(2, b"paused\\n")
    time.sleep(600)

last = Last()
checkpoints.save_checkpoint = save_then_pause
# Shells start what runs in the background with Ctrl-C ignored, and tests may run there.
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path("cnn.py", run_name="__main__")
"""

needs_signals = pytest.mark.skipif(os.name == "nt", reason="these signals are not Windows's")


def start_and_await_pause(arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSING, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "paused" in read_up_to(process, "paused")
    return process


def read_up_to(process, line):
    """Return the lines of standard error up to this one, or to its end."""
    lines = []
    for found in process.stderr:
        lines.append(found.removesuffix("\n"))
        if lines[-1] == line:
            break
    return lines


@needs_signals
@pytest.mark.parametrize("end", ["SIGKILL", "SIGINT"])
def test_a_killed_training_goes_on_to_the_same_weights(saved_folder, tmp_path, capsys, end):
    arguments = train_small(models_dir=tmp_path)
    checkpoint = tmp_path / "CNN_4_8_8_8_8.checkpoint.tmp"
    with start_and_await_pause(arguments) as process:
        process.send_signal(signal.Signals[end])
        _, error = process.communicate()
    if end == "SIGINT":
        assert process.returncode == 130
        assert f"{checkpoint} is kept; continue with --resume" in error
    else:
        assert process.returncode == -signal.SIGKILL
    assert checkpoint.exists()
    assert cnn.main(arguments) == 1
    assert "--resume continues it" in capsys.readouterr().err
    assert cnn.main([*arguments, "--resume"]) == 0
    (folder,) = tmp_path.iterdir()  # and the checkpoint is gone
    assert folder.name == saved_folder.name
    resumed, expected = load_model(folder, kind="pair"), load_model(saved_folder, kind="pair")
    assert resumed.metrics == expected.metrics
    assert resumed.weights.keys() == expected.weights.keys()
    assert all(np.array_equal(resumed.weights[name], array) for name, array in expected.weights.items())
    assert resumed.description | {"training_seconds": 0} == expected.description | {"training_seconds": 0}


@needs_signals
def test_a_second_ctrl_c_on_the_way_out_does_not_change_the_exit_status(tmp_path):
    with start_and_await_pause(train_small(models_dir=tmp_path)) as process:
        process.send_signal(signal.SIGINT)
        kept = f"cnn.py: {tmp_path / 'CNN_4_8_8_8_8.checkpoint.tmp'} is kept; continue with --resume"
        assert read_up_to(process, kept)[-1] == kept
        process.send_signal(signal.SIGINT)
        assert read_up_to(process, "leaving") == ["cnn.py: interrupted", "leaving"]
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130


# What ends it from inside -------------------------------------------------------------------------------------------


def test_a_full_disk_costs_no_trained_pair(saved_folder, tmp_path, capsys, full_disk):
    models = tmp_path / "models"
    checkpoint = models / "CNN_4_8_8_8_8.checkpoint.tmp"
    full_disk(models / saved_folder.name)
    assert cnn.main(train_small(models_dir=models)) == 1
    kept, error = capsys.readouterr().err.splitlines()
    assert kept == f"cnn.py: {checkpoint} is kept; continue with --resume"
    elsewhere = re.fullmatch(r"cnn\.py: .+: not saved \(.*No space left.*\); it is in (.+) instead: .*", error)[1]
    rescued, expected = (cnn.load(folder, "cpu")[0].state() for folder in (elsewhere, saved_folder))
    assert all(np.array_equal(rescued[name], array) for name, array in expected.items())


def test_a_full_disk_costs_no_epoch_that_was_kept(saved_folder, tmp_path, capsys, full_disk, monkeypatch):
    models = tmp_path / "models"
    checkpoint = models / "CNN_4_8_8_8_8.checkpoint.tmp"

    def save_once(*arguments, save=backbone_training.save_checkpoint):
        save(*arguments)
        full_disk(models)

    with monkeypatch.context() as patched:
        patched.setattr(backbone_training, "save_checkpoint", save_once)
        assert cnn.main(train_small(models_dir=models)) == 1
    kept, error = capsys.readouterr().err.splitlines()
    assert kept == f"cnn.py: {checkpoint} is kept; continue with --resume"
    assert error.startswith(f"cnn.py: {checkpoint}: not saved ([Errno 28] No space left on device")
    assert len(load_model(checkpoint, "checkpoint").history) == 1
