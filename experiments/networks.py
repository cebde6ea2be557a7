"""All systems side by side: the MLP in other libraries, and what every saved network does on the test images.

The command line:

    python comparison.py libraries                  train the same MLPs in all libraries that are installed
    python comparison.py record models/cnn/NAME     measure a saved model, and store that in results/networks
"""

import model_utils.blas  # noqa: F401  before NumPy is loaded

# isort: split

import argparse
import os
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import Perceptron
from sklearn.neural_network import MLPClassifier
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import cnn
import mlp
from benchmarks import rivals
from benchmarks.rounds import measured_where
from data_preparation import CLASS_NAMES, DataError, load_splits, preprocess
from model_utils import command_line
from model_utils.records import Record, save_record
from model_utils.results import LIBRARIES_CSV, libraries_table
from model_utils.saved_models import SavedModelError
from model_utils.tables import write_csv

# What trains the same network in other libraries: the package whose version counts, and one of the `rivals`.
LIBRARIES = {
    "PyTorch": ("torch", rivals.pytorch),
    "Keras": ("keras", rivals.keras_fit),
    "scikit-learn": ("scikit-learn", rivals.scikit_learn),
}
# The hand-ins' networks: one hidden layer, two, and two wider ones.
SHAPES = ((784, 128, 10), (784, 128, 64, 10), (784, 256, 128, 10))
LIBRARIES_EPOCHS = 10


def installed_version(library):
    """Return the version of a library, or if it is missing, how to install it."""
    package, _ = LIBRARIES[library]
    try:
        return version(package)
    except PackageNotFoundError:
        return f"not installed: pip install -r requirements-{package}.txt"


def learn(library, sizes, splits, epochs, batch_size=128):
    """Train an MLP in another library as `rivals` does, and measure it after the epoch that was best on validation.

    Parameters
    ----------
    library : str
        A key of `LIBRARIES`.
    sizes : tuple of int
        Units of each layer, inputs and classes included.
    splits : Splits
    epochs, batch_size : int

    Returns
    -------
    dict
        system, version, network, validation and test accuracy, and the median seconds of an epoch with its validation.

    Raises
    ------
    ImportError
        If the library is not installed.
    """
    package, make = LIBRARIES[library]
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # as most people run it, unless they chose otherwise
    x = [preprocess(part.images) for part in splits]
    contestant = make(sizes, batch_size, splits.train, x[0])
    seconds, best = [], -1
    for _ in tqdm(range(epochs), desc=library, unit="epoch", file=sys.stdout, mininterval=1):
        started = time.perf_counter()
        contestant.epoch()
        validation_scores = contestant.predict(x[1])
        seconds.append(time.perf_counter() - started)
        n_correct = np.count_nonzero(validation_scores.argmax(axis=1) == splits.validation.labels)
        if n_correct > best:
            # Not every library lets its weights be set aside until the best epoch is known.
            best, scores = n_correct, [validation_scores, contestant.predict(x[2])]
    return _row(library, version(package), sizes, splits, scores, statistics.median(seconds), epochs)


def learn_by_hand(sizes, splits, epochs, batch_size=128):
    """Train the NumPy MLP on the same terms: see `learn`."""
    h = mlp.Hyperparameters(
        hidden_sizes=sizes[1:-1], learning_rate=rivals.LEARNING_RATE, batch_size=batch_size, epochs=epochs
    )
    model = mlp.build(h)
    history = mlp.train(model, splits.train, splits.validation, h)
    scores = [model.predict_logits(preprocess(part.images)) for part in splits[1:]]
    seconds = statistics.median(row["seconds"] for row in history)
    return _row("NumPy by hand", np.__version__, sizes, splits, scores, seconds, epochs)


def learn_baselines(splits, seed=0):
    """Train scikit-learn's Perceptron, one linear layer, and its MLPClassifier with layers of 100, 100 and 50 units.

    Returns
    -------
    list of dict
        As from `learn`, but with the seconds of the whole training, and no number of epochs: each stops by itself.
    """
    x = [preprocess(part.images) for part in splits]
    classifiers = {
        "Perceptron": ((784, 10), Perceptron(random_state=seed)),
        "MLPClassifier": (
            (784, 100, 100, 50, 10),
            MLPClassifier((100, 100, 50), early_stopping=True, random_state=seed),
        ),
    }
    rows = []
    for name, (sizes, classifier) in tqdm(classifiers.items(), unit="classifier", file=sys.stdout):
        started = time.perf_counter()
        classifier.fit(x[0], splits.train.labels)
        seconds = time.perf_counter() - started
        scores = [np.eye(10)[classifier.predict(inputs)] for inputs in x[1:]]
        rows.append(_row(name, version("scikit-learn"), sizes, splits, scores, seconds, epochs=0))
    return rows


