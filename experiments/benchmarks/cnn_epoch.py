"""Time an epoch of the backbone in `cnn.py` and in the usual loop of a submission: make bench.

Both train the same network, 16-32-64-128-256 with batch norm, on the 48,000 training images. The usual loop has a
Dataset that turns each sample into a tensor on request, a DataLoader with batches of 64, Adam, float32, and channels
before pixels in memory. `cnn.py` also mirrors and shifts its images. The two take turns.
"""

import torch
from torch import nn

import cnn
from data_preparation import Split, load_dataloaders, load_splits
from experiments import RESULTS
from experiments.benchmarks.rounds import alternate, store
from model_utils.cnn_backbone import CNNHyperparameters

STORED = RESULTS / "cnn_epoch.csv"
ROUNDS = 3
THREADS = (2, 1)


def usual_contestant():
    """Return a network, and the function that trains it for an epoch as most submissions do."""
    twin = cnn.build(CNNHyperparameters())
    layers = [*twin.layers, nn.Flatten(), twin.fully_connected, twin.norm, nn.ReLU(), twin.dropout, twin.head]
    network = nn.Sequential(*layers).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(network.parameters())
    loader = load_dataloaders(batch_size=64)[0]

    def epoch():
        network.train()
        for images, labels in loader:
            loss = nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return network, epoch


def our_epoch():
    """Make a backbone; return the function that trains it for an epoch as `cnn.py` does."""
    splits = load_splits()
    h = CNNHyperparameters(epochs=1)
    backbone = cnn.build(h)
    few = Split(splits.validation.images[:10], splits.validation.labels[:10])  # cnn.train validates, the loop does not
    return lambda: cnn.train(backbone, splits.train, few, h)


def usual_epoch():
    """Make a network; return the function that trains it for an epoch in the usual loop."""
    return usual_contestant()[1]


def main():
    """Run the rounds, and store each."""
    contestants = {"ours": ("torch", our_epoch), "usual": ("torch", usual_epoch)}
    store(STORED, [row for n in THREADS for row in alternate(contestants, ROUNDS, n)])


if __name__ == "__main__":
    main()
