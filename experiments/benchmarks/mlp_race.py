"""Race the NumPy MLP against the same networks in other libraries: make bench.

Nine cells, three networks at three batch sizes; in each the contestants of `rivals` train on the 60,000 official
training images for an epoch a round, shuffling and batching included. They take turns, and so do the matrix products
alone, the floor that no contestant on the same BLAS can go below.
"""

import model_utils.blas  # noqa: F401  before NumPy is loaded

# isort: split

from functools import partial
from importlib.metadata import version

from benchmarks import rivals
from benchmarks.report import FLOOR, OURS, RACE, race_text
from benchmarks.rounds import alternate, store
from data_preparation import N_OFFICIAL_TRAIN, Split, load_official, preprocess

NETWORKS = ((784, 128, 10), (784, 256, 128, 10), (784, 512, 256, 128, 64, 32, 16, 10))
BATCH_SIZES = (64, 128, 512)
ROUNDS = 5
CONTESTANTS = {
    OURS: ("numpy", rivals.numpy_by_hand),
    FLOOR: ("numpy", rivals.products_alone),
    "PyTorch": ("torch", rivals.pytorch),
    "PyTorch, compiled": ("torch", partial(rivals.pytorch, compiled=True)),
    "JAX": ("jax", rivals.jax_jit),
    "Keras": ("keras", rivals.keras_fit),
    "scikit-learn": ("scikit-learn", rivals.scikit_learn),
}


def main():
    """Run the race, print its table and store every round in results/."""
    official = load_official()
    training = Split(official.images[:N_OFFICIAL_TRAIN], official.labels[:N_OFFICIAL_TRAIN])
    x = preprocess(training.images)
    contestants = dict(CONTESTANTS)
    rows = []
    for sizes in NETWORKS:
        for batch_size in BATCH_SIZES:
            epochs = {}
            for name, (package, make) in list(contestants.items()):
                try:
                    epochs[name, version(package)] = make(sizes, batch_size, training, x).epoch
                except ImportError as error:
                    print(f"left out: {name} ({error})")
                    del contestants[name]
            rows += alternate(epochs, ROUNDS, network="-".join(map(str, sizes)), batch_size=batch_size)
    store(RACE, rows, "network", "batch_size")
    print(race_text())


if __name__ == "__main__":
    main()
