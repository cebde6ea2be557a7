"""The same MLP in other libraries, and scikit-learn's own classifiers."""

import os
import statistics
import sys
import time
from importlib import metadata

import numpy as np
from sklearn.linear_model import Perceptron
from sklearn.neural_network import MLPClassifier
from tqdm import tqdm

import mlp
from data_preparation import load_splits, preprocess
from experiments import RESULTS
from experiments.benchmarks import rivals
from experiments.machine import measured_where
from experiments.speed import machine
from experiments.stored import read_rows
from model_utils.tables import markdown_table, write_csv
from model_utils.training import EpochBar

STORED = RESULTS / "libraries.csv"
# The `rivals` that train the same network.
LIBRARIES = ("pytorch", "keras", "scikit_learn")
# The networks of typical submissions: one hidden layer, two, and two wider ones.
SHAPES = ((784, 128, 10), (784, 128, 64, 10), (784, 256, 128, 10))
EPOCHS, BATCH_SIZE = 10, 128


def learn(library, sizes, splits, epochs):
    """Train an MLP in another library as `rivals` does, and measure it after the epoch that was best on validation.

    Parameters
    ----------
    library : str
        One of `LIBRARIES`.
    sizes : tuple of int
        Units of each layer, inputs and classes included.
    splits : Splits
    epochs : int

    Returns
    -------
    dict
        system, version, network, validation and test accuracy, and the median seconds of an epoch with its validation.

    Raises
    ------
    ImportError
        If the library is not installed.
    """
    rival = rivals.RIVALS[library]
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # the usual backend, unless another one is set
    x = [preprocess(part.images) for part in splits]
    contestant = rival.make(sizes, BATCH_SIZE, splits.train, x[0])
    seconds, best = [], -1
    for _ in tqdm(range(epochs), desc=rival.title, unit="epoch", file=sys.stdout, mininterval=1):
        started = time.perf_counter()
        contestant.epoch()
        validation_scores = contestant.predict(x[1])
        seconds.append(time.perf_counter() - started)
        n_correct = np.count_nonzero(validation_scores.argmax(axis=1) == splits.validation.labels)
        if n_correct > best:
            # Not every library can go back to the weights of the best epoch, so predict now.
            best, scores = n_correct, [validation_scores, contestant.predict(x[2])]
    version = metadata.version(rival.package)
    return _row(rival.title, version, sizes, splits, scores, statistics.median(seconds), epochs)


def learn_by_hand(sizes, splits, epochs):
    """Train and measure the NumPy MLP in the same way; see `learn`."""
    h = mlp.MLPHyperparameters(
        hidden_sizes=sizes[1:-1], learning_rate=rivals.LEARNING_RATE, batch_size=BATCH_SIZE, epochs=epochs
    )
    model = mlp.build(h)
    rival = rivals.RIVALS["numpy"]
    history = mlp.train(model, splits.train, splits.validation, h, EpochBar(epochs, rival.title))
    scores = [mlp.predict_logits(model, part.images) for part in splits[1:]]
    seconds = statistics.median(row["seconds"] for row in history)
    return _row(rival.title, np.__version__, sizes, splits, scores, seconds, epochs)


def learn_baselines(splits):
    """Train scikit-learn's Perceptron, one linear layer, and its MLPClassifier with layers of 100, 100 and 50 units.

    Returns
    -------
    list of dict
        As from `learn`, but with the seconds of the whole training, and 0 epochs: each stops by itself.
    """
    x = [preprocess(part.images) for part in splits]
    classifiers = {
        "Perceptron": ((784, 10), Perceptron(random_state=0)),
        "MLPClassifier": (
            (784, 100, 100, 50, 10),
            MLPClassifier((100, 100, 50), early_stopping=True, random_state=0),
        ),
    }
    rows = []
    for name, (sizes, classifier) in tqdm(classifiers.items(), unit="classifier", file=sys.stdout):
        started = time.perf_counter()
        classifier.fit(x[0], splits.train.labels)
        seconds = time.perf_counter() - started
        scores = [np.eye(10)[classifier.predict(inputs)] for inputs in x[1:]]
        rows.append(_row(name, metadata.version("scikit-learn"), sizes, splits, scores, seconds, epochs=0))
    return rows


def _row(system, version, sizes, splits, scores, seconds, epochs):
    accuracies = [
        float(np.mean(part_scores.argmax(axis=1) == part.labels))
        for part_scores, part in zip(scores, splits[1:], strict=True)
    ]
    return {
        "system": system,
        "version": version,
        "network": "-".join(map(str, sizes)),
        "validation_accuracy": accuracies[0],
        "test_accuracy": accuracies[1],
        "seconds": round(seconds, 4),
        "epochs": epochs,
    }


def compare(path=STORED, splits=None, shapes=SHAPES, epochs=EPOCHS):
    """Train in every installed library, one after the other, and store the results; name the missing ones."""
    splits = splits or load_splits()
    rows = learn_baselines(splits)
    for sizes in shapes:
        rows.append(learn_by_hand(sizes, splits, epochs))
        for library in LIBRARIES:
            try:
                rows.append(learn(library, sizes, splits, epochs))
            except ImportError as error:
                title = rivals.RIVALS[library].title
                print(f"left out: {title} ({error}); pip install -r experiments/requirements.txt")
    write_csv(path, [row | measured_where() for row in rows])


def libraries_table(path=STORED):
    """Return a Markdown table of these MLPs and of scikit-learn's own classifiers, and the machine they ran on."""
    rows = read_rows(path)
    table = markdown_table(
        ["network", "system", "validation accuracy", "test accuracy", "seconds per epoch"],
        [
            (
                row["network"],
                f"{row['system']} {row['version']}",
                f"{row['validation_accuracy']:.4f}",
                f"{row['test_accuracy']:.4f}",
                f"{row['seconds']:.2f}" + ("" if row["epochs"] else " in total"),
            )
            for row in rows.to_dict("records")
        ],
    )
    return f"{table}\n\nMeasured on {machine(rows)}."
