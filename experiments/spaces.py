"""The declared studies: what each searches, what it trains, and on how many images; and what was stored of them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner

from experiments import RESULTS
from experiments.stored import read_rows
from experiments.study import Space
from mlp import MLPHyperparameters
from model_utils.cnn_backbone import BackboneHyperparameters, CNNHyperparameters


class Experiment(NamedTuple):
    """A declared study.

    Attributes
    ----------
    space : Space
    base : MLPHyperparameters or BackboneHyperparameters
        What all trials have in common; its kind decides what is trained.
    changes : function
        From a trial's parameters to what differs from `base`, a dict.
    train_size : int
        Training images.
    """

    space: Space
    base: MLPHyperparameters | BackboneHyperparameters
    changes: Callable
    train_size: int


def _mlp_changes(parameters):
    """A rectangle of hidden layers; all else goes by its own name."""
    parameters = dict(parameters)
    return {"hidden_sizes": (parameters.pop("width"),) * parameters.pop("layers"), **parameters}


KERNELS = {"2": (2,) * 5, "3": (3,) * 5, "5": (5,) * 5, "5 5 3 3 3": (5, 5, 3, 3, 3)}
CHANNELS = {"same": (32,) * 5, "doubled": (8, 16, 32, 64, 128), "halved": (128, 64, 32, 16, 8)}
POOLINGS = {
    "early": {"pool_sizes": (2, 2, 2, 3, 3), "pool_strides": (2, 2, 2, 1, 3)},
    "late": {"pool_sizes": (2, 3, 2, 3, 7), "pool_strides": (2, 1, 2, 1, 7)},
}


def architecture(plan, pooling, kernels):
    """Return the name of a combination of the choices above."""
    return f"{plan}, {pooling}, kernels {kernels}"


ARCHITECTURES = {
    architecture(plan, pooling, kernels): {"channels": channels, "kernel_sizes": sizes} | POOLINGS[pooling]
    for plan, channels in CHANNELS.items()
    for pooling in POOLINGS
    for kernels, sizes in KERNELS.items()
}


def _cnn_changes(parameters):
    return {
        "kernel_sizes": KERNELS[parameters["kernels"]],
        "channels": CHANNELS[parameters["channels"]],
        "init": parameters["init"],
        "epochs": parameters["epochs"],
        **POOLINGS[parameters["pooling"]],
    }


MLP_SPACE = {
    "layers": IntDistribution(1, 4),
    "width": CategoricalDistribution((128, 256, 512)),
    "activation": CategoricalDistribution(("relu", "leaky_relu", "elu", "sigmoid", "tanh")),
    "init": CategoricalDistribution(("random", "Xavier", "He")),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "batch_norm": CategoricalDistribution((False, True)),
    "weight_decay": FloatDistribution(1e-5, 0.3, log=True),
    "label_smoothing": FloatDistribution(0.0, 0.2, step=0.05),
    "objective": CategoricalDistribution(("cross_entropy", "mean_squared_error")),
    "optimizer": CategoricalDistribution(("momentum", "nesterov", "rmsprop", "adam", "adamw")),
    "schedule": CategoricalDistribution(("constant", "step", "inverse_time", "cosine")),
    "batch_size": CategoricalDistribution((64, 128, 256, 512)),
    "learning_rate": FloatDistribution(1e-4, 0.2, log=True),
    "flip": CategoricalDistribution((False, True)),
    "shift": IntDistribution(0, 1),
}

STUDIES = {
    "mlp": Experiment(
        Space(
            MLP_SPACE,
            n_trials=100,
            # After ten trials, one that is worse than their median after its second epoch, or a later one, is given up.
            pruner=MedianPruner(n_startup_trials=10, n_warmup_steps=2),
        ),
        MLPHyperparameters(epochs=8),
        _mlp_changes,
        train_size=24_000,
    ),
    "cnn": Experiment(
        Space(
            {
                "kernels": CategoricalDistribution(tuple(KERNELS)),
                "channels": CategoricalDistribution(tuple(CHANNELS)),
                "pooling": CategoricalDistribution(tuple(POOLINGS)),
                "init": CategoricalDistribution(("random", "Xavier", "He")),
                "epochs": CategoricalDistribution((1, 3)),
            },
            n_trials=40,
        ),
        CNNHyperparameters(n_features=128),
        _cnn_changes,
        train_size=8_000,
    ),
}


# What the search is held against: as many points of the same space, drawn at random, each to its end.
STUDIES["mlp_random"] = STUDIES["mlp"]._replace(space=Space(MLP_SPACE, n_trials=100, sampler="random"))

# The best combination of mlp_implementation.ipynb, for fewer epochs, and what is changed in it, one thing at a time.
ABLATION_BASE = MLPHyperparameters(
    hidden_sizes=(512, 256),
    dropout=0.2,
    batch_norm=True,
    label_smoothing=0.1,
    optimizer="adamw",
    learning_rate=0.004,
    schedule="cosine",
    weight_decay=0.05,
    batch_size=256,
    flip=True,
    epochs=10,
)
ABLATIONS = {
    "layers": {
        "1": {"hidden_sizes": (512,)},
        "3": {"hidden_sizes": (512, 256, 128)},
        "5": {"hidden_sizes": (512, 256, 128, 64, 32)},
    },
    "width": {
        "128-64": {"hidden_sizes": (128, 64)},
        "256-128": {"hidden_sizes": (256, 128)},
        "1024-512": {"hidden_sizes": (1024, 512)},
    },
    "activation": {
        "leaky_relu": {"activation": "leaky_relu"},
        "elu": {"activation": "elu"},
        "sigmoid": {"activation": "sigmoid"},
        "tanh": {"activation": "tanh"},
    },
    "init": {
        "random": {"init": "random"},
        "Xavier": {"init": "Xavier"},
    },
    "dropout": {
        "0": {"dropout": 0.0},
        "0.1": {"dropout": 0.1},
        "0.4": {"dropout": 0.4},
    },
    "batch norm": {
        "none": {"batch_norm": False},
        "none, rate 0.001": {"batch_norm": False, "learning_rate": 0.001},
    },
    "weight decay": {
        "0": {"weight_decay": 0.0},
        "0.2": {"weight_decay": 0.2},
    },
    "label smoothing": {
        "0": {"label_smoothing": 0.0},
        "0.2": {"label_smoothing": 0.2},
    },
    "objective": {
        "mean squared error": {"objective": "mean_squared_error"},
    },
    "optimizer": {
        "sgd, rate 0.5": {"optimizer": "sgd", "learning_rate": 0.5, "weight_decay": 5e-4},
        "momentum, rate 0.1": {"optimizer": "momentum", "learning_rate": 0.1, "weight_decay": 5e-4},
        "nesterov, rate 0.1": {"optimizer": "nesterov", "learning_rate": 0.1, "weight_decay": 5e-4},
        "rmsprop, rate 0.002": {"optimizer": "rmsprop", "learning_rate": 0.002, "weight_decay": 5e-4},
        "adam, rate 0.004": {"optimizer": "adam", "weight_decay": 5e-4},
    },
    "schedule": {
        "constant": {"schedule": "constant"},
        "step": {"schedule": "step"},
        "inverse_time": {"schedule": "inverse_time"},
    },
    "batch size": {
        "64": {"batch_size": 64},
        "1024": {"batch_size": 1024},
    },
    "learning rate": {
        "0.001": {"learning_rate": 0.001},
        "0.016": {"learning_rate": 0.016},
    },
    "augmentation": {
        "none": {"flip": False},
        "mirrored and moved": {"shift": 1},
    },
}
UNCHANGED = "as it is"


def ablation(group, change):
    """Return the name of a change among the study's settings."""
    return f"{group}: {change}"


