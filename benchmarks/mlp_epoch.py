"""Time an epoch of the NumPy MLP against the same network in PyTorch: make bench.

Both train 784-128-10 with ReLU on the 60,000 official training images at batch 128 with SGD and momentum, in float32
from the same weights, shuffling and batching included. PyTorch at its best without a compiler: the data in one tensor,
batches taken by index, the fused optimizer. The two take turns, so that a drift of the machine's speed meets both.
"""

import numpy as np
import torch

from benchmarks.rounds import alternate
from data_preparation import N_OFFICIAL_TRAIN, batches, load_official, preprocess
from model_utils.losses import cross_entropy
from model_utils.mlp import MLP
from model_utils.optimizers import OPTIMIZERS
from model_utils.results import EPOCH_TIMES, speed_sentence
from model_utils.tables import write_csv

BATCH_SIZE, LEARNING_RATE, ROUNDS = 128, 0.05, 15


def numpy_epoch(model, optimizer, x, labels, rng):
    """Train for one epoch; return the last loss."""
    for x_batch, labels_batch in batches(x, labels, BATCH_SIZE, rng):
        loss, dlogits = cross_entropy(model.forward(x_batch, training=True), labels_batch)
        model.backward(dlogits)
        optimizer.step(LEARNING_RATE)
    return loss


def torch_epoch(model, optimizer, x, labels):
    """Train for one epoch; return the last loss."""
    for chosen in torch.randperm(len(x)).split(BATCH_SIZE):
        loss = torch.nn.functional.cross_entropy(model(x[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main():
    """Run the rounds, print the medians and store every round in results/."""
    official = load_official()
    x, labels = preprocess(official.images[:N_OFFICIAL_TRAIN]), official.labels[:N_OFFICIAL_TRAIN]
    x_tensor, labels_tensor = torch.from_numpy(x), torch.from_numpy(labels)

    model = MLP()
    optimizer = OPTIMIZERS["momentum"](model.parameters, model.gradients)
    twin = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    for layer, W, b in zip(twin[::2], model.W, model.b, strict=True):
        layer.weight.data = torch.from_numpy(W.T.copy())
        layer.bias.data = torch.from_numpy(b.copy())
    torch_optimizer = torch.optim.SGD(twin.parameters(), LEARNING_RATE, momentum=0.9, fused=True)
    rng = np.random.default_rng(0)
    contestants = {
        ("NumPy", np.__version__): lambda: numpy_epoch(model, optimizer, x, labels, rng),
        ("PyTorch", torch.__version__): lambda: torch_epoch(twin, torch_optimizer, x_tensor, labels_tensor),
    }

    rows = alternate(contestants, ROUNDS)
    write_csv(EPOCH_TIMES, rows)
    print(speed_sentence())


if __name__ == "__main__":
    main()
