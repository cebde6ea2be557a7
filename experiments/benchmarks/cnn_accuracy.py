"""Measure how long the usual loop and `cnn.py` with the hand-written MLP take to a test accuracy of 0.93: make bench.

The usual loop of `cnn_epoch` is measured on the test images after each epoch, and stops at 0.93 or after
`USUAL_EPOCHS`. `cnn.py` trains a pair end to end for the twelve epochs of the notebook, without using the test images.
The test images choose nothing here; they only stop the clock.
"""

import time
from dataclasses import replace

import torch

import cnn
from data_preparation import CLASS_NAMES, load_splits
from experiments import RESULTS, cnn_steps
from experiments.benchmarks.cnn_epoch import usual_contestant
from experiments.machine import measured_where
from model_utils.cnn_backbone import preprocess
from model_utils.tables import write_csv
from model_utils.tensors import as_tensor
from model_utils.training import EpochBar, measure

STORED = RESULTS / "cnn_accuracy.csv"
GOAL = 0.93  # test accuracy
USUAL_EPOCHS, OUR_EPOCHS = 15, 12


def usual_loop(splits):
    """Train in the usual loop; return one row for each epoch."""
    network, epoch = usual_contestant()
    x = preprocess(as_tensor(splits.test.images))
    rows, seconds = [], 0.0
    for number in range(1, USUAL_EPOCHS + 1):
        started = time.perf_counter()
        epoch()
        seconds += time.perf_counter() - started
        network.eval()
        with torch.inference_mode():
            logits = torch.cat([network(batch) for batch in x.split(250)]).numpy()
        accuracy = measure(logits, splits.test.labels, CLASS_NAMES)["accuracy"]
        rows.append({"contestant": "usual", "epoch": number, "seconds": round(seconds, 1), "accuracy": accuracy})
        print(f"usual loop, epoch {number}: {seconds:.0f} s, test accuracy {accuracy:.4f}", flush=True)
        if accuracy >= GOAL:
            break
    return rows


def our_way(splits):
    """Train a pair as `cnn.py` does; return one row."""
    h = replace(cnn_steps.TRAINING_BASE, end_to_end=True, epochs=OUR_EPOCHS)
    started = time.perf_counter()
    backbone = cnn.build(h)
    cnn.train(backbone, splits.train, splits.validation, h, EpochBar(h.epochs))
    seconds = time.perf_counter() - started
    pair = cnn.pair_of(backbone)
    accuracy = measure(pair.predict_logits(splits.test.images), splits.test.labels, CLASS_NAMES)["accuracy"]
    return {"contestant": "ours", "epoch": OUR_EPOCHS, "seconds": round(seconds, 1), "accuracy": accuracy}


def main():
    """Measure both, and store the rows."""
    splits = load_splits()
    rows = [our_way(splits), *usual_loop(splits)]
    write_csv(STORED, [row | {"version": torch.__version__} | measured_where() for row in rows])


if __name__ == "__main__":
    main()
