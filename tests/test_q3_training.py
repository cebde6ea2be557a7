"""Question 3, b and d: training a backbone, its features, the pair with the NumPy MLP, and the command line."""

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from model_utils.results import SEEDS
from PIL import Image

import cnn
import experiments
import mlp
from data_preparation import Split, load_splits
from model_utils import command_line
from model_utils.saved_models import SavedModelError, load_model, save_model
from model_utils.tables import read_csv

ROOT = Path(cnn.__file__).parent
SMALL = cnn.Hyperparameters(channels=(4, 8, 8, 8, 8), n_features=16, epochs=3, batch_size=64, learning_rate=0.02)
SMALL_MLP = replace(cnn.MLP_HYPERPARAMETERS, hidden_sizes=(16,), epochs=2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def splits():
    return load_splits(train=1500, validation=500)


@pytest.fixture(scope="module")
def unbroken(splits):
    """A backbone trained in one go, with its history."""
    backbone = cnn.build(SMALL)
    return backbone, cnn.train(backbone, splits.train, splits.validation, SMALL, progress=False)


def train_small(*extra, **options):
    arguments = ["train", "--train-size", "1500", "--validation-size", "500", "--device", "cpu"]
    arguments += ["--channels", "4", "8", "8", "8", "8", "--n-features", "16", "--epochs", "2"]
    arguments += ["--mlp-hidden-sizes", "16", "--mlp-epochs", "2", *extra]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments


@pytest.fixture(scope="module")
def saved_folder(tmp_path_factory):
    """A pair that the command line trained and saved."""
    models_dir = tmp_path_factory.mktemp("cnn")
    assert cnn.main(train_small(models_dir=models_dir)) == 0
    (folder,) = models_dir.iterdir()
    return folder


# Training --------------------------------------------------------------------------------------------------------


def same_state(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_q3b_training_learns_and_the_best_weights_stay(unbroken, splits):
    backbone, history = unbroken
    assert [row["epoch"] for row in history] == [1, 2, 3]
    best = mlp.best_epoch(history)["validation_accuracy"]
    assert best > 0.4
    logits = cnn.predict_logits(backbone, splits.validation.images)
    assert np.mean(logits.argmax(axis=1) == splits.validation.labels) == best
    assert not backbone.training


def test_q3b_two_runs_are_the_same_to_the_last_bit(unbroken, splits):
    again = cnn.build(SMALL)
    before = torch.random.get_rng_state()
    cnn.train(again, splits.train, splits.validation, SMALL, progress=False)
    assert same_state(again, unbroken[0])
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's random numbers were used up"


def test_q3b_resumed_training_ends_like_an_unbroken_one(unbroken, splits, tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint"
    save_checkpoint = cnn._save_checkpoint

    def save_then_stop(*arguments):
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(cnn, "_save_checkpoint", save_then_stop)
    for n_done in (1, 2):  # cut off twice, each time by the next process
        history = []
        with pytest.raises(KeyboardInterrupt):
            cnn.train(cnn.build(SMALL), splits.train, splits.validation, SMALL, history, checkpoint, progress=False)
        assert len(history) == n_done
    monkeypatch.undo()
    resumed = cnn.build(SMALL)
    history = cnn.train(resumed, splits.train, splits.validation, SMALL, checkpoint=checkpoint, progress=False)
    assert same_state(resumed, unbroken[0])
    for row, expected in zip(history, unbroken[1], strict=True):
        assert row | {"seconds": 0} == expected | {"seconds": 0}


def test_q3b_a_history_that_is_not_empty_is_refused(unbroken, splits):
    _, history = unbroken
    with pytest.raises(ValueError, match=f"history: expected an empty list, got {len(history)} epochs"):
        cnn.train(cnn.build(SMALL), splits.train, splits.validation, SMALL, list(history), progress=False)


def test_q3b_a_checkpoint_of_another_training_is_refused(splits, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    one = replace(SMALL, epochs=1)
    few = Split(splits.train.images[:640], splits.train.labels[:640])
    cnn.train(cnn.build(one), few, splits.validation, one, checkpoint=checkpoint, progress=False)

    def go_on(training, hyperparameters):
        backbone = cnn.build(hyperparameters)
        cnn.train(backbone, training, splits.validation, hyperparameters, checkpoint=checkpoint, progress=False)

    with pytest.raises(ValueError, match=r"checkpoint: the interrupted .* other settings: learning_rate 0.02$"):
        go_on(few, replace(one, learning_rate=0.1))
    with pytest.raises(ValueError, match=r"checkpoint: the interrupted .* other settings: images$"):
        go_on(Split(few.images, few.labels[::-1]), one)
    saved = load_model(checkpoint)
    for lost in ("best.head.bias", "now.head.bias", "optimizer.0.exp_avg"):
        weights = {name: array for name, array in saved.weights.items() if name != lost}
        save_model(checkpoint, saved._replace(weights=weights))
        with pytest.raises(SavedModelError, match=rf"checkpoint: not a checkpoint .*{lost.removeprefix('best.')[4:]}"):
            go_on(few, one)


def test_q3b_a_batch_of_one_image_is_refused(splits):
    odd = Split(splits.train.images[:129], splits.train.labels[:129])
    h = replace(SMALL, batch_size=64)
    with pytest.raises(ValueError, match=r"batch_size: expected one that leaves no image alone .* got 64 for 129"):
        cnn.train(cnn.build(h), odd, splits.validation, h, progress=False)


def test_q3b_interrupted_training_keeps_the_best_weights_so_far(splits, monkeypatch):
    backbone, history = cnn.build(SMALL), []
    train_one_epoch = cnn._train_one_epoch

    def stop_in_second_epoch(*arguments):
        if history:
            with torch.no_grad():
                backbone.head.weight.fill_(torch.nan)
            raise KeyboardInterrupt
        return train_one_epoch(*arguments)

    monkeypatch.setattr(cnn, "_train_one_epoch", stop_in_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        cnn.train(backbone, splits.train, splits.validation, SMALL, history, progress=False)
    logits = cnn.predict_logits(backbone, splits.validation.images)
    assert np.mean(logits.argmax(axis=1) == splits.validation.labels) == history[0]["validation_accuracy"]


def test_q3b_divergence_is_told_and_the_first_weights_stay(splits):
    h = replace(SMALL, learning_rate=1e30, batch_norm=False)
    backbone = cnn.build(h)
    with pytest.raises(mlp.TrainingDiverged, match=r"loss is (nan|inf) in epoch 1; .* learning_rate below 1e\+30"):
        cnn.train(backbone, splits.train, splits.validation, h, progress=False)
    assert same_state(backbone, cnn.build(h))


def test_q3b_patience_stops_early(splits, monkeypatch):
    few = Split(splits.train.images[:64], splits.train.labels[:64])
    ten = Split(splits.validation.images[:10], splits.validation.labels[:10])
    n_right = iter([3, 6, 5, 6, 9])

    def predict(backbone, images):
        right = np.arange(len(images)) < next(n_right)
        return np.eye(10)[np.where(right, ten.labels, (ten.labels + 1) % 10)]

    monkeypatch.setattr(cnn, "predict_logits", predict)
    h = replace(SMALL, patience=2, epochs=9)
    history = cnn.train(cnn.build(h), few, ten, h, progress=False)
    assert [row["validation_accuracy"] for row in history] == [0.3, 0.6, 0.5, 0.6]


def test_q3b_learning_rate_and_weight_decay_reach_the_optimizer(splits, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def spy(self, *arguments):
        seen.append([(group["lr"], group["weight_decay"], len(group["params"])) for group in self.param_groups])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    h = replace(SMALL, epochs=2, learning_rate=0.01, weight_decay=0.3)
    cnn.train(cnn.build(h), splits.train, splits.validation, h, progress=False)
    rates = [groups[0][0] for groups in seen]
    assert len(rates) == 2 * 24
    assert max(rates) == pytest.approx(0.01, rel=0.01)
    assert rates[0] < 0.003
    assert rates[-1] < 1e-4
    # 5 convolutions, the fully connected layer and the head have weights; they and batch norm have biases.
    assert {(decay, n) for groups in seen for _, decay, n in groups} == {(0.3, 7), (0.0, 7 + 2 * 5)}


def test_q3b_augmentation_mirrors_and_moves_and_nothing_else():
    torch.manual_seed(0)
    images = torch.zeros(400, 1, 28, 28)
    images[:, 0, 10, 5] = 1.0
    moved = cnn.augment(images, flip=True, shift=2)
    places = torch.nonzero(moved[:, 0])
    assert len(places) == 400
    rows, columns = places[:, 1], places[:, 2]
    assert set(rows.tolist()) == {8, 9, 10, 11, 12}
    assert set(columns.tolist()) == {3, 4, 5, 6, 7} | {20, 21, 22, 23, 24}
    assert 150 < (columns < 14).sum() < 250
    assert torch.equal(cnn.augment(images, flip=False, shift=0), images)


def test_q3b_erasing_blackens_one_square_anywhere():
    white = torch.ones(3000, 1, 28, 28)
    black = (cnn.augment(white, flip=False, shift=0, erase=8) == 0)[:, 0]
    rows, columns = black.any(dim=2), black.any(dim=1)
    assert torch.equal(black, rows[:, :, None] & columns[:, None, :])
    assert {*rows.sum(dim=1).tolist(), *columns.sum(dim=1).tolist()} == set(range(1, 9))
    share = black.float().mean(dim=0)
    np.testing.assert_allclose(share, (8 / 35) ** 2, atol=0.025)  # 35 places of the square's corner in each direction


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((9, 784), np.uint8), np.zeros(9, int), r"training images: expected shape \(N, 28, 28\)"),
        (
            np.zeros((0, 28, 28), np.uint8),
            np.zeros(0, int),
            r"training images: expected .* at least 1, got \(0, 28, 28\)",
        ),
        (np.zeros((9, 28, 28)), np.zeros(9, int), r"training images: expected pixels as uint8, 0 to 255, got float64"),
        (np.zeros((9, 28, 28), np.uint8), np.zeros(8, int), r"training labels: expected shape \(9,\)"),
        (np.zeros((9, 28, 28), np.uint8), np.full(9, 10), r"training labels: expected classes from 0 to 9, got 10"),
    ],
)
def test_q3b_wrong_images_and_labels_are_refused(splits, images, labels, message):
    with pytest.raises(ValueError, match=message):
        cnn.train(cnn.build(SMALL), Split(images, labels), splits.validation, SMALL, progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": -1}, "learning_rate: expected a number from 0"),
        ({"label_smoothing": 1}, "label_smoothing: expected a number from 0 to below 1"),
        ({"weight_decay": -0.1}, "weight_decay: expected a number from 0"),
        ({"batch_size": 0}, "batch_size: expected an integer of at least 1"),
        ({"epochs": 0}, "epochs: expected an integer of at least 1"),
        ({"patience": -1}, "patience: expected an integer of at least 0"),
        ({"erase": -1}, "erase: expected an integer of at least 0"),
        ({"shift": 0.5}, "shift: expected an integer of at least 0"),
        ({"seed": -1}, "seed: expected an integer of at least 0"),
        ({"init": "best"}, "init: expected one of random, Xavier, He"),
    ],
)
def test_q3b_wrong_hyperparameters_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_q3b_devices():
    assert cnn.choose_device("cpu") == CPU
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert cnn.choose_device() == CPU
    with pytest.raises(ValueError, match="device: expected one of cpu, cuda, mps, got 'tpu'"):
        cnn.choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: cuda was asked for, and this machine or this PyTorch has none"):
            cnn.choose_device("cuda")


def test_q3b_bfloat16_is_used_where_the_processor_has_it(monkeypatch):
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        assert cnn.has_fast_bfloat16(CPU) is has_it
    assert not cnn.has_fast_bfloat16(torch.device("mps"))
    monkeypatch.undo()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and platform.machine() == "x86_64":
        assert cnn.has_fast_bfloat16(CPU) == ("avx512_bf16" in cpuinfo.read_text())


def test_q3b_training_in_bfloat16_learns_too(splits, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    backbone = cnn.build(SMALL)
    types = {True: set(), False: set()}  # of the first convolution's output, in training and not
    backbone.layers[0].convolution.register_forward_hook(
        lambda layer, inputs, output: types[layer.training].add(output.dtype)
    )
    few = Split(splits.train.images[:640], splits.train.labels[:640])
    history = cnn.train(backbone, few, splits.validation, SMALL, progress=False)
    assert types == {True: {torch.bfloat16}, False: {torch.float32}}
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


def test_q3b_backbones_are_compared_side_by_side(splits, tmp_path):
    variants = {"3 x 3": {}, "2 x 2": {"kernel_sizes": (2,) * 5}}
    base = replace(SMALL, epochs=1)
    histories = experiments.compare(splits.train, splits.validation, base, variants, seeds=(0, 1))
    experiments.store(tmp_path / "study.csv", histories, base, variants)
    assert experiments.load(tmp_path / "study.csv", base, variants) == histories
    assert "2 x 2" in experiments.describe(histories)


# Features --------------------------------------------------------------------------------------------------------


def test_q3d_features_are_deterministic_and_blind_to_mirroring(unbroken, splits):
    backbone, _ = unbroken
    backbone.train()  # dropout and batch norm must not reach the features
    features = cnn.extract_features(backbone, splits.test.images[:700])
    assert features.shape == (700, 16)
    assert features.dtype == np.float32
    assert np.array_equal(features, cnn.extract_features(backbone, splits.test.images[:700]))
    mirrored = cnn.extract_features(backbone, splits.test.images[:700, :, ::-1])
    np.testing.assert_allclose(features, mirrored, atol=1e-5)


def test_q3d_features_are_the_mean_over_a_step_in_each_direction_and_both_sides(unbroken, splits):
    backbone, _ = unbroken
    here = splits.test.images[:20]
    up, down, left, right = (np.zeros_like(here) for _ in range(4))
    up[:, :-1], down[:, 1:] = here[:, 1:], here[:, :-1]
    left[:, :, :-1], right[:, :, 1:] = here[:, :, 1:], here[:, :, :-1]
    views = [side for moved in (here, up, down, left, right) for side in (moved, moved[:, :, ::-1])]
    with torch.inference_mode():
        expected = np.mean([backbone.features(cnn.as_tensor(view)).numpy() for view in views], axis=0)
    np.testing.assert_allclose(cnn.extract_features(backbone, here), expected, atol=1e-5)


def test_q3d_standardizer_uses_training_statistics_and_survives_a_dead_feature():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (500, 4)).astype(np.float32)
    features[:, 2] = 0.1
    standardizer = cnn.Standardizer.fit(features)
    standardized = standardizer(features)
    np.testing.assert_allclose(standardized.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standardized.std(axis=0), [1, 1, 0, 1], atol=1e-5)
    other = np.ones((1, 4), np.float32)
    np.testing.assert_allclose(standardizer(other)[0, 0], (1 - features[:, 0].mean()) / features[:, 0].std(), rtol=1e-4)


def test_q3d_the_pair_on_raw_images_is_the_mlp_on_cached_features(unbroken, splits):
    backbone, _ = unbroken
    standardizer, (training, validation, test) = cnn.classifier_data(backbone, splits, progress=False)
    classifier = mlp.build(SMALL_MLP, backbone.n_features)
    mlp.train(classifier, training, validation, SMALL_MLP, progress=False)
    hybrid = cnn.Hybrid(backbone, standardizer, classifier)
    on_images = mlp.measure(hybrid.predict_logits(splits.test.images), splits.test.labels)
    assert on_images == mlp.evaluate(classifier, *test)
    np.testing.assert_allclose(hybrid.predict_proba(splits.test.images[:50]).sum(axis=1), 1, atol=1e-5)


# Saved pairs -----------------------------------------------------------------------------------------------------


def test_q3d_folder_is_named_after_what_is_in_it(saved_folder):
    assert saved_folder.name == ("CNN_4_8_8_8_8_mlp__layers__16__lr_0.01__epoch_2__activation_relu__initiation_Xavier")
    names = {path.name for path in saved_folder.iterdir()}
    assert names == {"weights.safetensors", "model.json", "history.csv", "metrics.json"}
    description = json.loads((saved_folder / "model.json").read_text())
    assert description["hyperparameters"]["channels"] == [4, 8, 8, 8, 8]
    assert description["split"] == {"train": 1500, "validation": 500, "test": "official", "seed": 0}
    assert description["versions"]["torch"] == torch.__version__


def test_q3d_a_saved_pair_gives_the_same_logits_and_the_stored_metrics(saved_folder, splits, tmp_path):
    hybrid, saved = cnn.load(saved_folder, "cpu")
    logits = hybrid.predict_logits(splits.test.images)
    assert mlp.measure(logits, splits.test.labels) == saved.metrics["test"]
    head = mlp.measure(cnn.predict_logits(hybrid.backbone, splits.test.images), splits.test.labels)
    assert head == saved.metrics["head_test"]
    histories = {part: [row for row in saved.history if row["part"] == part] for part in ("backbone", "mlp")}
    assert [len(rows) for rows in histories.values()] == [2, 2]
    rows = {part: [{k: v for k, v in row.items() if k != "part"} for row in rows] for part, rows in histories.items()}
    h = command_line.from_json(cnn.Hyperparameters, saved.description["hyperparameters"])
    mlp_h = command_line.from_json(mlp.Hyperparameters, saved.description["mlp_hyperparameters"])
    cnn.save(tmp_path / "again", hybrid, h, mlp_h, rows, saved.description["split"], saved.metrics)
    again, saved_again = cnn.load(tmp_path / "again", "cpu")
    assert np.array_equal(again.predict_logits(splits.test.images), logits)
    assert saved_again.description == saved.description
    assert saved_again.history == saved.history


@pytest.mark.parametrize("missing", ["backbone.head.bias", "standardizer.std", "mlp.W1"])
def test_q3d_a_pair_with_something_missing_is_refused(saved_folder, tmp_path, missing):
    saved = load_model(saved_folder)
    del saved.weights[missing]
    save_model(tmp_path / "broken", saved)
    with pytest.raises(SavedModelError, match="broken: not a saved backbone with its MLP"):
        cnn.load(tmp_path / "broken")


def test_q3d_a_saved_mlp_is_not_taken_for_a_pair(saved_folder):
    (folder, *_) = (ROOT / "models" / "mlp").iterdir()
    with pytest.raises(SavedModelError, match="not a saved backbone"):
        cnn.load(folder)
    with pytest.raises(SavedModelError, match="not a saved NumPy MLP"):
        mlp.load(saved_folder)


# The command line ------------------------------------------------------------------------------------------------


def test_q3d_evaluate_ends_with_the_accuracy_and_checks_it(saved_folder, tmp_path, capsys):
    assert cnn.main(["evaluate", str(saved_folder), "--device", "cpu"]) == 0
    assert re.search(r"10,000 test images\ntest accuracy 0\.\d{4}\n$", capsys.readouterr().out)
    saved = load_model(saved_folder)
    saved.metrics["test"]["accuracy"] += 0.01
    save_model(tmp_path / "changed", saved)
    assert cnn.main(["evaluate", str(tmp_path / "changed"), "--device", "cpu"]) == 1
    assert "the weights are not those measured" in capsys.readouterr().err


def test_q3d_inspect_shows_layers_and_metrics(saved_folder, capsys):
    assert cnn.main(["inspect", str(saved_folder)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"layers\.4\.convolution +\| Conv2d +\| 8 x 3 x 3 +\| 584 +\| 5,184", shown)
    assert "MLP 16-16-10" in shown
    assert re.search(r"multiply-adds", shown)
    accuracy = load_model(saved_folder).metrics["test"]["accuracy"]
    assert shown.endswith(f"test accuracy {accuracy:.4f}\n")


def test_q3d_predict_names_the_garment_in_a_picture(saved_folder, splits, tmp_path, capsys):
    image = splits.test.images[0]
    Image.fromarray(image).save(tmp_path / "boot.png")
    Image.fromarray(255 - image).save(tmp_path / "inverted.png")
    assert cnn.main(["predict", str(saved_folder), str(tmp_path / "boot.png")]) == 0
    as_it_is = capsys.readouterr().out.split(": ")[1]
    assert cnn.main(["predict", str(saved_folder), str(tmp_path / "inverted.png"), "--invert"]) == 0
    assert capsys.readouterr().out.split(": ")[1] == as_it_is
    assert re.fullmatch(r"(\D+ \d\.\d{3}(, |\n)){3}", as_it_is)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "nowhere: no such folder"),
        (train_small(init="best"), "init: expected one of random, Xavier, He, got 'best'"),
        (train_small("--pool-strides", "2", "2", "2", "2", "2"), "pool_sizes: layer 5 would pool 3 x 3 values"),
        (train_small(mlp_dropout=1.5), "dropout: expected a number from 0 to below 1"),
        (train_small(train_size=70_000), "split: expected at most"),
        (train_small("--resume"), "no training to resume"),
        (train_small("--mlp-batch-norm", mlp_batch_size=1), "batch_size: expected one that leaves no image alone"),
    ],
)
def test_q3d_errors_are_one_line(arguments, message, tmp_path, capsys):
    if arguments[0] == "train":
        arguments = [*arguments, "--models-dir", str(tmp_path)]
    assert cnn.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("cnn.py: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_q3d_only_one_process_trains_what_is_saved_in_one_place(tmp_path, capsys):
    checkpoint = tmp_path / "CNN_4_8_8_8_8.checkpoint.tmp"
    with command_line.reserved(checkpoint):
        assert cnn.main(train_small(models_dir=tmp_path)) == 1
        assert "another process is training it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_q3d_a_saved_pair_is_not_overwritten_unasked(saved_folder, capsys):
    before = (saved_folder / "weights.safetensors").stat()
    assert cnn.main(train_small(models_dir=saved_folder.parent)) == 1
    assert "exists; choose another --models-dir, or replace it with --overwrite" in capsys.readouterr().err
    assert (saved_folder / "weights.safetensors").stat() == before


@pytest.mark.skipif(os.name == "nt", reason="these signals are not Windows's")
@pytest.mark.parametrize("end", ["SIGKILL", "SIGINT"])
def test_q3d_a_killed_training_goes_on_to_the_same_weights(saved_folder, tmp_path, end):
    command = [sys.executable, "cnn.py", *train_small(models_dir=tmp_path)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Shells start what runs in the background with Ctrl-C ignored, and tests may run there.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    checkpoint = tmp_path / f"{saved_folder.name[: saved_folder.name.index('_mlp')]}.checkpoint.tmp"
    while not checkpoint.exists():
        assert process.poll() is None, "ended before its first checkpoint"
        time.sleep(0.01)
    while process.poll() is None:
        process.send_signal(signal.Signals[end])
        # A Ctrl-C can get lost in an object's destructor, where Python only prints it. A person would press again.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.5)
    _, error = process.communicate()
    if end == "SIGINT":
        assert process.returncode == 130
        assert f"{checkpoint} is kept; go on with --resume" in error
    assert checkpoint.exists()
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "--resume goes on" in refused.stderr
    subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, check=True)
    (folder,) = tmp_path.iterdir()  # and the checkpoint is gone
    resumed, expected = load_model(folder), load_model(saved_folder)
    assert resumed.metrics == expected.metrics
    assert all(np.array_equal(resumed.weights[name], array) for name, array in expected.weights.items())


# What was reached ------------------------------------------------------------------------------------------------


def test_q3d_features_and_mlp_reach_their_bar_over_three_seeds():
    rows = read_csv(SEEDS)
    assert len({row["seed"] for row in rows}) >= 3
    assert np.mean([row["test"] for row in rows]) >= 0.935


def test_q3d_saved_pair_best_on_validation_reaches_its_bar(saved_models, capsys):
    folders = [folder for name, folder in saved_models.items() if name.startswith("CNN_")]
    best = max(folders, key=lambda folder: load_model(folder).metrics["validation"]["accuracy"])
    assert cnn.main(["evaluate", str(best), "--device", "cpu"]) == 0
    assert float(capsys.readouterr().out.split()[-1]) >= 0.94
