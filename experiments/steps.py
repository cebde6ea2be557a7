"""The argument of question 2f: steps that each vary one thing in the MLP that the steps before arrived at.

Where the varied thing changes which learning rate is best, each choice is tried at several rates and judged at its
best one. What a step decides is written into the base of the next step by hand; a test holds every decision against
the stored results.
"""

import statistics
from dataclasses import replace
from typing import NamedTuple

from optuna.distributions import CategoricalDistribution

import mlp
from experiments import MODELS, RESULTS, variants
from experiments.stored import read_rows
from experiments.study import Space
from mlp import MLPHyperparameters
from model_utils.layers import ACTIVATIONS, INITS

SEEDS = (0, 1, 2)


class Step(NamedTuple):
    """One step.

    Attributes
    ----------
    varied : str
        What it varies, as a title says it.
    base : MLPHyperparameters
        What the steps before arrived at.
    choices : dict of str to dict
        For each choice, what differs from `base`.
    rates : dict of str to tuple of float, optional
        For each choice, the learning rates that it is tried at; all at the rate of their own hyperparameters if None.
    decided : str
        The choice that the next step builds on.
    """

    varied: str
    base: MLPHyperparameters
    choices: dict
    decided: str
    rates: dict = None

    @property
    def settings(self):
        """What differs from the base, by the name of each setting: a choice, or a choice at a learning rate."""
        if self.rates is None:
            return self.choices
        return {
            setting_name(choice, rate): changes | {"learning_rate": rate}
            for choice, changes in self.choices.items()
            for rate in self.rates[choice]
        }

    @property
    def space(self):
        """The study that trains each setting with each seed."""
        distributions = {
            "setting": CategoricalDistribution(tuple(self.settings)),
            "seed": CategoricalDistribution(SEEDS),
        }
        return Space(distributions, n_trials=len(self.settings) * len(SEEDS), sampler="grid")

    def changes(self, parameters):
        """Return what a trial of the study changes in the base."""
        return self.settings[parameters["setting"]] | {"seed": parameters["seed"]}


def setting_name(choice, rate):
    """Return the name of a choice at a learning rate."""
    return f"{choice}, rate {rate:g}"


# The steps, in order. Every base is the base of the step before with its decision.

START = MLPHyperparameters(hidden_sizes=(128,), schedule="cosine", batch_size=128, epochs=20)
OPTIMIZER = Step(
    "optimizer",
    START,
    {name: {"optimizer": name} for name in ("sgd", "momentum", "nesterov", "rmsprop", "adam")},
    decided="adam",
    rates={
        "sgd": (0.05, 0.15, 0.5, 1.5),
        "momentum": (0.005, 0.015, 0.05, 0.15),
        "nesterov": (0.005, 0.015, 0.05, 0.15),
        "rmsprop": (0.0003, 0.001, 0.003, 0.01),
        "adam": (0.0003, 0.001, 0.003, 0.01),
    },
)

WITH_ADAM = replace(START, optimizer="adam", learning_rate=0.003)
SCHEDULE = Step(
    "learning-rate schedule",
    WITH_ADAM,
    {name: {"schedule": name} for name in ("constant", "inverse_time", "step", "cosine")},
    decided="cosine",
    rates=dict.fromkeys(("constant", "inverse_time", "step", "cosine"), (0.001, 0.003, 0.01)),
)

BATCH_SIZE = Step(
    "batch size",
    WITH_ADAM,
    {str(size): {"batch_size": size} for size in (32, 64, 128, 256, 512)},
    decided="128",
    rates={  # around one that grows with the root of the batch size
        "32": (0.00075, 0.0015, 0.003),
        "64": (0.001, 0.002, 0.004),
        "128": (0.0015, 0.003, 0.006, 0.012),
        "256": (0.002, 0.004, 0.008),
        "512": (0.003, 0.006, 0.012),
    },
)

ACTIVATION = Step(
    "activation",
    WITH_ADAM,
    {name: {"activation": name} for name in ACTIVATIONS},
    decided="relu",
    rates=dict.fromkeys(ACTIVATIONS, (0.001, 0.003, 0.01)),
)

INIT = Step(
    "initial weights, in six layers",
    replace(WITH_ADAM, hidden_sizes=(64,) * 6),
    {name: {"init": name} for name in INITS}
    | {f"{name}, batch norm": {"init": name, "batch_norm": True} for name in INITS},
    decided="He, batch norm",
    rates=dict.fromkeys(INITS, (0.0003, 0.001))
    | dict.fromkeys((f"{name}, batch norm" for name in INITS), (0.001, 0.003)),
)

DEEP = (512, 256, 128, 64, 32, 16)
SIZES = ((), (128,), (512,), (512, 256), (512, 512, 512), DEEP)
SIZE = Step(
    "number and width of the layers",
    replace(WITH_ADAM, batch_norm=True),
    {"-".join(map(str, sizes)) or "none": {"hidden_sizes": sizes} for sizes in SIZES},
    decided="512-256",
    rates=dict.fromkeys(("-".join(map(str, sizes)) or "none" for sizes in SIZES), (0.001, 0.003)),
)

