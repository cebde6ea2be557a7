"""Saved models: a folder each, with the weights as safetensors and all else as JSON and CSV that a person can read.

What a folder holds:

    weights.safetensors   the arrays, by name
    model.json            what it is and how it was made: architecture, hyperparameters, seed, split, versions
    history.csv           a row an epoch, in a model of two parts with the column part
    metrics.json          validation and test metrics
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model_utils.tables import read_csv, write_csv


class SavedModelError(Exception):
    """A saved model is incomplete or damaged."""


class SavedModel(NamedTuple):
    """The content of a saved model's folder.

    Attributes
    ----------
    weights : dict of str to ndarray
    description : dict
        Goes through JSON, so tuples come back as lists.
    history : list of dict
        A row an epoch; the same keys in each.
    metrics : dict
    """

    weights: dict
    description: dict
    history: list
    metrics: dict


def save_model(folder, saved):
    """Write a saved model, in place of one that is there already.

    The folder appears under its name only when it is complete. The old one is put aside as NAME.old.tmp meanwhile, and
    removed last: whenever this is cut off, a whole model is there, and `is_saved` and `load_model` find it.

    Parameters
    ----------
    folder : path
    saved : SavedModel
    """
    folder = Path(folder)
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(saved.weights, unfinished / "weights.safetensors")
    for name, content in (("model.json", saved.description), ("metrics.json", saved.metrics)):
        (unfinished / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_csv(unfinished / "history.csv", saved.history)
    replaced = _put_aside(folder)
    if is_saved(folder):
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    unfinished.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def is_saved(folder):
    """Say whether there is a folder; one that `save_model` had put aside when it was cut off is put back first."""
    folder = Path(folder)
    if not folder.exists() and _put_aside(folder).exists():
        _put_aside(folder).rename(folder)
    return folder.is_dir()


def remove_saved(folder):
    """Remove a folder, if there is one, together with an older one that `save_model` had put aside."""
    for path in (_put_aside(Path(folder)), folder):
        shutil.rmtree(path, ignore_errors=True)


def list_saved(models_dir):
    """List the folders of the models saved under `models_dir`, which holds a folder for each kind, such as mlp."""
    return sorted(path.parent for path in Path(models_dir).glob("*/*/model.json") if path.parent.suffix != ".tmp")


def _put_aside(folder):
    return folder.with_name(folder.name + ".old.tmp")


def load_model(folder):
    """Read a saved model.

    Returns
    -------
    SavedModel

    Raises
    ------
    SavedModelError
        If the folder or a file in it is missing or cannot be read; it names the file.
    """
    folder = Path(folder)
    if not is_saved(folder):
        raise SavedModelError(f"{folder}: no such folder")
    try:
        path = folder / "weights.safetensors"
        weights = load_file(path)
        path = folder / "model.json"
        description = json.loads(path.read_text(encoding="utf-8"))
        path = folder / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        path = folder / "history.csv"
        history = read_csv(path, text_columns=("part",))
    except FileNotFoundError:
        raise SavedModelError(f"{path}: missing; a saved model has this file") from None
    except (SafetensorError, ValueError, TypeError) as error:
        raise SavedModelError(f"{path}: damaged ({error})") from error
    return SavedModel(weights, description, history, metrics)
