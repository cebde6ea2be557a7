"""The folders of saved models: written whole, read by kind, put aside, removed."""

import shutil

import numpy as np
import pytest

from model_utils.command_line import check_folder_is_free
from model_utils.saved_models import (
    SavedModel,
    SavedModelError,
    is_saved,
    load_facts,
    load_model,
    remove_saved,
    save_model,
)

pytestmark = pytest.mark.q2f

SAVED = SavedModel(
    weights={"W": np.arange(6.0).reshape(2, 3), "b": np.float32([0.1, -1])},
    description={"kind": "mlp", "sizes": [2, 3]},
    history=[{"part": "1e-4", "epoch": 1, "loss": 0.1}, {"part": "mlp", "epoch": 2, "loss": 1e-9}],
    metrics={"test": {"accuracy": 0.25}},
)


@pytest.fixture
def folder(tmp_path):
    """A saved model, alone in its parent folder."""
    folder = tmp_path / "mlp" / "name"
    save_model(folder, SAVED)
    return folder


def put_aside(folder):
    """Leave things as a save does that is cut off between its two renames."""
    return folder.rename(folder.with_name(folder.name + ".old.tmp"))


def neighbours(folder):
    return sorted(path.name for path in folder.parent.iterdir())


def test_what_was_saved_is_loaded(folder):
    loaded = load_model(folder, "mlp")
    assert loaded.weights.keys() == SAVED.weights.keys()
    for name, array in SAVED.weights.items():
        np.testing.assert_array_equal(loaded.weights[name], array)
        assert loaded.weights[name].dtype == array.dtype
    assert loaded[1:] == SAVED[1:]
    assert neighbours(folder) == ["name"]


def test_another_kind_is_refused_by_name(folder):
    with pytest.raises(SavedModelError, match=r"name: expected kind pair in model\.json, got 'mlp'"):
        load_model(folder, "pair")
    (folder / "model.json").write_text("[]")
    with pytest.raises(SavedModelError, match=r"model\.json: damaged .*what kind"):
        load_model(folder, "mlp")


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "history.csv", "metrics.json"])
def test_damaged_or_missing_file_is_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SavedModelError, match=f"{name}: damaged"):
        load_model(folder, "mlp")
    path.unlink()
    with pytest.raises(SavedModelError, match=f"{name}: missing"):
        load_model(folder, "mlp")


def test_facts_are_there_without_the_weights(folder):
    (folder / "weights.safetensors").unlink()
    assert load_facts(folder) == SAVED._replace(weights={})


def test_a_save_cut_off_between_its_renames_is_found_where_it_was_put_aside(folder):
    aside = put_aside(folder)
    assert is_saved(folder)
    assert load_model(folder, "mlp")[1:] == SAVED[1:]
    assert neighbours(folder) == [aside.name], "whoever only looks renames nothing"
    save_model(folder, SAVED._replace(metrics={}))
    assert load_model(folder, "mlp").metrics == {}
    assert neighbours(folder) == [folder.name]


def test_what_was_put_aside_does_not_stand_before_the_new_one(folder):
    """As a save leaves it that is cut off in its last step."""
    shutil.copytree(folder, folder.with_name(folder.name + ".old.tmp"))
    save_model(folder, SAVED._replace(metrics={}))
    assert load_model(folder, "mlp").metrics == {}
    assert neighbours(folder) == [folder.name]


def test_a_model_that_was_put_aside_is_not_overwritten_unasked(folder):
    put_aside(folder)
    with pytest.raises(ValueError, match=r"exists; choose another --models-dir"):
        check_folder_is_free(folder, overwrite=False)
    check_folder_is_free(folder, overwrite=True)


def test_removed_is_removed_together_with_what_was_put_aside(folder):
    """As a save leaves it that is cut off in its last step."""
    shutil.copytree(folder, folder.with_name(folder.name + ".old.tmp"))
    remove_saved(folder)
    assert not is_saved(folder)
    assert neighbours(folder) == []
    with pytest.raises(SavedModelError, match="name: no such folder"):
        load_model(folder, "mlp")
    remove_saved(folder)  # nothing there, nothing to do


def test_a_save_that_fails_leaves_the_old_model_whole(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TypeError):
        save_model(folder, SAVED._replace(metrics={"not JSON": object()}))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_model(folder, SAVED)  # what the failed one left is no hindrance
    assert neighbours(folder) == [folder.name]