WITH_SIZE = replace(WITH_ADAM, batch_norm=True, hidden_sizes=(512, 256))
OBJECTIVE = Step(
    "objective function",
    WITH_SIZE,
    {
        "cross-entropy": {},
        "cross-entropy, label smoothing 0.1": {"label_smoothing": 0.1},
        "squared error": {"objective": "mean_squared_error"},
    },
    decided="cross-entropy, label smoothing 0.1",
    rates=dict.fromkeys(("cross-entropy", "cross-entropy, label smoothing 0.1", "squared error"), (0.001, 0.003)),
)

# From here on twice as long: what keeps a network from learning its images by heart pays late.
LONGER = replace(WITH_SIZE, label_smoothing=0.1, optimizer="adamw", epochs=40)
REGULARISATION = Step(
    "regularisation",
    LONGER,
    {
        "none": {},
        "weight decay 0.1": {"weight_decay": 0.1},
        "dropout 0.1": {"dropout": 0.1},
        "dropout 0.3": {"dropout": 0.3},
        "flip": {"flip": True},
        "shift 1": {"shift": 1},
        "shift 2": {"shift": 2},
        "flip, shift 1": {"flip": True, "shift": 1},
        "flip, shift 1, weight decay 0.1": {"flip": True, "shift": 1, "weight_decay": 0.1},
        "flip, shift 1, dropout 0.1": {"flip": True, "shift": 1, "dropout": 0.1},
    },
    decided="flip, shift 1, weight decay 0.1",
)

# What the steps so far lead to: longer, with the views that the images moved and mirrored prepare for.
RECIPE = replace(LONGER, flip=True, shift=1, weight_decay=0.1, average_views=True, epochs=100)

STEPS = {
    "optimizer": OPTIMIZER,
    "schedule": SCHEDULE,
    "batch_size": BATCH_SIZE,
    "activation": ACTIVATION,
    "init": INIT,
    "size": SIZE,
    "objective": OBJECTIVE,
    "regularisation": REGULARISATION,
}

FINALS = {
    "784-128-10": replace(RECIPE, hidden_sizes=(128,), epochs=200),
    "deep": replace(RECIPE, hidden_sizes=DEEP, epochs=40),
    "512-256": replace(RECIPE, epochs=150),
}


def finish_final(model, hyperparameters, history, splits):
    """Measure a final model on the test images, once; save it if its seed is the first."""
    h = hyperparameters
    metrics = mlp.measure_mlp(model, splits, h)
    if h.seed == SEEDS[0]:
        sizes = {name: len(getattr(splits, name).labels) for name in ("train", "validation")}
        mlp.save(MODELS / "mlp" / h.name, model, h, history, sizes | {"test": "official", "seed": 0}, metrics)
    return {part: measured["accuracy"] for part, measured in metrics.items()}


# Their results


def stored_runs(name):
    """Read the runs of a step from results/.

    Returns
    -------
    dict of str to list of list of dict
        For each setting, a history of one row for each seed, as `variants.describe` takes it: its best validation
        accuracy, and the training accuracy of its last epoch.
    """
    rows = read_rows(RESULTS / f"study_mlp_{name}.csv")
    return {
        setting: [
            [{"validation_accuracy": row["value"], "train_accuracy": row["train_accuracy"]}]
            for row in runs.to_dict("records")
        ]
        for setting, runs in rows.groupby("setting", sort=False)
    }


def by_rate(name):
    """Return, for each choice of a step, for each learning rate that it was tried at, the accuracies of its runs."""
    step, runs = STEPS[name], stored_runs(name)
    return {
        choice: {rate: variants.best_accuracies(runs[setting_name(choice, rate)]) for rate in step.rates[choice]}
        for choice in step.choices
    }


def at_best_rates(name):
    """Return the runs of each choice of a step at its best learning rate, by the mean accuracy; see `stored_runs`."""
    step, runs = STEPS[name], stored_runs(name)
    if step.rates is None:
        return {choice: runs[choice] for choice in step.choices}
    best = {}
    for choice, accuracies in by_rate(name).items():
        label = setting_name(choice, max(accuracies, key=lambda rate: statistics.mean(accuracies[rate])))
        best[label] = runs[label]
    return best


def describe(name):
    """Lay out the choices of a step at their best learning rates, and say what the step decides, as Markdown."""
    return f"{variants.describe(at_best_rates(name))} We go on with **{STEPS[name].decided}**."


def mean_accuracy(name, setting):
    """Return the mean validation accuracy of a setting of a step."""
    return statistics.mean(variants.best_accuracies(stored_runs(name)[setting]))


def gains():
    """Return, for each step, what its best choice gains over its worst, each at its best rate; the largest first."""
    means = {
        name: [statistics.mean(variants.best_accuracies(r)) for r in at_best_rates(name).values()] for name in STEPS
    }
    differences = {STEPS[name].varied: max(values) - min(values) for name, values in means.items()}
    return dict(sorted(differences.items(), key=lambda item: -item[1]))


def final_accuracies():
    """Return, for each final model, its test accuracy over the seeds: mean, standard deviation and n, as text."""
    rows = read_rows(RESULTS / "study_mlp_final.csv")
    accuracies = {label: rows[rows["model"] == label]["test"] for label in FINALS}
    return {label: f"{variants.mean_and_std(runs)}, n = {len(runs)}" for label, runs in accuracies.items()}
