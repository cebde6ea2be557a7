"""Measure the peak memory of training the NumPy MLP: make bench."""

import json
import subprocess
import sys

from experiments import RESULTS
from model_utils.tables import write_csv

STORED = RESULTS / "mlp_memory.csv"

# Runs in a separate process, because memory that this one used before would count. VmHWM is Linux's record of the peak
# memory, and writing 5 to clear_refs resets it to what is in use now.
PROGRAM = """
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


def main():
    """Store the peak memory, in bytes, of a process that loads the data and trains 784-256-128-10 for an epoch."""
    if not sys.platform.startswith("linux"):
        print("left out: peak memory, which is measured on Linux only")
        return
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    write_csv(STORED, [json.loads(done.stdout)])


if __name__ == "__main__":
    main()
