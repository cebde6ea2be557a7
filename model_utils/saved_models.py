"""Saved models: one folder each, with the weights as safetensors and everything else as readable JSON and CSV.

A folder holds:

    weights.safetensors   the arrays, by name
    model.json            what it is and how it was made: architecture, hyperparameters, seed, split, versions; and the
                          SHA-256 of every other file, and of model.json without its checksums
    history.csv           one row for each epoch; for a model of two parts, the column `part` says which
    metrics.json          validation and test metrics
    README.md             the page that shows it, with curves.png and confusion.png; see `model_page`

Nothing in a file is used before two checks: first that the file is the one that was saved, then that its content has
the expected form.
"""

import contextlib
import hashlib
import json
import platform
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from model_utils.checks import check_count, check_finite, check_form, check_share, check_text
from model_utils.files import find_folder, replace_folder, replacing
from model_utils.tables import csv_text, parse_csv
from model_utils.training import best_epoch

WEIGHTS, DESCRIPTION, HISTORY, METRICS = "weights.safetensors", "model.json", "history.csv", "metrics.json"
SHA256 = "sha256"  # the entry of model.json

# The expected forms of what is read; see `checks.check_form`.
_count_from_0 = partial(check_count, minimum=0)
_SCORES = {"precision": check_share, "recall": check_share, "f1": check_share}
_MEASURED = {"accuracy": check_share, **_SCORES, "per_class": {...: _SCORES}, "confusion_matrix": [[_count_from_0]]}
_METRICS = {"validation": _MEASURED, "test": _MEASURED, ...: _MEASURED}
_LOSS_AND_ACCURACY = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
_EPOCH = dict.fromkeys(("epoch", *_LOSS_AND_ACCURACY, "learning_rate", "seconds"), check_finite)


def _check_cell(name, value):
    check = check_text if isinstance(value, str) else check_finite
    check(name, value)


def _check_test_size(name, value):
    if value != "official":
        check_count(name, value)


def _check_unknown(name, value):
    raise ValueError(f"{name}: not known")


_SIZES = {"train": check_count, "validation": check_count, "test": _check_test_size}
_FACTS = {
    "n_parameters": check_count,
    "multiply_adds": check_count,
    "hyperparameters": {},  # these check themselves when they become a dataclass
    "split": _SIZES | {"seed": _count_from_0, ...: _check_unknown},
    "training_seconds": check_finite,
}
# The expected forms of the descriptions, for each kind that can be loaded.
_DESCRIPTIONS = {
    "mlp": _FACTS | {"sizes": [check_count], "dtype": check_text, "epochs_run": check_count, "best_epoch": check_count},
    "pair": _FACTS
    | {
        "sizes": [check_count],
        "mlp_hyperparameters": {},
        "trained_on": {...: check_text},
        "epochs_run": {"backbone": _count_from_0, "mlp": _count_from_0, ...: _check_unknown},
        "best_epoch": {...: check_count},
    },
    "checkpoint": {"origin": {"hyperparameters": {}, "images_sha256": check_text}},
}


class SavedModelError(Exception):
    """A saved model is incomplete or damaged."""


class NotSavedError(SavedModelError):
    """A model could not be saved."""


class SavedModel(NamedTuple):
    """The content of a saved model's folder.

    Attributes
    ----------
    weights : dict of str to ndarray
    description : dict
        It is stored as JSON, so tuples come back as lists.
    history : list of dict
        One row for each epoch, all with the same keys.
    metrics : dict
    """

    weights: dict
    description: dict
    history: list
    metrics: dict


@contextlib.contextmanager
def naming(path, trouble, error_type=SavedModelError):
    """Turn any error in the block into a SavedModelError that names the path and the problem.

    An ImportError is left as it is: a package is missing then, not a part of the saved model.
    """
    try:
        yield
    except (SavedModelError, ImportError):
        raise
    except Exception as error:
        raise error_type(f"{path}: {trouble} ({str(error) or repr(error)})") from error


