"""Measure what training the NumPy MLP takes, in memory, and in time as networks, batches and data grow: make bench."""

import model_utils.blas  # noqa: F401  before NumPy is loaded

# isort: split

import json
import subprocess
import sys

import numpy as np

from benchmarks.report import GROWTH, MEMORY, growth_figure, memory_text
from benchmarks.rivals import numpy_by_hand
from benchmarks.rounds import alternate, store
from data_preparation import N_OFFICIAL_TRAIN, Split, load_official
from model_utils.tables import write_csv

ROUNDS = 3
# One hidden layer of 128 units, batches of 128, all 60,000 images: each panel changes one of these.
PANELS = {
    "units of the hidden layer": [64, 128, 256, 512, 1024],
    "hidden layers of 128 units": [1, 2, 3, 4, 6, 8],
    "batch size": [16, 32, 64, 128, 256, 512, 1024],
    "images": [7_500, 15_000, 30_000, 60_000],
}

# A process of its own, since what this one has touched before would count. VmHWM is Linux's high-water mark of the
# memory in use, and writing 5 to clear_refs sets it back to what is in use now.
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
h = mlp.Hyperparameters(hidden_sizes=(256, 128), epochs=1)
mlp.train(mlp.build(h), training, validation, h, progress=False)
print(json.dumps({"loading": loading, "training": peak(), "data_in_float32": training.images.size * 4}))
"""


def measure_memory():
    """Store the peak memory, in bytes, of a process that loads the data and trains 784-256-128-10 for an epoch."""
    if not sys.platform.startswith("linux"):
        print("left out: peak memory, which is read from Linux")
        return
    done = subprocess.run([sys.executable, "-c", MEMORY_PROGRAM], capture_output=True, text=True, check=True)
    write_csv(MEMORY, [json.loads(done.stdout)])
    print(memory_text())


def main():
    """Measure, store in results/, and draw how time grows into figures/."""
    measure_memory()
    official = load_official()
    rows = []
    for panel, values in PANELS.items():
        epochs = {}
        for value in values:
            width, depth, batch_size, n = (
                value if name == panel else standard
                for name, standard in zip(PANELS, (128, 1, 128, N_OFFICIAL_TRAIN), strict=True)
            )
            training = Split(official.images[:n], official.labels[:n])
            sizes = (784, *(width,) * depth, 10)
            epochs[str(value), np.__version__] = numpy_by_hand(sizes, batch_size, training, None).epoch
        rows += alternate(epochs, ROUNDS, panel=panel)
    store(GROWTH, rows, "panel")
    growth_figure().savefig("figures/growth.png", dpi=100)


if __name__ == "__main__":
    main()
