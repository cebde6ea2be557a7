"""What training the MLP and training a backbone have in common: best epoch, divergence, progress, measuring."""

import math
import sys
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from tqdm import tqdm

from model_utils.checks import check_all_finite, check_floats, check_labels
from model_utils.losses import cross_entropy


class TrainingDiverged(ArithmeticError):
    """The loss became NaN or infinite."""


def check_loss(loss, where, learning_rate):
    """Raise TrainingDiverged, with a hint, unless the loss is finite; `where` names the step."""
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"loss is {loss} in {where}; the best weights before it are kept. "
            f"Try a learning_rate below {learning_rate:g}."
        )


def check_batches(batch_norm, batch_size, n_samples):
    """Raise a ValueError if batch normalisation would meet a batch of one sample, which has no variance."""
    if batch_norm and (n_samples % batch_size == 1 or batch_size == 1):
        raise ValueError(
            f"batch_size: batch normalisation needs at least two samples in a batch, but {batch_size} for "
            f"{n_samples:,} samples leaves a batch of one"
        )


def best_epoch(history):
    """Return the row of the history whose weights the model keeps: the first with the highest validation accuracy."""
    try:
        return max(history, key=lambda row: row["validation_accuracy"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("history: expected at least one epoch, and a validation_accuracy in each") from error


def out_of_patience(history, patience):
    """Return whether the last `patience` epochs brought no better validation accuracy; always False for 0."""
    return bool(history and patience) and history[-1]["epoch"] - best_epoch(history)["epoch"] >= patience


class EpochBar:
    """A progress bar over the epochs of a training run, to be passed to it as `on_epoch`.

    Parameters
    ----------
    n_epochs : int
    name : str
        The name of what is trained.
    """

    def __init__(self, n_epochs, name="training"):
        self._best = 0.0
        # Write to standard output, since notebooks show standard error as if something were wrong.
        self._bar = tqdm(total=n_epochs, desc=name, unit="epoch", file=sys.stdout)

    def __call__(self, row):
        """Show an epoch, a row of the history."""
        self._best = max(self._best, row["validation_accuracy"])
        self._bar.set_postfix_str(
            f"loss {row['train_loss']:.3f}, validation accuracy {row['validation_accuracy']:.4f}, "
            f"best {self._best:.4f}",
            refresh=False,
        )
        self._bar.update()
        if self._bar.n == self._bar.total:
            self.close()

    def close(self):
        """Close the bar as it is, since training can end before its last epoch."""
        self._bar.close()


def measure(logits, labels, class_names):
    """Return the metrics of a classifier.

    Parameters
    ----------
    logits : ndarray of float, shape (N, K)
    labels : ndarray of int, shape (N,)
    class_names : sequence of str
        K of them.

    Returns
    -------
    dict
        accuracy; cross_entropy in nats; macro means of precision, recall and f1; per_class, the same three by class
        name; confusion_matrix, where row t, column p counts images of class t that were classified as p; n_images.

    Raises
    ------
    ValueError
        If logits are not finite floats of shape (N, K), or labels or class_names do not fit them.
    """
    logits = check_floats("logits", logits, 2)
    check_all_finite("logits", logits)
    labels = check_labels(labels, *logits.shape)
    if not isinstance(class_names, Sequence) or len(class_names) != logits.shape[1]:
        raise ValueError(f"class_names: expected {logits.shape[1]} names, got {class_names!r}")
    predictions = logits.argmax(axis=1)
    classes = range(len(class_names))
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, labels=classes, zero_division=0)
    return {
        "accuracy": float(np.mean(predictions == labels)),
        "cross_entropy": cross_entropy(logits, labels)[0],
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "per_class": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f)}
            for name, p, r, f in zip(class_names, precision, recall, f1, strict=True)
        },
        "confusion_matrix": confusion_matrix(labels, predictions, labels=classes).tolist(),
        "n_images": len(labels),
    }