# Writing -------------------------------------------------------------------------------------------------------------


def save_model(folder, saved, page=None):
    """Write a saved model, replacing one that is already there; see `files.replace_folder`.

    Parameters
    ----------
    folder : path
        No other process may write to it at the same time. Readers find either the old model or the new one.
    saved : SavedModel
    page : callable, optional
        Takes the SHA-256 of the weights file, and returns the files of the page that shows the model: a dict of str to
        bytes.

    Raises
    ------
    NotSavedError
        If that fails, for example on a full disk; the old model is still there.
    """
    with naming(folder, "not saved", NotSavedError):
        files = {
            WEIGHTS: safetensors.numpy.save({name: np.asarray(w, order="C") for name, w in saved.weights.items()}),
            HISTORY: csv_text(saved.history).encode(),
            METRICS: _to_json(saved.metrics),
        }
        if page is not None:
            files |= page(_sha256(files[WEIGHTS]))
        sums = {name: _sha256(content) for name, content in files.items()}
        replace_folder(folder, files | {DESCRIPTION: _with_sums(saved.description, sums)})


def add_file(folder, name, text):
    """Write one more text file into a saved model's folder, and its SHA-256 into model.json.

    Raises
    ------
    SavedModelError
        If model.json is missing or damaged, or something cannot be written.
    """
    description, sums, _ = _read(folder)
    content = text.encode()
    description = _with_sums(description, sums | {name: _sha256(content)})
    place = find_folder(folder)
    for path, new in ((place / name, content), (place / DESCRIPTION, description)):
        with naming(path, "not saved", NotSavedError), replacing(path) as unfinished:
            unfinished.write_bytes(new)


def _with_sums(description, sums):
    """Return the content of model.json: the description, the SHA-256 of each file, and that of the description."""
    return _to_json(description | {SHA256: sums | {DESCRIPTION: _sha256(_to_json(description))}})


def _to_json(content):
    return (json.dumps(content, indent=2) + "\n").encode()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def is_saved(folder):
    """Return whether a model is saved under this name, even if `save_model` was interrupted while replacing it."""
    return find_folder(folder) is not None


# Reading -------------------------------------------------------------------------------------------------------------


def load_model(folder, kind):
    """Read a saved model.

    Parameters
    ----------
    folder : path
    kind : str
        The kind that is expected: "mlp", "pair" or "checkpoint".

    Returns
    -------
    SavedModel
        Its arrays are not larger than their file. The hyperparameters in its description are not checked.

    Raises
    ------
    SavedModelError
        If the folder or a file is missing or not as it was saved, or of another kind; the message names the file.
    """
    saved = _read_saved(folder, (kind,), _DESCRIPTIONS[kind], WEIGHTS)
    with naming(Path(folder) / HISTORY, "damaged"):
        _check_epochs(saved)
    return saved


def load_facts(folder):
    """Read a saved MLP or pair without its weights, which need not be there; see `load_model`."""
    return _read_saved(folder, ("mlp", "pair"), _FACTS)


def read_added(folder, name):
    """Return the text of a file that `add_file` wrote into a saved model's folder.

    Raises
    ------
    SavedModelError
        If it is missing or not as it was written, or belongs to another saved model.
    """
    _, _, files = _read(folder, name)
    with naming(Path(folder) / name, "damaged"):
        return files[name].decode()


def weights_sha256(folder):
    """Return the SHA-256 of a saved model's weights, as it is stored in model.json.

    Raises
    ------
    SavedModelError
        If model.json is missing or damaged.
    """
    _, sums, _ = _read(folder)
    with naming(folder, "damaged"):
        return sums[WEIGHTS]


def versions(*packages):
    """Return the versions of Python and of installed packages, for a description."""
    return {"python": platform.python_version()} | {package: metadata.version(package) for package in packages}


