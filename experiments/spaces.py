"""The declared studies: what each searches, what it trains, and on how many images; and their stored results."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner

import cnn
from data_preparation import N_OFFICIAL_TRAIN, load_splits
from experiments import RESULTS, cnn_finals, cnn_steps, mlp_steps, steps
from experiments.stored import read_rows
from experiments.study import Space
from mlp import MLPHyperparameters
from model_utils.cnn_backbone import BackboneHyperparameters, CNNHyperparameters
from model_utils.tables import markdown_table, mean_and_std


class Experiment(NamedTuple):
    """A declared study.

    Attributes
    ----------
    space : Space
    base : MLPHyperparameters or BackboneHyperparameters
        What all trials have in common; its class decides what is trained.
    changes : function
        Maps a trial's parameters to a dict of what differs from `base`.
    train_size : int
        Number of training images.
    finish : function
        Called with (model, hyperparameters, history, splits) after each training; returns what to store, a dict.
    head : function
        Maps a trial's parameters to the hyperparameters of the MLP behind a backbone trained end to end.
    """

    space: Space
    base: MLPHyperparameters | BackboneHyperparameters
    changes: Callable
    train_size: int
    finish: Callable = lambda model, hyperparameters, history, splits: {}
    head: Callable = lambda parameters: cnn.CLASSIFIER

    def load_splits(self):
        """Load the images: 12,000 for validation, or as many of the 60,000 as training leaves."""
        return load_splits(self.train_size, min(12_000, N_OFFICIAL_TRAIN - self.train_size))


# A usual learning rate for each optimizer. The search varies a factor that multiplies it, because one range of rates
# for all would suit some optimizers and rule out the others.
USUAL_RATE = {"momentum": 0.05, "nesterov": 0.05, "rmsprop": 0.001, "adam": 0.001, "adamw": 0.001}


def _mlp_changes(parameters):
    """Return a trial's changes: hidden layers of one width, a multiple of the usual rate, and the rest as it is."""
    parameters = dict(parameters)
    return {
        "hidden_sizes": (parameters.pop("width"),) * parameters.pop("layers"),
        "learning_rate": USUAL_RATE[parameters["optimizer"]] * parameters.pop("rate_factor"),
        **parameters,
    }


STUDIES = {
    step.study: Experiment(step.space, step.base, step.changes, 48_000)
    for step in (*mlp_steps.STEPS, *cnn_steps.STEPS, *cnn_steps.ASIDE)
}
STUDIES["mlp_longer"] = STUDIES["mlp_longer"]._replace(finish=mlp_steps.finish_longer)

STUDIES |= {
    "mlp_search": Experiment(
        Space(
            {
                "layers": IntDistribution(1, 4),
                "width": CategoricalDistribution((128, 256, 512)),
                "activation": CategoricalDistribution(("relu", "leaky_relu", "elu", "sigmoid", "tanh")),
                "init": CategoricalDistribution(("random", "Xavier", "He")),
                "dropout": FloatDistribution(0.0, 0.5, step=0.1),
                "batch_norm": CategoricalDistribution((False, True)),
                "weight_decay": FloatDistribution(1e-5, 0.1, log=True),
                "label_smoothing": FloatDistribution(0.0, 0.2, step=0.1),
                "objective": CategoricalDistribution(("cross_entropy", "mean_squared_error")),
                "optimizer": CategoricalDistribution(tuple(USUAL_RATE)),
                "schedule": CategoricalDistribution(("constant", "step", "inverse_time", "cosine")),
                "batch_size": CategoricalDistribution((64, 128, 256, 512)),
                "rate_factor": FloatDistribution(0.1, 10, log=True),
                "flip": CategoricalDistribution((False, True)),
                "shift": IntDistribution(0, 2),
            },
            n_trials=60,
            # The random trials are spread over the whole space and all run to the end, so that importances mean
            # something; the sampler that learns from them, and the pruner, start afterwards.
            n_random=40,
            pruner=MedianPruner(n_startup_trials=40, n_warmup_steps=5),
        ),
        MLPHyperparameters(epochs=20),
        _mlp_changes,
        train_size=48_000,
    ),
}


def stored_trials(name):
    """Read the trials of an exported study as a DataFrame, one row for each."""
    space = STUDIES[name].space.distributions
    return read_rows(
        RESULTS / f"study_{name}.csv", converters={parameter: partial(_parse, d) for parameter, d in space.items()}
    )


def distinct_points(name):
    """Return the complete trials of an exported study, best first, each point once."""
    trials = stored_trials(name)
    points = trials[trials["state"] == "complete"].drop_duplicates([*STUDIES[name].space.distributions])
    return points.sort_values("value", ascending=False, kind="stable")


def values_by(trials, parameter):
    """Return the values of complete trials, one list for each value of a parameter."""
    complete = trials[trials["state"] == "complete"]
    return complete.groupby(parameter)["value"].apply(list)


