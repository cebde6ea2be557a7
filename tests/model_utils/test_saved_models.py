"""The folders of saved models: written whole, read whole and checked, or refused by the name of a file."""

import contextlib
import copy
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from model_utils import files
from model_utils.command_line import check_folder_is_free
from model_utils.files import remove_folder
from model_utils.saved_models import (
    NotSavedError,
    SavedModel,
    SavedModelError,
    add_file,
    is_saved,
    load_facts,
    load_model,
    read_added,
    save_model,
)

pytestmark = pytest.mark.q2f

ROOT = Path(__file__).parents[2]
SCORES = {"precision": 0.5, "recall": 1.0, "f1": 0.0}
MEASURED = {"accuracy": 0.25, **SCORES, "per_class": {"T-shirt/top": SCORES}, "confusion_matrix": [[1, 0], [2, 3]]}
LOSSES = {"train_loss": 0.1, "train_accuracy": 0.5, "validation_loss": 1e-9, "validation_accuracy": 0.5}
EPOCH = LOSSES | {"learning_rate": 0.1, "seconds": 2.5}
SAVED = SavedModel(
    weights={"W": np.arange(6.0).reshape(2, 3), "b": np.float32([0.1, -1]), "n": np.array(3)},
    description={
        "kind": "mlp",
        "sizes": [2, 3],
        "dtype": "float32",
        "n_parameters": 8,
        "multiply_adds": 6,
        "hyperparameters": {"hidden_sizes": []},
        "split": {"train": 10, "validation": 5, "test": "official", "seed": 0},
        "epochs_run": 2,
        "best_epoch": 1,
        "training_seconds": 5.0,
    },
    history=[{"epoch": 1} | EPOCH, {"epoch": 2} | EPOCH],
    metrics={"validation": MEASURED, "test": MEASURED},
)
PAIR = SAVED._replace(
    description=SAVED.description
    | {"kind": "pair", "mlp_hyperparameters": {}, "trained_on": {"device": "cpu"}}
    | {"epochs_run": {"backbone": 1, "mlp": 2}, "best_epoch": {"backbone": 1, "mlp": 1}},
    history=[{"part": part, "epoch": n} | EPOCH for part, n in (("backbone", 1), ("mlp", 1), ("mlp", 2))],
)
FILES = ["weights.safetensors", "model.json", "history.csv", "metrics.json"]


@pytest.fixture
def folder(tmp_path):
    """A saved model, alone in its parent folder."""
    folder = tmp_path / "mlp" / "name"
    save_model(folder, SAVED)
    return folder


def assert_same(loaded, saved):
    assert loaded.weights.keys() == saved.weights.keys()
    for name, array in saved.weights.items():
        np.testing.assert_array_equal(loaded.weights[name], array)
        assert loaded.weights[name].dtype == array.dtype
    assert loaded[1:] == saved[1:]


def test_what_was_saved_is_loaded(folder, tmp_path):
    assert_same(load_model(folder, "mlp"), SAVED)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    save_model(tmp_path / "pair", PAIR)
    assert_same(load_model(tmp_path / "pair", "pair"), PAIR)


def test_arrays_are_saved_by_value_whatever_their_layout_in_memory(tmp_path):
    weights = {"W": SAVED.weights["W"].T, "b": np.arange(8)[::2]}
    save_model(tmp_path / "name", SAVED._replace(weights=weights))
    assert_same(load_model(tmp_path / "name", "mlp"), SAVED._replace(weights=weights))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_all_files_have_the_permissions_that_the_user_gives_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        save_model(tmp_path / "name", SAVED)
    finally:
        os.umask(before)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "name").iterdir()}
    assert modes == dict.fromkeys(FILES, "0o640")
    assert stat.S_IMODE((tmp_path / "name").stat().st_mode) == 0o750


def test_another_kind_is_refused_by_name(folder):
    with pytest.raises(SavedModelError, match=r"name: expected kind pair in model\.json, got 'mlp'"):
        load_model(folder, "pair")
    save_model(folder, SAVED._replace(description={"kind": "checkpoint"}))
    with pytest.raises(SavedModelError, match=r"name: expected kind mlp or pair in model\.json, got 'checkpoint'"):
        load_facts(folder)


def test_a_saved_model_is_not_overwritten_unasked_wherever_it_is(folder):
    for place in (folder, files._beside(folder, "old")):  # where it stands if a save was cut off
        folder = folder.rename(place)
        with pytest.raises(ValueError, match=r"exists; choose another --models-dir"):
            check_folder_is_free(place.with_name("name"), overwrite=False)
        check_folder_is_free(place.with_name("name"), overwrite=True)
        assert_same(load_model(place.with_name("name"), "mlp"), SAVED)


