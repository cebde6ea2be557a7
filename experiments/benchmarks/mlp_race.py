"""Race the NumPy MLP against the same networks in other libraries: make bench.

There are nine cells: three networks at three batch sizes. In each round, the contestants of `rivals` take turns and
train for one epoch on the 60,000 official training images, shuffling and batching included. One of them, the floor,
computes the matrix products alone; no other on the same BLAS can be faster. The race is run with two threads, and with
one.
"""

from functools import partial

from experiments import RESULTS
from experiments.benchmarks.rivals import RIVALS, race_epoch
from experiments.benchmarks.rounds import alternate, store

STORED = RESULTS / "mlp_race.csv"
NETWORKS = ((784, 128, 10), (784, 256, 128, 10), (784, 512, 256, 128, 64, 32, 16, 10))
BATCH_SIZES = (64, 128, 512)
THREADS = (2, 1)
ROUNDS = 3


def main():
    """Run the race, and store every round."""
    rows = []
    for n_threads in THREADS:
        for sizes in NETWORKS:
            for batch_size in BATCH_SIZES:
                contestants = {
                    name: (rival.package, partial(race_epoch, name, sizes, batch_size))
                    for name, rival in RIVALS.items()
                }
                cell = {"network": "-".join(map(str, sizes)), "batch_size": batch_size}
                rows += alternate(contestants, ROUNDS, n_threads, **cell)
    store(STORED, rows, "network", "batch_size")


if __name__ == "__main__":
    main()
