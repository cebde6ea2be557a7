"""Time an epoch of the backbone as `cnn.py` trains it against the loop of the usual hand-in: make bench.

Both train the same network, 16-32-64-128-256 with batch norm, on the 48,000 training images. The usual loop: a Dataset
that turns each sample into a tensor when it is asked for, a DataLoader with batches of 64, Adam, float32, channels
before pixels. `cnn.py` mirrors and moves its images on top. The two take turns.
"""

import torch
from torch import nn

import cnn
from benchmarks.rounds import alternate
from data_preparation import Split, load_dataloaders, load_splits
from model_utils.results import CNN_EPOCH_TIMES, cnn_speed_sentence
from model_utils.tables import write_csv

ROUNDS = 3


def usual_epoch(network, optimizer, loader):
    """Train for one epoch as most hand-ins do; return the mean loss."""
    network.train()
    losses = []
    for images, labels in loader:
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def main():
    """Run the rounds, print the medians and store every round in results/."""
    splits = load_splits()
    h = cnn.Hyperparameters(epochs=1)
    backbone = cnn.build(h)
    few = Split(splits.validation.images[:10], splits.validation.labels[:10])  # cnn.train validates, the other does not

    twin = cnn.build(h)
    network = nn.Sequential(*twin.layers, nn.Flatten(), twin.fully_connected, nn.ReLU(), twin.dropout, twin.head).to(
        memory_format=torch.contiguous_format
    )
    optimizer = torch.optim.Adam(network.parameters())
    loader = load_dataloaders(batch_size=64)[0]
    rows = alternate(
        {
            ("cnn.py", torch.__version__): lambda: cnn.train(backbone, splits.train, few, h, progress=False)[-1][
                "train_loss"
            ],
            ("usual loop", torch.__version__): lambda: usual_epoch(network, optimizer, loader),
        },
        ROUNDS,
    )
    write_csv(CNN_EPOCH_TIMES, rows)
    print(cnn_speed_sentence())


if __name__ == "__main__":
    main()
