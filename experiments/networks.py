"""Compare saved networks on the test images; large ones are compared without their weights.

`measure` writes one more file into a saved model's folder: measured.json, with its predictions for the test images and
its speed. The documents show the networks whose folder has this file, and no others.
"""

import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import cnn
import mlp
from data_preparation import CLASS_NAMES, load_splits
from experiments import MODELS
from experiments.machine import measured_where
from model_utils import command_line
from model_utils.backbones import hyperparameters_from_json
from model_utils.saved_models import WEIGHTS, SavedModelError, add_file, load_facts, read_added
from model_utils.tables import markdown_table

MEASURED = "measured.json"


class Network(NamedTuple):
    """A saved model that was measured.

    Attributes
    ----------
    title : str
        Its short name.
    folder : Path
    description, history, metrics
        See `model_utils.saved_models.SavedModel`; for a pair, the history is that of the backbone.
    images_per_second : float
        Images per second, in batches of 1,000; the median of five passes.
    predictions : ndarray of int, shape (M,)
        The class predicted for each test image.
    """

    title: str
    folder: Path
    description: dict
    history: list
    metrics: dict
    images_per_second: float
    predictions: np.ndarray


def list_saved(models_dir):
    """Return the folders of the models saved under `models_dir`, which has a folder for each kind, such as mlp."""
    return sorted(path.parent for path in Path(models_dir).glob("*/*/model.json") if path.parent.suffix != ".tmp")


def has_weights(folder):
    """Return whether a saved model's weights are in its folder; those of large networks are not in git."""
    return (Path(folder) / WEIGHTS).exists()


def load_networks(models_dir=MODELS):
    """Read all measured networks, the highest test accuracy first.

    Raises
    ------
    SavedModelError
        If a folder is not a complete measured network; the message names the folder.
    """
    networks = [_load(folder) for folder in list_saved(models_dir) if (folder / MEASURED).exists()]
    networks.sort(key=lambda network: (-network.metrics["test"]["accuracy"], network.title))
    titles = [network.title for network in networks]
    for i, network in enumerate(networks):
        if network.title in titles[:i]:  # its number of epochs tells it apart
            epochs = network.description["hyperparameters"]["epochs"]
            networks[i] = network._replace(title=f"{network.title}, {epochs} epochs")
    return networks


def _load(folder):
    facts = load_facts(folder)
    try:
        measured = json.loads(read_added(folder, MEASURED))
        return Network(
            title=_title(facts.description),
            folder=folder,
            description=facts.description,
            history=[row for row in facts.history if row.get("part", "backbone") == "backbone"],
            metrics=facts.metrics,
            images_per_second=measured["images_per_second"],
            predictions=np.array(list(measured["predictions"])).astype(int),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise SavedModelError(f"{folder}: not a measured network ({error!r})") from error


def _title(description):
    if description["kind"] == "mlp":
        return "MLP_" + "_".join(map(str, description["sizes"]))
    return hyperparameters_from_json(description["hyperparameters"]).name


def measure(folder):
    """Run a saved model on the test images, and store its predictions and speed in its folder.

    Parameters
    ----------
    folder : path
        Of a saved MLP or a saved pair.

    Raises
    ------
    SavedModelError
        If the folder holds neither, or its accuracy is not the stored one.
    """
    folder = Path(folder)
    facts = load_facts(folder)
    if facts.description["kind"] == "mlp":
        model, saved = mlp.load(folder)
        predict_logits = partial(mlp.predict_logits, model, n_views=mlp.predicts_from(saved))

    else:
        predict_logits = cnn.load(folder, "cpu")[0].predict_logits

    test = load_splits(**facts.description["split"]).test
    predictions = predict_logits(test.images).argmax(axis=1)
    accuracy = float(np.mean(predictions == test.labels))
    if not command_line.agrees(accuracy, facts, len(test.labels)):
        raise SavedModelError(f"{folder}: the stored test accuracy is not that of the weights, {accuracy:.4f}")
    timed, seconds = test.images[:1000], []
    for _ in range(5):
        started = time.perf_counter()
        predict_logits(timed)
        seconds.append(time.perf_counter() - started)
    measured = {
        "images_per_second": round(len(timed) / statistics.median(seconds), 1),
        "measured_on": measured_where(),
        "predictions": "".join(map(str, predictions)),
    }
    add_file(folder, MEASURED, json.dumps(measured, indent=2) + "\n")


# Tables --------------------------------------------------------------------------------------------------------------


def models_table(folders):
    """Return a Markdown table of the accuracy and training time of saved models, least accurate first."""
    facts = {Path(folder).name: load_facts(folder) for folder in folders}
    by_accuracy = sorted(facts.items(), key=lambda item: item[1].metrics["test"]["accuracy"])
    rows = [
        (
            name,
            f"{saved.metrics['test']['accuracy']:.4f}",
            f"{saved.metrics['validation']['accuracy']:.4f}",
            f"{saved.description['n_parameters']:,}",
            f"{saved.description['training_seconds']:.0f} s",
        )
        for name, saved in by_accuracy
    ]
    return markdown_table(["model", "test accuracy", "validation accuracy", "parameters", "training time"], rows)


def networks_table(networks):
    """Return a Markdown table of the measured networks on the test images, most accurate first."""
    rows = []
    for network in networks:
        test, head = network.metrics["test"], network.metrics.get("head_test")
        rows.append(
            (
                network.title,
                *(f"{test[quantity]:.4f}" for quantity in ("accuracy", "f1")),
                f"{head['accuracy']:.4f}" if head else "",
                f"{network.description['n_parameters']:,}",
                f"{network.description['multiply_adds'] / 1e6:,.1f}",
                f"{network.description['training_seconds']:.0f} s",
                f"{network.images_per_second:,.0f}",
            )
        )
    header = ["network", "test accuracy", "F1", "accuracy of its own head", "parameters"]
    return markdown_table([*header, "million multiply-adds", "training", "images/s"], rows)


def confused_pairs(metrics, n=3):
    """Return the n pairs of classes that are most often confused with each other, with the number of such images.

    Parameters
    ----------
    metrics : dict
        From `model_utils.training.measure`.
    n : int

    Returns
    -------
    list of (str, str, int)
    """
    matrix = np.array(metrics["confusion_matrix"])
    both_ways = np.triu(matrix + matrix.T, k=1)
    most = np.argsort(-both_ways, axis=None, kind="stable")[:n]
    return [
        (CLASS_NAMES[a], CLASS_NAMES[b], int(both_ways[a, b]))
        for a, b in zip(*np.unravel_index(most, matrix.shape), strict=True)
    ]


def wrong_in_all(predictions, labels):
    """Return the indices of the test images that all networks get wrong.

    Parameters
    ----------
    predictions : ndarray of int, shape (R, M)
        Of R networks.
    labels : ndarray of int, shape (M,)
    """
    return np.flatnonzero((predictions != labels).all(axis=0))