def test_removed_is_removed(folder):
    remove_folder(folder)
    assert not is_saved(folder)
    with pytest.raises(SavedModelError, match="name: no such folder"):
        load_model(folder, "mlp")
    with pytest.raises(SavedModelError, match="x: "):
        load_model(folder / ("x" * 1000), "mlp")


def test_facts_are_there_without_the_weights(folder):
    (folder / "weights.safetensors").unlink()
    assert load_facts(folder) == SAVED._replace(weights={})


def test_a_file_is_added_and_belongs_to_its_model(folder):
    (folder / "weights.safetensors").unlink()  # as in the folders of large networks
    for text in ("né\n", "another"):
        add_file(folder, "measured.json", text)
        assert read_added(folder, "measured.json") == text
        assert load_facts(folder) == SAVED._replace(weights={})
    (folder / "measured.json").write_text("anotheR")
    with pytest.raises(SavedModelError, match=r"measured\.json: damaged"):
        read_added(folder, "measured.json")
    added = (folder / "measured.json").read_bytes()
    save_model(folder, SAVED)
    (folder / "measured.json").write_bytes(added)  # of the model that was here before
    with pytest.raises(SavedModelError, match=r"measured\.json: damaged"):
        read_added(folder, "measured.json")


def test_a_model_is_read_from_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert load_model(".", "mlp").description == load_model(folder, "mlp").description


# What is damaged -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_damaged_or_missing_file_is_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SavedModelError, match=f"{name}: damaged"):
        load_model(folder, "mlp")
    path.unlink()
    with pytest.raises(SavedModelError, match=f"{name}: missing"):
        load_model(folder, "mlp")
    path.mkdir()
    with pytest.raises(SavedModelError, match=f"{name}: missing"):
        load_model(folder, "mlp")


@pytest.mark.parametrize("name", ["weights.safetensors", "history.csv", "metrics.json"])
def test_every_flipped_bit_is_found(folder, name):
    path = folder / name
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(content), min(100, len(content)), replace=False):
        flipped = bytearray(content)
        flipped[position] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(SavedModelError, match=f"{name}: damaged"):
            load_model(folder, "mlp")
    path.write_bytes(content)
    assert_same(load_model(folder, "mlp"), SAVED)


def test_no_flipped_bit_changes_what_model_json_says(folder):
    """One in the space around what it says may pass."""
    path = folder / "model.json"
    content = path.read_bytes()
    n_passed = 0
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with contextlib.suppress(SavedModelError):
            assert_same(load_model(folder, "mlp"), SAVED)
            n_passed += 1
    assert n_passed <= content.count(b" ") + content.count(b"\n")


def with_change(saved, *keys, value):
    """A saved model with another value at a place, which is removed if the value is KeyError."""
    content = copy.deepcopy(saved._asdict())
    *outer, last = keys
    place = content
    for key in outer:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return SavedModel(**content)