SETTINGS = {UNCHANGED: {}} | {
    ablation(group, change): differences
    for group, changes in ABLATIONS.items()
    for change, differences in changes.items()
}
STUDIES["mlp_ablations"] = Experiment(
    Space(
        {"setting": CategoricalDistribution(tuple(SETTINGS)), "seed": CategoricalDistribution((0, 1))},
        n_trials=2 * len(SETTINGS),
        sampler="grid",
    ),
    ABLATION_BASE,
    lambda parameters: SETTINGS[parameters["setting"]] | {"seed": parameters["seed"]},
    train_size=24_000,
)


def stored_trials(name):
    """Read the trials of an exported study, a row each, as a DataFrame."""
    space = STUDIES[name].space.distributions
    return read_rows(
        RESULTS / f"study_{name}.csv", converters={parameter: partial(_parse, d) for parameter, d in space.items()}
    )


def distinct_points(name):
    """Return the complete trials of an exported study, best first; a point that was tried again came out the same."""
    trials = stored_trials(name)
    points = trials[trials["state"] == "complete"].drop_duplicates([*STUDIES[name].space.distributions])
    return points.sort_values("value", ascending=False, kind="stable")


def stored_study(name):
    """Return an exported study as Optuna's own, which its plots and importances take."""
    distributions = STUDIES[name].space.distributions
    study = optuna.create_study(direction="maximize")
    trials = stored_trials(name)
    for row in trials[trials["state"] == "complete"].to_dict("records"):
        parameters = {parameter: row[parameter] for parameter in distributions}
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=distributions, value=row["value"]))
    return study


def _parse(distribution, text):
    if isinstance(distribution, CategoricalDistribution):
        return next(choice for choice in distribution.choices if str(choice) == text)
    return int(text) if isinstance(distribution, IntDistribution) else float(text)


def _best_of(name, n_seeds):
    """Declare a study of another study's three best points with new seeds: what was best of many was lucky, too."""
    experiment = STUDIES[name]
    space = {"rank": CategoricalDistribution((1, 2, 3)), "seed": CategoricalDistribution(tuple(range(1, n_seeds + 1)))}
    return experiment._replace(
        space=Space(space, n_trials=3 * n_seeds, sampler="grid"),
        changes=lambda parameters: experiment.changes(_ranked(name, parameters["rank"])) | {"seed": parameters["seed"]},
    )


def _ranked(name, rank):
    """Return the parameters of the point that came out so far from the top, counted from 1."""
    return distinct_points(name).iloc[rank - 1][[*STUDIES[name].space.distributions]].to_dict()


STUDIES["mlp_best"] = _best_of("mlp", n_seeds=5)
STUDIES["cnn_best"] = _best_of("cnn", n_seeds=3)
