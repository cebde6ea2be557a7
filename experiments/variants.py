"""A few variants side by side: train them, store the runs, tell results from noise."""

import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

import cnn
import mlp
from experiments.stored import load_rows, store_rows
from model_utils.cnn_backbone import BackboneHyperparameters
from model_utils.devices import choose_device
from model_utils.saved_models import remove_saved
from model_utils.tables import markdown_table
from model_utils.training import TrainingDiverged, best_epoch


def train(hyperparameters, training, validation, on_epoch=None):
    """Train an MLP or a backbone, whichever the hyperparameters describe; return it and its history."""
    h = hyperparameters
    if isinstance(h, BackboneHyperparameters):
        backbone = cnn.build(h).to(choose_device())
        return backbone, cnn.train(backbone, training, validation, h, on_epoch)
    model = mlp.build(h, math.prod(training[0].shape[1:]))
    return model, mlp.train(model, training, validation, h, on_epoch)


def compare(training, validation, base, variants, seeds=(0,)):
    """Train variants of one set of hyperparameters, side by side.

    Parameters
    ----------
    training, validation : Split
        As for `mlp.train` or `cnn.train`.
    base : MLPHyperparameters or BackboneHyperparameters
        Its kind decides what is trained.
    variants : dict of str to dict
        For each label, what differs from `base`.
    seeds : sequence of int
        Each variant is trained once with each seed.

    Returns
    -------
    dict of str to list of list of dict
        For each label, the history of each seed's run. A run that diverged has the epochs before; without any, one
        row with accuracy 0.
    """
    settings = settings_of(base, variants)
    histories = {label: [] for label in variants}
    runs = [(label, seed) for seed in seeds for label in variants]
    for label, seed in tqdm(runs, desc="comparing", unit="run", file=sys.stdout):
        history = []
        try:
            train(replace(settings[label], seed=seed), training, validation, on_epoch=history.append)
        except TrainingDiverged:
            nothing = dict.fromkeys(("train_loss", "validation_loss", "learning_rate", "seconds"), math.nan)
            history = history or [{"epoch": 1, "train_accuracy": 0.0, "validation_accuracy": 0.0} | nothing]
        histories[label].append(history)
    return histories


def settings_of(base, variants):
    """Return the hyperparameters of each variant."""
    return {label: replace(base, **changes) for label, changes in variants.items()}


def repeat(path, splits, settings, seeds, checkpoints):
    """Train a pair once with each seed, measure it, and store the accuracies.

    Parameters
    ----------
    path : path
        Of the CSV file, see `store_rows`. It gets, for each seed, the accuracies of the pair and of the backbone's own
        head on validation and test images.
    splits : Splits
    settings : dict
        {"backbone": BackboneHyperparameters, "mlp": ClassifierHyperparameters}.
    seeds : sequence of int
    checkpoints : path
        A folder for the backbones' checkpoints, removed at the end: a repetition that was cut off goes on from them.
    """
    folders = {seed: Path(checkpoints) / f"seed_{seed}" for seed in seeds}
    rows = []
    for seed, folder in folders.items():
        h, mlp_h = (replace(settings[part], seed=seed) for part in ("backbone", "mlp"))
        _, _, metrics = cnn.train_pair(cnn.build(h).to(choose_device()), splits, h, mlp_h, folder)
        rows.append({"seed": seed} | {part: measured["accuracy"] for part, measured in metrics.items()})
    store_rows(path, rows, settings)
    for folder in folders.values():
        remove_saved(folder)


def store(path, histories, base, variants):
    """Write what `compare` returned: a row for each epoch of each run, and the hyperparameters of each variant."""
    rows = [
        {"setting": label, "run": run} | row
        for label, runs in histories.items()
        for run, history in enumerate(runs)
        for row in history
    ]
    store_rows(path, rows, settings_of(base, variants))


def load(path, base, variants):
    """Read what `store` wrote; see `load_rows`."""
    return by_run(load_rows(path, settings_of(base, variants)))


def by_run(table):
    """Make of the rows that `store` wrote, a DataFrame, what `compare` returned."""
    return {
        label: [run.drop(columns=["setting", "run"]).to_dict("records") for _, run in runs.groupby("run")]
        for label, runs in table.groupby("setting", sort=False)
    }


def best_accuracies(runs):
    """Return the best validation accuracy of each of some runs."""
    return [best_epoch(run)["validation_accuracy"] for run in runs]


def mean_and_std(values):
    """Write the mean, and with more than one value the standard deviation."""
    text = f"{statistics.mean(values):.4f}"
    return text + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def describe(histories):
    """Lay out what `compare` returned, and say which differences stand out from the noise.

    Returns
    -------
    str
        Markdown. A table with a row a variant: mean and standard deviation over the n runs of the best validation
        accuracy, and the mean training accuracy of the last epoch. Then a sentence on which variants lie within two
        standard errors of the best one; with one run each, or one variant, there is no telling, and no sentence.
    """
    bests = {label: best_accuracies(runs) for label, runs in histories.items()}
    means = {label: np.mean(accuracies) for label, accuracies in bests.items()}
    is_repeated = all(len(accuracies) > 1 for accuracies in bests.values())
    stds = {label: np.std(accuracies, ddof=1) for label, accuracies in bests.items()} if is_repeated else {}
    rows = [
        (
            label,
            mean_and_std(bests[label]),
            len(runs),
            f"{np.mean([run[-1]['train_accuracy'] for run in runs]):.4f}",
        )
        for label, runs in histories.items()
    ]
    table = markdown_table(["setting", "best validation accuracy", "n", "training accuracy, as trained"], rows)
    if not is_repeated or len(means) == 1:
        return table

    winner, *others = sorted(means, key=means.get, reverse=True)
    within, below = [], []
    for label in others:
        standard_error = math.hypot(stds[winner], stds[label]) / math.sqrt(len(bests[label]))
        gap = means[winner] - means[label]
        if gap <= 2 * standard_error:
            within.append(label)
        else:
            below.append(f"{label} by {gap:.4f}")
    sentence = f"Best: **{winner}**."
    sentence += f" Within two standard errors of it: {'; '.join(within)}." if within else ""
    sentence += f" Below it: {'; '.join(below)}." if below else ""
    return f"{table}\n\n{sentence}"
