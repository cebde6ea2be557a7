"""The training of the NumPy MLP: its hyperparameters and its loop.

It does not matter here where batches come from: `mlp.train` makes them from images, `mlp_classifier` from a table.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from model_utils.hyperparameters import Hyperparameters, choice, count, counts, flag, number, seed
from model_utils.layers import ACTIVATIONS, INITS
from model_utils.losses import OBJECTIVES
from model_utils.mlp import MLP
from model_utils.optimizers import OPTIMIZERS, SCHEDULES, clip_gradients
from model_utils.training import best_epoch, check_loss, out_of_patience


@dataclass(frozen=True)
class ClassifierHyperparameters(Hyperparameters):
    """Hyperparameters of an MLP that is trained on features. The command line has an option for each."""

    hidden_sizes: tuple = counts((128,), "units of each hidden layer")
    activation: str = choice("relu", "function after each hidden layer", ACTIVATIONS)
    init: str = choice("He", "initial weights", INITS)
    dropout: float = number(0.0, "share of hidden activations dropped in training", high=1)
    batch_norm: bool = flag(False, "normalise each hidden layer over the batch")
    objective: str = choice("cross_entropy", "loss that is minimised", OBJECTIVES)
    label_smoothing: float = number(0.0, "share of each target spread evenly over all classes", high=1)
    optimizer: str = choice("momentum", "update rule", OPTIMIZERS)
    learning_rate: float = number(0.05, "step size, before the schedule")
    schedule: str = choice("constant", "schedule of the learning rate", SCHEDULES)
    weight_decay: float = number(0.0, "how strongly weights, but not biases, are pulled towards 0")
    clip_norm: float = number(0.0, "largest gradient norm allowed, 0 for no limit")
    batch_size: int = count(128, "images per step")
    epochs: int = count(10, "passes through the training split")
    patience: int = count(0, "stop after this many epochs without a better validation accuracy, 0 for never", minimum=0)
    seed: int = seed("for initial weights, dropout, order of batches and augmentation")

    # Only an MLP that is trained on images can change these.
    flip: ClassVar[bool] = False
    shift: ClassVar[int] = 0
    n_views: ClassVar[int] = 1

    @property
    def name(self):
        """The saved model's folder name."""
        layers = "_".join(map(str, self.hidden_sizes))
        return (
            f"mlp__layers__{layers}__lr_{self.learning_rate:g}__epoch_{self.epochs}"
            f"__activation_{self.activation}__initiation_{self.init}"
        )


def build(hyperparameters, n_inputs, n_classes, dtype):
    """Make the untrained MLP that the hyperparameters describe."""
    h = hyperparameters
    return MLP(n_inputs, h.hidden_sizes, n_classes, h.activation, h.init, h.dropout, h.batch_norm, h.seed, dtype)


def optimizer_of(model, hyperparameters):
    """Make the optimizer that the hyperparameters describe, for an MLP."""
    h = hyperparameters
    return OPTIMIZERS[h.optimizer](model.parameters, model.gradients, model.n_weights, h.weight_decay)


@np.errstate(over="ignore", invalid="ignore")  # leads to NaN; the error raised below explains it
def run_epochs(model, batches, n_train, validate, hyperparameters, on_epoch=None, optimizer=None):
    """Train an MLP with mini-batches.

    However training ends, by early stopping, Ctrl-C or an error, the model keeps the weights of the epoch with the
    highest validation accuracy so far, of the last finished epoch if nothing is validated, or its initial weights if no
    epoch was finished.

    Parameters
    ----------
    model : MLP
    batches : callable
        `batches(rng)` yields the batches of an epoch: inputs, float of shape (B, D), labels, int of shape (B,), and the
        weights of the rows in the loss, float of shape (B,), or None for equal weights.
    n_train : int
        Number of rows in an epoch.
    validate : callable or None
        `validate(objective)` returns loss and accuracy on validation.
    hyperparameters : ClassifierHyperparameters
    on_epoch : callable, optional
        Called with each row of the history as soon as its epoch is over. An exception that it raises ends the training.
    optimizer : Optimizer, optional
        One from `optimizer_of` that has already taken steps, and continues from there.

    Returns
    -------
    list of dict
        The history: epoch, train_loss and train_accuracy (weighted means over the epoch's rows, measured while the
        network changes, with dropout and augmentation), validation_loss and validation_accuracy unless nothing is
        validated, learning_rate and seconds.

    Raises
    ------
    TrainingDiverged
        If the loss is NaN or infinite.
    """
    h = hyperparameters
    objective = partial(OBJECTIVES[h.objective], label_smoothing=h.label_smoothing)
    optimizer = optimizer or optimizer_of(model, h)
    schedule = SCHEDULES[h.schedule]
    rng = np.random.default_rng([h.seed, 1])  # a random stream separate from the model's
    steps_per_epoch = -(-n_train // h.batch_size)
    history, best_state = [], model.state()
    try:
        for epoch in range(1, h.epochs + 1):
            started = time.perf_counter()
            loss_sum = correct = total = 0
            for step, (x, labels, weights) in enumerate(batches(rng)):
                logits = model.forward(x, training=True)
                loss, dlogits = objective(logits, labels, weights=weights)
                check_loss(loss, f"epoch {epoch}, step {step + 1} of {steps_per_epoch}", h.learning_rate)
                model.backward(dlogits)
                if h.clip_norm:
                    clip_gradients(model.gradients, h.clip_norm)
                share_done = (epoch - 1 + (step + 0.5) / steps_per_epoch) / h.epochs
                learning_rate = h.learning_rate * schedule(share_done)
                optimizer.step(learning_rate)
                loss_sum += loss * len(x)
                is_correct = logits.argmax(axis=1) == labels
                correct += np.count_nonzero(is_correct) if weights is None else float(weights @ is_correct)
                total += len(x) if weights is None else float(weights.sum())

            row = {"epoch": epoch, "train_loss": loss_sum / total, "train_accuracy": correct / total}
            if validate is not None:
                row["validation_loss"], row["validation_accuracy"] = validate(objective)
                check_loss(row["validation_loss"], f"epoch {epoch}, validation", h.learning_rate)
            row |= {"learning_rate": learning_rate, "seconds": time.perf_counter() - started}
            history.append(row)
            if validate is None or best_epoch(history) is row:
                best_state = model.state()
            if on_epoch is not None:
                on_epoch(row)
            if out_of_patience(history, h.patience):
                break
    finally:
        model.load_state(best_state)
    return history
