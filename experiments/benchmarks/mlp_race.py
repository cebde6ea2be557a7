"""Race the NumPy MLP against the same networks in other libraries: make bench.

Nine cells, three networks at three batch sizes; in each the contestants of `rivals` train on the 60,000 official
training images for an epoch a round, shuffling and batching included. They take turns, and so do the matrix products
alone, the floor that no contestant on the same BLAS can go below.
"""

from importlib import metadata

from data_preparation import N_OFFICIAL_TRAIN, Split, load_official, preprocess
from experiments import RESULTS
from experiments.benchmarks.rivals import RIVALS
from experiments.benchmarks.rounds import alternate, store

STORED = RESULTS / "mlp_race.csv"
NETWORKS = ((784, 128, 10), (784, 256, 128, 10), (784, 512, 256, 128, 64, 32, 16, 10))
BATCH_SIZES = (64, 128, 512)
ROUNDS = 5


def main():
    """Run the race and store every round."""
    official = load_official()
    training = Split(official.images[:N_OFFICIAL_TRAIN], official.labels[:N_OFFICIAL_TRAIN])
    x = preprocess(training.images)
    rivals = dict(RIVALS)
    rows = []
    for sizes in NETWORKS:
        for batch_size in BATCH_SIZES:
            epochs = {}
            for name, rival in list(rivals.items()):
                try:
                    contestant = rival.make(sizes, batch_size, training, x)
                    epochs[name, metadata.version(rival.package)] = contestant.epoch
                except ImportError as error:
                    print(f"left out: {rival.title} ({error})")
                    del rivals[name]
            rows += alternate(epochs, ROUNDS, network="-".join(map(str, sizes)), batch_size=batch_size)
    store(STORED, rows, "network", "batch_size")


if __name__ == "__main__":
    main()
