"""Measure how long it takes to 0.93 test accuracy: the usual loop against `cnn.py` and the MLP by hand: make bench.

The usual loop of `cnn_epoch` is measured on the test images after each epoch, and stops at 0.93 or after so many
epochs. `cnn.py` trains its backbone for the twelve epochs of the notebook, without a look at the test images, extracts
the features and trains the MLP. Nothing is chosen here by the test images; they are the stopwatch.
"""

import model_utils.blas  # noqa: F401  before NumPy is loaded

# isort: split

import time

import torch

import cnn
import mlp
from benchmarks.cnn_epoch import usual_contestant
from benchmarks.report import CNN_ACCURACY, GOAL, cnn_accuracy_text
from benchmarks.rounds import measured_where
from data_preparation import load_splits
from model_utils.tables import write_csv

USUAL_EPOCHS, OUR_EPOCHS = 15, 12


def usual_loop(splits):
    """Train in the usual way; return a row an epoch."""
    network, epoch = usual_contestant()
    rows, seconds = [], 0.0
    for number in range(1, USUAL_EPOCHS + 1):
        started = time.perf_counter()
        epoch()
        seconds += time.perf_counter() - started
        network.eval()
        with torch.inference_mode():
            logits = torch.cat([network(batch) for batch in cnn.as_tensor(splits.test.images).split(250)]).numpy()
        accuracy = mlp.measure(logits, splits.test.labels)["accuracy"]
        rows.append({"contestant": "usual loop", "epoch": number, "seconds": round(seconds, 1), "accuracy": accuracy})
        print(f"usual loop, epoch {number}: {seconds:.0f} s, test accuracy {accuracy:.4f}", flush=True)
        if accuracy >= GOAL:
            break
    return rows


def our_way(splits):
    """Train as `cnn.py` does; return one row."""
    started = time.perf_counter()
    h = cnn.Hyperparameters(epochs=OUR_EPOCHS)
    backbone = cnn.build(h)
    cnn.train(backbone, splits.train, splits.validation, h)
    standardizer, (training, validation) = cnn.classifier_data(backbone, splits[:2])
    classifier = mlp.build(cnn.MLP_HYPERPARAMETERS, backbone.n_features)
    mlp.train(classifier, training, validation, cnn.MLP_HYPERPARAMETERS)
    seconds = time.perf_counter() - started
    hybrid = cnn.Hybrid(backbone, standardizer, classifier)
    accuracy = mlp.measure(hybrid.predict_logits(splits.test.images), splits.test.labels)["accuracy"]
    return {"contestant": "cnn.py", "epoch": OUR_EPOCHS, "seconds": round(seconds, 1), "accuracy": accuracy}


def main():
    """Measure both and store them in results/."""
    splits = load_splits()
    rows = [our_way(splits), *usual_loop(splits)]
    write_csv(CNN_ACCURACY, [row | {"version": torch.__version__} | measured_where() for row in rows])
    print(cnn_accuracy_text())


if __name__ == "__main__":
    main()
