"""Measure the memory of training the NumPy MLP, and its time as networks, batches and data grow: make bench."""

import json
import subprocess
import sys
from functools import partial

from data_preparation import N_OFFICIAL_TRAIN, Split, load_official
from experiments import RESULTS
from experiments.benchmarks.rivals import numpy_by_hand
from experiments.benchmarks.rounds import alternate, store
from model_utils.tables import write_csv

STORED, MEMORY = RESULTS / "mlp_growth.csv", RESULTS / "mlp_memory.csv"
ROUNDS = 3
# One hidden layer of 128 units, batches of 128, all 60,000 images: each panel changes one of these.
STANDARD = {"width": 128, "depth": 1, "batch_size": 128, "images": N_OFFICIAL_TRAIN}
PANELS = {
    "width": [64, 128, 256, 512, 1024],
    "depth": [1, 2, 3, 4, 6, 8],
    "batch_size": [16, 32, 64, 128, 256, 512, 1024],
    "images": [7_500, 15_000, 30_000, 60_000],
}

# Runs in a separate process, because memory that this one used before would count. VmHWM is Linux's record of the peak
# memory, and writing 5 to clear_refs resets it to what is in use now.
MEMORY_PROGRAM = """
import json, re
from pathlib import Path
import mlp
from data_preparation import N_OFFICIAL_TRAIN, Split, load_official

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

official = load_official()
loading = peak()
Path("/proc/self/clear_refs").write_text("5")
training = Split(official.images[:N_OFFICIAL_TRAIN], official.labels[:N_OFFICIAL_TRAIN])
validation = Split(official.images[N_OFFICIAL_TRAIN:], official.labels[N_OFFICIAL_TRAIN:])
h = mlp.MLPHyperparameters(hidden_sizes=(256, 128), epochs=1)
mlp.train(mlp.build(h), training, validation, h)
print(json.dumps({"loading": loading, "training": peak(), "data_in_float32": training.images.size * 4}))
"""


def measure_memory():
    """Store the peak memory, in bytes, of a process that loads the data and trains 784-256-128-10 for an epoch."""
    if not sys.platform.startswith("linux"):
        print("left out: peak memory, which is measured on Linux only")
        return
    done = subprocess.run([sys.executable, "-c", MEMORY_PROGRAM], capture_output=True, text=True, check=True)
    write_csv(MEMORY, [json.loads(done.stdout)])


def epoch_of(width, depth, batch_size, images):
    """Make a NumPy MLP of this size; return the function that trains it for an epoch on this many images."""
    training = Split(*(part[:images] for part in load_official()))
    return numpy_by_hand((784, *(width,) * depth, 10), batch_size, training, None).epoch


def main():
    """Measure memory and time, and store them."""
    measure_memory()
    rows = []
    for panel, values in PANELS.items():
        contestants = {value: ("numpy", partial(epoch_of, **STANDARD | {panel: value})) for value in values}
        for row in alternate(contestants, ROUNDS, panel=panel):
            rows.append(row | {"value": row["contestant"], "contestant": "numpy"})
    store(STORED, rows, "panel", "value")


if __name__ == "__main__":
    main()