TOO_LARGE = 10**400  # for a float


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (with_change(SAVED, "description", "split", value=KeyError), r"model\.json: damaged .*missing split"),
        (with_change(SAVED, "description", "split", value=[]), r"split: expected a dict, got a list"),
        (with_change(SAVED, "description", "split", "seed", value="0"), r"split\.seed: expected an integer"),
        (with_change(SAVED, "description", "split", "path", value="/"), r"split\.path: not known"),
        (with_change(SAVED, "description", "hyperparameters", value=None), "hyperparameters: expected a dict"),
        (with_change(SAVED, "description", "sizes", value=[2, True]), r"sizes\[1\]: expected an integer of at least 1"),
        (with_change(SAVED, "description", "n_parameters", value=1.5), "n_parameters: expected an integer"),
        (
            with_change(SAVED, "description", "training_seconds", value=TOO_LARGE),
            "training_seconds: expected a finite number",
        ),
        (
            with_change(SAVED, "description", "epochs_run", value=3),
            r"history\.csv: damaged \(expected 3 epochs, got 2\)",
        ),
        (
            with_change(SAVED, "description", "best_epoch", value=2),
            r"history\.csv: damaged \(expected best_epoch",
        ),
        (with_change(PAIR, "description", "trained_on", "device", value="\x1b[2J"), "device: expected printable text"),
        (with_change(PAIR, "description", "epochs_run", "mlp", value=1), "expected 2 epochs, got 3"),
        (with_change(PAIR, "description", "best_epoch", "head", value=1), "expected best_epoch"),
        (with_change(PAIR, "history", 0, "part", value="mlp"), "expected the epochs from 1 to 1"),
        (
            with_change(SAVED, "history", 0, "validation_loss", value=np.nan),
            r"validation_loss: expected a finite number",
        ),
        (with_change(SAVED, "history", 1, "epoch", value=1), r"expected the epochs from 1 to 2"),
        (SAVED._replace(history=[{"epoch": 1}, {"epoch": 2}]), r"history\.csv: damaged .*missing learning_rate"),
        (with_change(SAVED, "metrics", "test", value=KeyError), r"metrics\.json: damaged .*missing test"),
        (with_change(SAVED, "metrics", "test", "accuracy", value=1.5), "accuracy: expected a number from 0 to 1"),
        (with_change(SAVED, "metrics", "head_test", value={}), "head_test: missing accuracy"),
        (
            with_change(SAVED, "metrics", "test", "per_class", "Shirt", value={"f1": 1}),
            "Shirt: missing precision, recall",
        ),
        (with_change(SAVED, "metrics", "test", "per_class", "\ud800", value=SCORES), "name: expected printable text"),
        (with_change(SAVED, "metrics", "test", "confusion_matrix", value=[[-1]]), r"\[0\]\[0\]: expected an integer"),
    ],
)
def test_what_has_another_form_than_expected_is_named(tmp_path, changed, message):
    """Whoever writes such a model can write its checksums, too."""
    save_model(tmp_path / "name", changed)
    with pytest.raises(SavedModelError, match=message):
        load_model(tmp_path / "name", changed.description["kind"])


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff", b'{"sha256": []}', b'{"sha256": {}}'])
def test_what_is_no_description_is_refused(folder, content):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(SavedModelError, match=r"model\.json: damaged"):
        load_model(folder, "mlp")


# While and after somebody saves --------------------------------------------------------------------------------------


def version_of(number):
    """A saved model all of whose files say the same number, different in each version."""
    row = EPOCH | {"epoch": 1, "seconds": number}
    return SavedModel(
        {"W": np.full(50_000, number)},
        SAVED.description | {"epochs_run": 1, "best_epoch": 1, "training_seconds": number},
        [row],
        {part: MEASURED | {"number": number} for part in ("validation", "test")},
    )


def numbers_in(saved):
    yield from set(saved.weights["W"].tolist())
    yield saved.description["training_seconds"]
    yield saved.history[0]["seconds"]
    yield from (part["number"] for part in saved.metrics.values())


SAVER = """
import sys
from tests.model_utils.test_saved_models import save_model, version_of
for number in range(1, 100_000):
    save_model(sys.argv[1], version_of(number))
    print(number, flush=True)
"""


def start_saver(folder):
    """Save version after version in another process, which prints the number of each as soon as it is saved."""
    command = [sys.executable, "-c", SAVER, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout.readline() == "1\n"
    return process


def end_saver(process):
    """Kill the saver; return the last number that it printed."""
    process.kill()
    printed, _ = process.communicate()
    return int(printed.split()[-1]) if printed else 1


def test_who_reads_while_somebody_saves_finds_one_version_never_two_mixed(tmp_path):
    process = start_saver(tmp_path / "name")
    found = []
    try:
        for _ in range(300):
            numbers = set(numbers_in(load_model(tmp_path / "name", "mlp")))
            assert len(numbers) == 1
            found += numbers
    finally:
        end_saver(process)
    assert found == sorted(found)
    assert len(set(found)) > 10, "versions came and went meanwhile"


def test_a_save_that_is_killed_loses_nothing(tmp_path):
    for seed in range(5):
        process = start_saver(tmp_path / "name")
        time.sleep(np.random.default_rng(seed).uniform(0, 0.05))
        last = end_saver(process)
        (number,) = set(numbers_in(load_model(tmp_path / "name", "mlp")))
        assert number in (last, last + 1)


def test_a_power_cut_while_somebody_saves_loses_nothing(disk):
    for seed in range(3):
        process = start_saver(disk.folder / "name")
        time.sleep(np.random.default_rng(seed).uniform(0, 0.05))
        disk.cut_power()
        last = end_saver(process)
        disk.start_again()
        (number,) = set(numbers_in(load_model(disk.folder / "name", "mlp")))
        assert number in (last, last + 1)


def test_a_save_that_fails_leaves_the_old_model_whole(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(NotSavedError, match=r"name: not saved \(Object of type object is not JSON"):
        save_model(folder, SAVED._replace(metrics={"not JSON": object()}))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_model(folder, SAVED)  # what the failed one left is no hindrance
    assert [path.name for path in folder.parent.iterdir()] == ["name"]
