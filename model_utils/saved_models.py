"""Saved models: a folder each, with the weights as safetensors and all else as JSON and CSV that a person can read.

What a folder holds:

    weights.safetensors   the arrays, by name
    model.json            what it is and how it was made: architecture, hyperparameters, seed, split, versions
    history.csv           a row an epoch, in a model of two parts with the column part
    metrics.json          validation and test metrics
"""

import json
import platform
import shutil
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model_utils.tables import read_csv, write_csv

WEIGHTS = "weights.safetensors"


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
    removed last: whenever this is cut off, a whole model is there, and `load_model` finds it.

    Parameters
    ----------
    folder : path
    saved : SavedModel
    """
    folder = Path(folder)
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(saved.weights, unfinished / WEIGHTS)
    for name, content in (("model.json", saved.description), ("metrics.json", saved.metrics)):
        (unfinished / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_csv(unfinished / "history.csv", saved.history)
    if folder.exists():
        shutil.rmtree(_put_aside(folder), ignore_errors=True)
        folder.rename(_put_aside(folder))
    unfinished.rename(folder)
    shutil.rmtree(_put_aside(folder), ignore_errors=True)


def is_saved(folder):
    """Return whether a model is saved under this name, or was when `save_model` was cut off in replacing it."""
    return Path(folder).is_dir() or _put_aside(folder).is_dir()


def remove_saved(folder):
    """Remove a saved model, if there is one, together with an older one that `save_model` had put aside."""
    for path in (_put_aside(folder), folder):
        shutil.rmtree(path, ignore_errors=True)


def load_model(folder, kind):
    """Read a saved model.

    Parameters
    ----------
    folder : path
    kind : str
        What it is, by its own word: "mlp", "pair" or "checkpoint".

    Returns
    -------
    SavedModel

    Raises
    ------
    SavedModelError
        If the folder or a file in it is missing or cannot be read, or it holds another kind; it names the file.
    """
    folder = _where_saved(folder)
    saved = load_facts(folder)
    if saved.description["kind"] != kind:
        raise SavedModelError(f"{folder}: expected kind {kind} in model.json, got {saved.description['kind']!r}")
    return saved._replace(weights=_read(folder / WEIGHTS, load_file))


def load_facts(folder):
    """Read a saved model of any kind without its weights, which need not be there; see `load_model`."""
    folder = _where_saved(folder)
    description = _read(folder / "model.json", _read_json)
    if not isinstance(description, dict) or "kind" not in description:
        raise SavedModelError(f"{folder / 'model.json'}: damaged (it does not say what kind of model this is)")
    return SavedModel(
        {},
        description,
        _read(folder / "history.csv", partial(read_csv, text_columns=("part",))),
        _read(folder / "metrics.json", _read_json),
    )


def versions(*packages):
    """Return the versions of Python and of installed packages, for a description."""
    return {"python": platform.python_version()} | {package: metadata.version(package) for package in packages}


def check_whole(saved, names):
    """Look up all that `evaluate` and `inspect` ask of a saved model: better missed at once than half-way.

    Parameters
    ----------
    saved : SavedModel
    names : sequence of str
        Of its description.

    Raises
    ------
    KeyError, TypeError, ValueError
        If something is missing, or the history has another number of epochs than were run.
    """
    for name in names:
        saved.description[name]
    for part in ("validation", "test"):
        for name in ("accuracy", "precision", "recall", "f1", "per_class"):
            saved.metrics[part][name]
    n_epochs = saved.description["epochs_run"]
    n_epochs = sum(n_epochs.values()) if isinstance(n_epochs, dict) else n_epochs
    if n_epochs != len(saved.history):
        raise ValueError(f"history.csv: expected {n_epochs} epochs, got {len(saved.history)}")


def _put_aside(folder):
    return Path(folder).with_name(Path(folder).name + ".old.tmp")


def _where_saved(folder):
    if not is_saved(folder):
        raise SavedModelError(f"{folder}: no such folder")
    return Path(folder) if Path(folder).is_dir() else _put_aside(folder)


def _read(path, read):
    try:
        return read(path)
    except FileNotFoundError:
        raise SavedModelError(f"{path}: missing; a saved model has this file") from None
    except (SafetensorError, ValueError, TypeError) as error:
        raise SavedModelError(f"{path}: damaged ({error})") from error


def _read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))