def _read_saved(folder, kinds, form, *more):
    """Read a saved model of one of these kinds, with its weights if `more` names them; check its description's form."""
    folder = Path(folder)
    description, _, files = _read(folder, HISTORY, METRICS, *more)
    if description.get("kind") not in kinds:
        kind = description.get("kind")
        raise SavedModelError(f"{folder}: expected kind {' or '.join(kinds)} in model.json, got {kind!r}")
    with naming(folder / DESCRIPTION, "damaged"):
        check_form("model", description, form)
    with naming(folder / HISTORY, "damaged"):
        history = parse_csv(files[HISTORY].decode(), text_columns=("part",))
        check_form("history", history, [{...: _check_cell}])
    with naming(folder / METRICS, "damaged"):
        metrics = json.loads(files[METRICS])
        check_form("metrics", metrics, {} if description["kind"] == "checkpoint" else _METRICS)
    with naming(folder / WEIGHTS, "damaged"):
        weights = safetensors.numpy.load(files[WEIGHTS]) if WEIGHTS in files else {}
    return SavedModel(weights, description, history, metrics)


def _read(folder, *names):
    """Read model.json and the named files, as bytes: each once, and all from one version of the saved model.

    Returns
    -------
    description : dict
    sums : dict of str to str
        The SHA-256 of each file, by name.
    files : dict of str to bytes
    """
    while True:
        version = _version(folder)
        try:
            return _read_version(version[0], names)
        except SavedModelError:
            if _version(folder) == version:
                raise
            # Another process has saved meanwhile, so the files may be of two versions: read them again.


def _version(folder):
    """Return where a saved model is, and what distinguishes its folder from one that replaces it."""
    with naming(folder, "cannot be read"):
        place = find_folder(folder)
        if place is None:
            raise SavedModelError(f"{folder}: no such folder")
        try:
            status = place.stat()
        except FileNotFoundError:  # it was moved meanwhile
            return place, None
        return place, (status.st_ino, status.st_mtime_ns)


def _read_version(place, names):
    path = place / DESCRIPTION
    with naming(path, "damaged"):
        description = json.loads(_read_bytes(path))
        check_form("model", description, {SHA256: {...: check_text}})
        sums = description.pop(SHA256)
        if sums.pop(DESCRIPTION, None) != _sha256(_to_json(description)):
            raise ValueError("its SHA-256 is not the one stored in it")
    files = {name: _read_bytes(place / name) for name in names}
    for name, content in files.items():
        if sums.get(name) != _sha256(content):
            raise SavedModelError(f"{place / name}: damaged (its SHA-256 is not the one stored in model.json)")
    return description, sums, files


def _read_bytes(path):
    with naming(path, "cannot be read"):
        if not path.is_file():
            hint = "; if they were left out, README.md beside it has the command that trains the model"
            raise SavedModelError(f"{path}: missing{hint if path.name == WEIGHTS else ''}")
        return path.read_bytes()


def _check_epochs(saved):
    """Raise a ValueError unless the history has every epoch that was run, with everything that is shown of it."""
    history = saved.history
    check_form("history", history, [_EPOCH])
    parts = {part: [row for row in history if row.get("part") == part] for part in (None, "backbone", "mlp")}
    runs = saved.description.get("epochs_run", len(history))  # a checkpoint does not list them
    runs = runs if isinstance(runs, dict) else {None: runs}
    if len(history) != sum(runs.values()):
        raise ValueError(f"expected {sum(runs.values())} epochs, got {len(history)}")
    for part, n in runs.items():
        if [row["epoch"] for row in parts[part]] != list(range(1, n + 1)):
            raise ValueError(f"expected the epochs from 1 to {n}, each once")
    best = {part: best_epoch(rows)["epoch"] for part, rows in parts.items() if rows}
    if saved.description.get("best_epoch", best) not in (best, best.get(None)):
        raise ValueError(f"expected best_epoch {best.get(None, best)}, got {saved.description['best_epoch']}")