def importances(name):
    """Return the share of the accuracy's variance that each hyperparameter explains among a search's random trials.

    By functional analysis of variance, F. Hutter et al., "An efficient approach for assessing hyperparameter
    importance", 2014. The trials that a sampler chose are left out: they crowd where accuracy is high.

    Returns
    -------
    dict of str to float
        The largest first.
    """
    distributions = STUDIES[name].space.distributions
    study = optuna.create_study(direction="maximize")
    trials = stored_trials(name)
    for row in trials[(trials["state"] == "complete") & (trials["sampled"] == "random")].to_dict("records"):
        parameters = {parameter: row[parameter] for parameter in distributions}
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=distributions, value=row["value"]))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def search_table(name, n=5):
    """Return a Markdown table of the best points of a search, one column for each."""
    points = distinct_points(name).head(n)
    lines = [[parameter, *map(_short, points[parameter])] for parameter in STUDIES[name].space.distributions]
    lines.append(["validation accuracy", *(f"{value:.4f}" for value in points["value"])])
    return markdown_table(["", *map(str, range(1, len(points) + 1))], lines)


def sampled_text(name):
    """Return sentences on how often the points that a search's sampler chose agree with the decisions of the steps."""
    trials = stored_trials(name)
    chosen = trials[(trials["state"] == "complete") & (trials["sampled"] != "random")]
    decided = {
        "shifted images": chosen["shift"] > 0,
        "the cosine schedule": chosen["schedule"] == mlp_steps.RECIPE.schedule,
        "label smoothing": chosen["label_smoothing"] > 0,
        "cross-entropy": chosen["objective"] == mlp_steps.RECIPE.objective,
        "Adam or AdamW": chosen["optimizer"].isin(["adam", "adamw"]),
        "batch normalisation": chosen["batch_norm"],
    }
    counts = ", ".join(f"{what} {has.sum()}" for what, has in decided.items())
    return (
        f"Of the {len(chosen)} points that TPE chose, this many agree with each decision of the steps: {counts}. A "
        "search says little about values that it rarely tries."
    )


def _short(value):
    """Return a float as text of three significant digits, anything else unchanged."""
    return f"{value:.3g}" if isinstance(value, float) else value


def repeated_table(name):
    """Return a Markdown table of a search's best points, repeated over several seeds."""
    rows = [
        (rank, mean_and_std(values), len(values)) for rank, values in values_by(stored_trials(name), "rank").items()
    ]
    return markdown_table(["rank in the search", "best validation accuracy", "n"], rows)


def _parse(distribution, text):
    if isinstance(distribution, CategoricalDistribution):
        return next(choice for choice in distribution.choices if str(choice) == text)
    return int(text) if isinstance(distribution, IntDistribution) else float(text)


def _grid(**choices):
    """Declare a space of all combinations of some choices."""
    distributions = {name: CategoricalDistribution(tuple(values)) for name, values in choices.items()}
    return Space(distributions, n_trials=math.prod(map(len, choices.values())), sampler="grid")


def _best_of(name, base):
    """Declare a study of another study's three best points with new seeds, because the best of many was also lucky."""
    experiment = STUDIES[name]
    space = {"rank": CategoricalDistribution((1, 2, 3)), "seed": CategoricalDistribution((1, 2, 3))}
    return experiment._replace(
        space=Space(space, n_trials=9, sampler="grid"),
        base=base,
        changes=lambda parameters: experiment.changes(_ranked(name, parameters["rank"])) | {"seed": parameters["seed"]},
    )


def _ranked(name, rank):
    """Return the parameters of the point at this rank, counted from 1."""
    return distinct_points(name).iloc[rank - 1][[*STUDIES[name].space.distributions]].to_dict()


# With as many epochs as the step that they are compared with.
STUDIES["mlp_best"] = _best_of(
    "mlp_search", replace(STUDIES["mlp_search"].base, epochs=mlp_steps.REGULARISATION.base.epochs)
)
STUDIES["mlp_final"] = Experiment(
    _grid(model=mlp_steps.COMPARED, seed=steps.SEEDS),
    MLPHyperparameters(),
    lambda parameters: mlp_steps.COMPARED[parameters["model"]].changed() | {"seed": parameters["seed"]},
    steps.FINAL_TRAIN_SIZE,
    finish=mlp_steps.finish_final,
)
STUDIES["cnn_training"] = Experiment(
    _grid(setting=cnn_steps.TRAININGS, seed=steps.SEEDS),
    cnn_steps.TRAINING_BASE,
    lambda parameters: cnn_steps.TRAININGS[parameters["setting"]] | {"seed": parameters["seed"]},
    train_size=48_000,
    head=lambda parameters: cnn_steps.HEADS.get(parameters["setting"], cnn.CLASSIFIER),
    finish=cnn_steps.finish_training,
)
STUDIES["cnn_final"] = Experiment(
    _grid(model=cnn_finals.COMPARED, seed=steps.SEEDS),
    CNNHyperparameters(),
    lambda parameters: cnn_finals.COMPARED[parameters["model"]].changed() | {"seed": parameters["seed"]},
    steps.FINAL_TRAIN_SIZE,
    finish=cnn_finals.finish_final,
)
