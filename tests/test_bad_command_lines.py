"""Bad command lines: each ends at once with one line that says what is wrong, and leaves nothing behind."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnn
import mlp
from experiments import __main__ as experiments
from model_utils.cnn_backbone import CNNHyperparameters

pytestmark = pytest.mark.q2f

FIVE_HUGE = ["100000000"] * 5

# For `train` of both scripts.
BAD_TRAININGS = [
    (["--epochs", "0"], "epochs: expected an integer from 1 to 1,000,000, got 0"),
    (["--epochs", "10000000000"], "epochs: expected"),
    (["--batch-size", "-1"], "batch_size: expected"),
    (["--batch-size", "99999999999999999999"], "batch_size: expected"),
    (["--learning-rate", "nan"], "learning_rate: expected"),
    (["--learning-rate", "inf"], "learning_rate: expected"),
    (["--learning-rate", "1e39"], "learning_rate: expected"),
    (["--learning-rate", "-1"], "learning_rate: expected"),
    (["--weight-decay", "-0.1"], "weight_decay: expected"),
    (["--label-smoothing", "2"], "label_smoothing: expected a number from 0 to below 1, got 2.0"),
    (["--label-smoothing", "1"], "label_smoothing: expected"),
    (["--dropout", "1.5"], "dropout: expected"),
    (["--shift", "28"], "shift: expected an integer from 0 to 13, got 28"),
    (["--shift", "1000000"], "shift: expected"),
    (["--shift", "-1"], "shift: expected"),
    (["--patience", "-1"], "patience: expected"),
    (["--seed", "-1"], "seed: expected"),
    (["--seed", "4294967296"], "seed: expected"),
    (["--init", "he"], "init: expected one of random, Xavier, He"),
    (["--train-size", "60001"], "train: expected an integer from 10 to 60,000, got 60001"),
    (["--train-size", "60000"], "train, validation: expected at most 60,000 images"),
    (["--train-size", "-5"], "train: expected"),
    (["--train-size", "9"], "train: expected"),
    (["--validation-size", "0"], "validation: expected"),
    (["--validation-size", "1000000000000"], "validation: expected"),
    (["--test-size", "70001"], "test: expected an integer from 10 to 70,000, got 70001"),
    (["--test-size", "69000"], "train, validation, test: expected at most 70,000 images"),
    (["--split-seed", "-1"], "seed: expected"),
    (["--split-seed", "4294967296"], "seed: expected"),
]
BAD_MLP_TRAININGS = [
    (["--hidden-sizes", "1000000000"], "hidden_sizes: expected"),
    (["--hidden-sizes", "100000", "100000"], "hidden_sizes: 784-100000-100000-10 has 10,079,600,010"),
    (["--hidden-sizes", "99999999999999999999999"], "hidden_sizes: expected"),
    (["--hidden-sizes", "0"], "hidden_sizes: expected"),
    (["--hidden-sizes", "-3"], "hidden_sizes: expected"),
    (["--hidden-sizes", *["8"] * 101], "hidden_sizes: expected"),
    (["--hidden-sizes", *["1000"] * 40], "characters"),
    (["--activation", "relo"], "activation: expected"),
    (["--objective", "hinge"], "objective: expected"),
    (["--optimizer", "lion"], "optimizer: expected"),
    (["--schedule", "linear"], "schedule: expected"),
    (["--clip-norm", "-1"], "clip_norm: expected"),
    (["--batch-norm", "--batch-size", "1"], "batch_size: batch normalisation needs"),
]
BAD_CNN_TRAININGS = [
    (["--channels", *FIVE_HUGE], "channels: expected"),
    (["--channels", *["4096"] * 5], "channels: 1-4096-4096-4096-4096-4096-256 has 605,"),
    (["--channels"], "channels: expected at least one layer"),
    (["--channels", "8"], "kernel_sizes: expected 1"),
    (["--channels", "0", "8", "8", "8", "8"], "channels: expected"),
    (["--kernel-sizes", "29", "3", "3", "3", "3"], "kernel_sizes: expected a tuple of up to 100 integers from 1 to 28"),
    (["--kernel-sizes", "3", "3", "3", "3", "7"], "kernel_sizes: expected at most 5 in layer 5, which sees maps of 2"),
    (["--kernel-sizes", *FIVE_HUGE], "kernel_sizes: expected"),
    (["--pool-sizes", "2", "2", "2", "2", "28"], "pool_sizes: expected at most 5 in layer 5"),
    (["--pool-strides", "3", "2", "2", "2", "2"], "pool_sizes: expected at least the stride 3 in layer 1"),
    (["--pool-strides", "0", "2", "2", "2", "2"], "pool_strides: expected"),
    (["--n-features", "0"], "n_features: expected"),
    (["--n-features", "1000000000"], "n_features: expected"),
    (["--erase", "28"], "erase: expected an integer from 0 to 27, got 28"),
    (["--average", "1"], "average: expected"),
    (["--backbone", "resnet1000"], "backbone: expected"),
    (["--backbone", "resnet18", "--channels", "8"], "channels: an option of cnn5, not of resnet18"),
    (["--backbone", "resnet18", "--image-size", "100000"], "image_size: expected an integer from 32 to 512"),
    (["--backbone", "resnet18", "--frozen", "--end-to-end"], "end_to_end: expected"),
    (["--mlp-hidden-sizes", "1000000000"], "mlp_hidden_sizes: expected"),
    (["--mlp-hidden-sizes", "100000", "100000", "--train-size", "10"], "hidden_sizes: 256-100000-100000-10 has"),
    (["--mlp-hidden-sizes", "100000", "100000", "--train-size", "10", "--end-to-end"], "hidden_sizes: 256-100000"),
    (["--mlp-label-smoothing", "1"], "mlp_label_smoothing: expected"),
    (["--mlp-epochs", "0"], "mlp_epochs: expected"),
    (["--mlp-batch-norm", "--mlp-batch-size", "1"], "batch_size: batch normalisation needs"),
    (["--end-to-end", "--mlp-epochs", "3"], "mlp_epochs: end to end, the MLP takes its epochs from the backbone"),
    (["--mlp-hidden-sizes", *["1000"] * 40], "characters"),
]
TRAININGS = [
    *((main, *bad) for main in (mlp.main, cnn.main) for bad in BAD_TRAININGS),
    *((mlp.main, *bad) for bad in BAD_MLP_TRAININGS),
    *((cnn.main, *bad) for bad in BAD_CNN_TRAININGS),
]
# argparse refuses what is of another type, with status 2.
BAD_TYPES = [
    (mlp.main, ["train", "--epochs", "ten"]),
    (mlp.main, ["train", "--epochs", "2.5"]),
    (mlp.main, ["train", "--flip", "no"]),
    (mlp.main, ["train", "--test-size", "oficial"]),
    (mlp.main, ["train", "--hidden-sizes", "64,32"]),
    (mlp.main, ["train", "--nonsense"]),
    (mlp.main, ["evaluate"]),
    (mlp.main, ["predict", "models"]),
    (mlp.main, ["nonsense"]),
    (mlp.main, []),
    (cnn.main, ["train", "--device", "tpu"]),
    (cnn.main, ["train", "--channels", "a"]),
    (cnn.main, ["export", "models"]),
    (experiments.main, ["show"]),
    (experiments.main, ["run", "mlp_size", "--workers", "two"]),
]


def refused(main, arguments, capsys):
    """Run a command that must fail; return what it says."""
    assert main([str(argument) for argument in arguments]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    return said


@pytest.mark.parametrize(("main", "options", "message"), TRAININGS)
def test_training_is_refused_before_it_begins(main, options, message, tmp_path, capsys, monkeypatch):
    if "--train-size" not in options:
        monkeypatch.setattr("data_preparation.load_official", lambda data_dir: pytest.fail("the data were loaded"))
    said = refused(main, ["train", *options, "--models-dir", tmp_path / "models"], capsys)
    assert message in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("main", "arguments"), BAD_TYPES)
def test_arguments_of_another_type_are_refused(main, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nonsense"], "study: expected one of"),
        (["mlp_size", "--train-size", "60001"], "train_size: expected an integer from 10 to 59,990, got 60001"),
        (["mlp_size", "--train-size", "0"], "train_size: expected"),
        (["mlp_size", "--trials", "0"], "trials: expected"),
        (["mlp_size", "--trials", "1000"], "n_trials: expected at most"),
        (["mlp_size", "--trials", "10000000000"], "trials: expected"),
        (["mlp_size", "--workers", "1000000"], "workers: expected an integer from 1 to 1,000, got 1000000"),
        (["mlp_size", "--workers", "0"], "workers: expected"),
    ],
)
def test_a_study_is_refused_before_it_begins(options, message, tmp_path, capsys):
    assert message in refused(experiments.main, ["run", *options, "--folder", tmp_path / "studies"], capsys)
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".db"]


@pytest.mark.parametrize("command", ["models", "measure"])
def test_a_folder_without_models_is_refused(command, tmp_path, capsys):
    assert "nosuch: no s" in refused(experiments.main, [command, tmp_path / "nosuch"], capsys)


def make_database(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (a)")
    database.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "unable to open"),
        (lambda path: path.write_text("no database " * 1000), "not a database"),
        (lambda path: path.touch(), "no such table"),
        (make_database, "no such table"),
    ],
    ids=["folder", "text", "empty", "another database"],
)
def test_a_file_that_is_no_study_is_refused_and_left_as_it_is(make, message, tmp_path, capsys):
    path = tmp_path / "mlp_size.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    said = refused(experiments.main, ["show", "mlp_size", "--folder", tmp_path], capsys)
    assert "expected the study mlp_size" in said
    assert message in said
    assert before is None or path.read_bytes() == before


def test_a_folder_of_studies_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    said = refused(experiments.main, ["run", "mlp_size", "--folder", tmp_path / "file"], capsys)
    assert "expected a folder" in said


@pytest.fixture(scope="module")
def saved_pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    options = ["--train-size", "300", "--validation-size", "100", "--test-size", "100", "--epochs", "1"]
    options += ["--channels", "2", "2", "2", "2", "2", "--n-features", "4", "--mlp-hidden-sizes", "4"]
    assert cnn.main(["train", *options, "--mlp-epochs", "1", "--device", "cpu", "--models-dir", str(folder)]) == 0
    (pair,) = (path for path in folder.iterdir() if path.is_dir())
    return pair


@pytest.mark.parametrize("make", ["folder", "device"])
def test_export_replaces_no_folder_and_no_device(saved_pair, make, tmp_path, capsys):
    target = tmp_path / "pair.onnx"
    if make == "folder":
        target.mkdir()
    elif not Path("/dev/null").exists():
        pytest.skip("there is no /dev/null here")
    else:
        target.symlink_to("/dev/null")  # a link to a device stands for it; nobody but root can make one
    said = refused(cnn.main, ["export", saved_pair, target], capsys)
    assert "expected a file" in said
    assert [path.name for path in tmp_path.iterdir()] == ["pair.onnx"]
    assert target.is_dir() if make == "folder" else target.is_symlink()


def test_export_that_fails_leaves_nothing_behind(saved_pair, tmp_path, capsys, need, monkeypatch):
    need("onnx", "onnxscript")

    def full_disk(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("torch.onnx.ONNXProgram.save", full_disk)
    assert "No space left" in refused(cnn.main, ["export", saved_pair, tmp_path / "pair.onnx"], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["evaluate", "inspect", "predict"])
@pytest.mark.parametrize("main", [mlp.main, cnn.main])
def test_what_is_no_saved_model_is_refused(main, command, tmp_path, capsys):
    (tmp_path / "file").write_text("{}")
    (tmp_path / "empty").mkdir()
    pictures = ["picture.png"] if command == "predict" else []
    for name in ("nothing", "file", "empty"):
        assert name in refused(main, [command, tmp_path / name, *pictures], capsys)


def test_pictures_that_cannot_be_read_are_refused(saved_pair, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(np.zeros((2, 900), np.uint8)).save(tmp_path / "line.png")
    for name in ("missing.png", "text.png", "folder.png", "line.png"):
        assert name in refused(cnn.main, ["predict", saved_pair, tmp_path / name], capsys)


def test_every_limit_of_the_five_layer_cnn_is_reachable():
    """The limits are no narrower than what they are meant to keep out."""
    CNNHyperparameters(kernel_sizes=(28, 28, 15, 9, 5), shift=13, erase=27)
    CNNHyperparameters(channels=(4096,), kernel_sizes=(1,), pool_sizes=(28,), pool_strides=(28,))
