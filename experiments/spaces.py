"""The declared studies: what each searches, what it trains, and on how many images. `experiments.py` runs them."""

from collections.abc import Callable
from typing import NamedTuple

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner

import cnn
import mlp
from model_utils.results import RESULTS
from model_utils.study import Space
from model_utils.tables import read_csv


class Experiment(NamedTuple):
    """A declared study.

    Attributes
    ----------
    space : Space
    base : mlp.Hyperparameters or cnn.Hyperparameters
        What all trials have in common; its kind decides what is trained.
    changes : function
        From a trial's parameters to what differs from `base`, a dict.
    train_size : int
        Training images.
    """

    space: Space
    base: mlp.Hyperparameters | cnn.Hyperparameters
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
        mlp.Hyperparameters(epochs=8),
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
        cnn.Hyperparameters(n_features=128),
        _cnn_changes,
        train_size=8_000,
    ),
}


# What the search is held against: as many points of the same space, drawn at random, each to its end.
STUDIES["mlp_random"] = STUDIES["mlp"]._replace(space=Space(MLP_SPACE, n_trials=100, sampler="random"))

# The best combination of mlp_implementation.ipynb, for fewer epochs, and what is changed in it, one thing at a time.
ABLATION_BASE = mlp.Hyperparameters(
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
    "as it is": {},
    "layers: 1": {"hidden_sizes": (512,)},
    "layers: 3": {"hidden_sizes": (512, 256, 128)},
    "layers: 5": {"hidden_sizes": (512, 256, 128, 64, 32)},
    "width: 128-64": {"hidden_sizes": (128, 64)},
    "width: 256-128": {"hidden_sizes": (256, 128)},
    "width: 1024-512": {"hidden_sizes": (1024, 512)},
    "activation: leaky_relu": {"activation": "leaky_relu"},
    "activation: elu": {"activation": "elu"},
    "activation: sigmoid": {"activation": "sigmoid"},
    "activation: tanh": {"activation": "tanh"},
    "init: random": {"init": "random"},
    "init: Xavier": {"init": "Xavier"},
    "dropout: 0": {"dropout": 0.0},
    "dropout: 0.1": {"dropout": 0.1},
    "dropout: 0.4": {"dropout": 0.4},
    "batch norm: none": {"batch_norm": False},
    "batch norm: none, rate 0.001": {"batch_norm": False, "learning_rate": 0.001},
    "weight decay: 0": {"weight_decay": 0.0},
    "weight decay: 0.2": {"weight_decay": 0.2},
    "label smoothing: 0": {"label_smoothing": 0.0},
    "label smoothing: 0.2": {"label_smoothing": 0.2},
    "objective: mean squared error": {"objective": "mean_squared_error"},
    "optimizer: sgd, rate 0.5": {"optimizer": "sgd", "learning_rate": 0.5, "weight_decay": 5e-4},
    "optimizer: momentum, rate 0.1": {"optimizer": "momentum", "learning_rate": 0.1, "weight_decay": 5e-4},
    "optimizer: nesterov, rate 0.1": {"optimizer": "nesterov", "learning_rate": 0.1, "weight_decay": 5e-4},
    "optimizer: rmsprop, rate 0.002": {"optimizer": "rmsprop", "learning_rate": 0.002, "weight_decay": 5e-4},
    "optimizer: adam, rate 0.004": {"optimizer": "adam", "weight_decay": 5e-4},
    "schedule: constant": {"schedule": "constant"},
    "schedule: step": {"schedule": "step"},
    "schedule: inverse_time": {"schedule": "inverse_time"},
    "batch size: 64": {"batch_size": 64},
    "batch size: 1024": {"batch_size": 1024},
    "learning rate: 0.001": {"learning_rate": 0.001},
    "learning rate: 0.016": {"learning_rate": 0.016},
    "augmentation: none": {"flip": False},
    "augmentation: mirrored and moved": {"shift": 1},
}
STUDIES["mlp_ablations"] = Experiment(
    Space(
        {"setting": CategoricalDistribution(tuple(ABLATIONS)), "seed": CategoricalDistribution((0, 1))},
        n_trials=2 * len(ABLATIONS),
        sampler="grid",
    ),
    ABLATION_BASE,
    lambda parameters: ABLATIONS[parameters["setting"]] | {"seed": parameters["seed"]},
    train_size=24_000,
)


def stored_trials(name):
    """Read the trials of an exported study; parameters stay text."""
    return read_csv(RESULTS / f"study_{name}.csv", (*STUDIES[name].space.distributions, "state", "reason"))


def distinct_points(name):
    """Return the complete trials of an exported study, best first; a point that was tried again came out the same."""
    complete = [row for row in stored_trials(name) if row["state"] == "complete"]
    points = {tuple(row[parameter] for parameter in STUDIES[name].space.distributions): row for row in complete}
    return sorted(points.values(), key=lambda row: -row["value"])


def ranked(name, rank):
    """Return the parameters of the point that came out so far from the top of an exported study, counted from 1."""
    row = distinct_points(name)[rank - 1]
    return {p: parse(row[p], distribution) for p, distribution in STUDIES[name].space.distributions.items()}


def parse(text, distribution):
    """Read a parameter as an exported study has it."""
    if isinstance(distribution, CategoricalDistribution):
        return next(choice for choice in distribution.choices if str(choice) == text)
    return int(text) if isinstance(distribution, IntDistribution) else float(text)


def _best_of(name, n_seeds):
    """Declare a study of another study's three best points with new seeds: what was best of many was lucky, too."""
    experiment = STUDIES[name]
    space = {"rank": CategoricalDistribution((1, 2, 3)), "seed": CategoricalDistribution(tuple(range(1, n_seeds + 1)))}
    return experiment._replace(
        space=Space(space, n_trials=3 * n_seeds, sampler="grid"),
        changes=lambda parameters: experiment.changes(ranked(name, parameters["rank"])) | {"seed": parameters["seed"]},
    )


STUDIES["mlp_best"] = _best_of("mlp", n_seeds=5)
STUDIES["cnn_best"] = _best_of("cnn", n_seeds=3)