def _row(system, its_version, sizes, splits, scores, seconds, epochs):
    accuracies = [
        float(np.mean(part_scores.argmax(axis=1) == part.labels))
        for part_scores, part in zip(scores, splits[1:], strict=True)
    ]
    return {
        "system": system,
        "version": its_version,
        "network": "-".join(map(str, sizes)),
        "validation_accuracy": accuracies[0],
        "test_accuracy": accuracies[1],
        "seconds": round(seconds, 4),
        "epochs": epochs,
    }


# Records ------------------------------------------------------------------------------------------------------------


def multiply_adds(backbone):
    """Count the multiply-adds of the features of one image, all views of it included, by PyTorch's own count."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        backbone.eval().mean_features(torch.zeros(1, 1, 28, 28))
    return counter.get_total_flops() // 2


def record(folder):
    """Measure a saved model on the test images, and make its record.

    Parameters
    ----------
    folder : path
        Of a saved MLP or a saved pair.

    Returns
    -------
    Record

    Raises
    ------
    SavedModelError
        If the folder holds neither, or its accuracy is not the one stored beside it.
    """
    folder = Path(folder)
    if folder.name.startswith("mlp__"):
        model, saved = mlp.load(folder)
        title = "MLP_" + "_".join(map(str, model.sizes))
        classifier, n_features_multiply_adds, history, trained_on = model, 0, saved.history, "cpu"

        def predict_logits(images):
            return model.predict_logits(preprocess(images))

    else:
        hybrid, saved = cnn.load(folder, "cpu")
        description = saved.description
        title = cnn.backbone_name(command_line.from_json(cnn.Hyperparameters, description["hyperparameters"]))
        classifier, n_features_multiply_adds = hybrid.classifier, multiply_adds(hybrid.backbone)
        history = [row for row in saved.history if row["part"] == "backbone"]
        trained_on, predict_logits = description["trained_on"]["device"], hybrid.predict_logits

    test = load_splits(**saved.description["split"]).test
    predictions = predict_logits(test.images).argmax(axis=1)
    accuracy = float(np.mean(predictions == test.labels))
    if abs(accuracy - saved.metrics["test"]["accuracy"]) > command_line.ACCURACY_TOLERANCE:
        raise SavedModelError(f"{folder}: the stored test accuracy is not that of the weights, {accuracy:.4f}")
    timed, seconds = test.images[:1000], []
    for _ in range(5):
        started = time.perf_counter()
        predict_logits(timed)
        seconds.append(time.perf_counter() - started)
    return Record(
        title=title,
        model=folder.name,
        parameters=saved.description["n_parameters"],
        multiply_adds=n_features_multiply_adds + sum(W.size for W in classifier.W),
        training_seconds=saved.description["training_seconds"],
        trained_on=trained_on,
        images_per_second=round(len(timed) / statistics.median(seconds), 1),
        measured_on=measured_where(),
        hyperparameters=saved.description["hyperparameters"],
        mlp_hyperparameters=saved.description.get("mlp_hyperparameters", {}),
        history=history,
        metrics=saved.metrics,
        predictions="".join(map(str, predictions)),
    )


def confused_pairs(metrics, n=3):
    """Return the n pairs of classes that are most often taken for each other, with the number of such images.

    Parameters
    ----------
    metrics : dict
        From `mlp.measure`.
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


def wrong_in_all(records, labels):
    """Return the predictions of the records, shape (R, M), for the M test images that all get wrong, and their indices.

    Parameters
    ----------
    records : list of Record
    labels : ndarray of int, shape (N,)
    """
    predictions = np.array([list(record.predictions) for record in records]).astype(int)
    indices = np.flatnonzero((predictions != labels).all(axis=0))
    return predictions[:, indices], indices


def main(arguments=None):
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="comparison.py", description="Put saved models side by side.")
    commands = parser.add_subparsers(required=True)
    text = "train the same MLPs by hand and in every library installed, and store that in results/libraries.csv"
    command = commands.add_parser("libraries", help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(command=_libraries_command)
    text = "measure saved models on the test images, and store that, without their weights, in results/networks"
    command = commands.add_parser("record", help=text, description=text[0].upper() + text[1:] + ".")
    command.add_argument("folders", type=Path, nargs="+", help="saved models, such as models/cnn/NAME")
    command.set_defaults(command=_record_command)
    return command_line.run(parser, arguments, (ValueError, DataError, SavedModelError, OSError, ImportError))


def _libraries_command(args):
    splits = load_splits()
    rows = learn_baselines(splits)
    for sizes in SHAPES:
        rows.append(learn_by_hand(sizes, splits, LIBRARIES_EPOCHS))
        for library in LIBRARIES:
            try:
                rows.append(learn(library, sizes, splits, LIBRARIES_EPOCHS))
            except ImportError as error:
                print(f"left out: {library} ({error}); pip install -r requirements-{LIBRARIES[library][0]}.txt")
    write_csv(LIBRARIES_CSV, [row | measured_where() for row in rows])
    print(libraries_table())
    return 0


def _record_command(args):
    for folder in args.folders:
        if folder.suffix == ".tmp":
            print(f"left out: {folder}, which is not complete")
        else:
            print(save_record(record(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
