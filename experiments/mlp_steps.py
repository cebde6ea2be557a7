"""The steps of question 2f: choose an MLP, one decision at a time; and the final models."""

import itertools
import math
import statistics
from dataclasses import replace

import mlp
from experiments import MODELS, RESULTS, steps
from experiments.steps import Step
from experiments.stored import read_rows
from mlp import MLPHyperparameters
from model_utils.layers import ACTIVATIONS, INITS
from model_utils.tables import markdown_table

# In order. Each step builds on the decisions before it; only the step on initial weights uses a deeper network.

START = MLPHyperparameters(hidden_sizes=(128,), schedule="cosine", batch_size=128, epochs=20)
OPTIMIZER = Step(
    "mlp_optimizer",
    "optimizer",
    START,
    {name: {"optimizer": name} for name in ("sgd", "momentum", "nesterov", "rmsprop", "adam")},
    decided="adam",
    reason="which is as good as the best; RMSprop is simpler, but a later step uses AdamW, a variant of Adam",
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
    "mlp_schedule",
    "learning-rate schedule",
    WITH_ADAM,
    {name: {"schedule": name} for name in ("constant", "inverse_time", "step", "cosine")},
    decided="cosine",
    rates=dict.fromkeys(("constant", "inverse_time", "step", "cosine"), (0.0003, 0.001, 0.003, 0.01)),
)

BATCH_SIZE = Step(
    "mlp_batch_size",
    "batch size",
    WITH_ADAM,
    {str(size): {"batch_size": size} for size in (32, 64, 128, 256, 512)},
    decided="128",
    reason="which needs a quarter of the updates of 32",
    rates={  # around a rate that grows with the square root of the batch size
        "32": (0.00075, 0.0015, 0.003),
        "64": (0.001, 0.002, 0.004),
        "128": (0.0015, 0.003, 0.006, 0.012),
        "256": (0.002, 0.004, 0.008, 0.016),
        "512": (0.003, 0.006, 0.012),
    },
)

ACTIVATION = Step(
    "mlp_activation",
    "activation",
    WITH_ADAM,
    {name: {"activation": name} for name in ACTIVATIONS},
    decided="relu",
    reason="the simplest of those that do equally well",
    rates=dict.fromkeys(ACTIVATIONS, (0.001, 0.003, 0.01, 0.03)),
)

INIT = Step(
    "mlp_init",
    "initial weights and batch norm",
    replace(WITH_ADAM, hidden_sizes=(64,) * 6),
    {name: {"init": name} for name in INITS}
    | {f"{name}, batch norm": {"init": name, "batch_norm": True} for name in INITS},
    decided="He, batch norm",
    reason="which is as good as the best, and He weights are the usual choice for ReLU",
    rates=dict.fromkeys(INITS, (0.0003, 0.001, 0.003, 0.01))
    | dict.fromkeys((f"{name}, batch norm" for name in INITS), (0.001, 0.003, 0.01, 0.03, 0.1)),
)

DEEP = (512, 256, 128, 64, 32, 16)
SIZES = ((), (128,), (512,), (512, 256), (512, 512), (512, 512, 512), DEEP)
WITHOUT_NORM = "512-256, no batch norm"
SIZE = Step(
    "mlp_size",
    "number and width of the layers",
    replace(WITH_ADAM, batch_norm=True),
    {"-".join(map(str, sizes)) or "none": {"hidden_sizes": sizes} for sizes in SIZES}
    | {WITHOUT_NORM: {"hidden_sizes": (512, 256), "batch_norm": False}},
    decided="512-256",
    reason="which has little more than half the parameters of 512-512-512",
    rates=dict.fromkeys(("-".join(map(str, sizes)) or "none" for sizes in SIZES), (0.001, 0.003, 0.01))
    | dict.fromkeys(("512-256", "512-512", WITHOUT_NORM), (0.0003, 0.001, 0.003, 0.01))
    | dict.fromkeys(("128", "512", "512-256-128-64-32-16"), (0.001, 0.003, 0.01, 0.03)),
)

WITH_SIZE = replace(WITH_ADAM, batch_norm=True, hidden_sizes=(512, 256))
OBJECTIVE = Step(
    "mlp_objective",
    "objective function",
    WITH_SIZE,
    {
        "cross-entropy": {},
        "cross-entropy, label smoothing 0.1": {"label_smoothing": 0.1},
        "squared error": {"objective": "mean_squared_error"},
    },
    decided="cross-entropy, label smoothing 0.1",
    rates=dict.fromkeys(("cross-entropy", "cross-entropy, label smoothing 0.1"), (0.0003, 0.001, 0.003, 0.01))
    | {"squared error": (0.0003, 0.001, 0.003, 0.01, 0.03)},
)

# From here on, runs have 40 epochs or more, in case regularisation pays off only late.
LONGER = replace(WITH_SIZE, label_smoothing=0.1, optimizer="adamw", epochs=40)
REGULARISATION = Step(
    "mlp_regularisation",
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
    decided="shift 1",
)
# Over 150 epochs, and from the views that a model may predict from; see `finish_longer`.
REGULARISED = REGULARISATION.choices["flip, shift 1, weight decay 0.1"]
REGULARISATION_LONGER = Step(
    "mlp_longer",
    "regularisation and depth, for longer",
    replace(LONGER, epochs=150),
    {
        "shift 1": {"shift": 1},
        "shift 1, dropout 0.1": {"shift": 1, "dropout": 0.1},
        "flip, shift 1": {"flip": True, "shift": 1},
        "flip, shift 1, weight decay 0.1": REGULARISED,
        "flip, shift 1, weight decay 0.1, dropout 0.1": REGULARISED | {"dropout": 0.1},
        "flip, shift 1, weight decay 0.1, six layers": REGULARISED | {"hidden_sizes": DEEP},
    },
    decided="shift 1",
)

# All decisions so far. Five views suit a network that was trained on shifted images.
RECIPE = replace(REGULARISATION_LONGER.base, shift=1, n_views=5)

# Does a larger network pay off? Batches of 256 halve its number of updates, so its learning rate is tried again. It can
# memorise more, so this step regularises it more.
WITH_LARGE = replace(RECIPE, hidden_sizes=(1024, 1024, 1024), batch_size=256)
LARGE_RATE = Step(
    "mlp_large_rate",
    "learning rate, with flip and weight decay 0.1",
    replace(WITH_LARGE, **REGULARISED, n_views=10, epochs=40),
    {str(rate): {"learning_rate": rate} for rate in (0.001, 0.002, 0.004)},
    decided="0.002",
    reason="which is as good as the best; the longer runs had already used it when this step was run",
    seeds=steps.SEEDS[:2],
)

# Does it need more regularisation than 512-256? Two seeds, because a run takes 45 to 60 minutes on one core.
LARGE = Step(
    "mlp_large",
    "regularisation, again",
    replace(WITH_LARGE, learning_rate=0.002, epochs=200),
    {
        "shift 1": {},
        "shift 1, dropout 0.1": {"dropout": 0.1},
        "flip, shift 1, weight decay 0.1": REGULARISED | {"n_views": 10},
        "flip, shift 1, weight decay 0.1, dropout 0.1": REGULARISED | {"n_views": 10, "dropout": 0.1},
    },
    decided="shift 1, dropout 0.1",
    reason="although *shift 1* is simpler; see below",
    seeds=steps.SEEDS[:2],
)

STEPS = (
    OPTIMIZER,
    SCHEDULE,
    BATCH_SIZE,
    ACTIVATION,
    INIT,
    SIZE,
    OBJECTIVE,
    REGULARISATION,
    REGULARISATION_LONGER,
    LARGE_RATE,
    LARGE,
)

FINALS = {
    "784-128-10": replace(RECIPE, hidden_sizes=(128,), epochs=170),
    "deep": replace(RECIPE, hidden_sizes=DEEP, epochs=28),
    "512-256": RECIPE,
    "1024-1024-1024": replace(LARGE.base, **LARGE.choices[LARGE.decided]),
}
# Its step compared accuracies from one view, but a network trained on mirrored images has ten views instead of five.
MIRRORED = "1024-1024-1024, flip, weight decay 0.1"
COMPARED = FINALS | {MIRRORED: replace(LARGE.base, **LARGE.choices["flip, shift 1, weight decay 0.1, dropout 0.1"])}


def finish_longer(model, hyperparameters, history, splits):
    """Return the validation accuracy from all views that resemble the training images."""
    return {"views": mlp.evaluate(model, splits.validation, n_views=10 if hyperparameters.flip else 5)["accuracy"]}


def finish_final(model, hyperparameters, history, splits):
    """Measure a model of `COMPARED` on the test images, once; save it if it is final; return its accuracies.

    Of a final model, the run with the first seed is saved.
    """
    h = hyperparameters
    metrics = mlp.measure_mlp(model, splits, h)
    if h in FINALS.values():
        mlp.save(MODELS / "mlp" / h.name, model, h, history, steps.split_of(splits), metrics)
    return {part: measured["accuracy"] for part, measured in metrics.items()}


def worst_rate_costs():
    """Return what every optimizer loses at least at its worst learning rate, rounded down to 0.001."""
    lost = min(max(of_rates.values()) - min(of_rates.values()) for of_rates in _means(OPTIMIZER).values())
    return math.floor(lost * 1000) / 1000


def rates_table():
    """Return a Markdown table of the mean accuracy of each optimizer at each learning rate."""
    rows = (
        (name, *(f"{mean:.4f} at {rate:g}" for rate, mean in sorted(of_rates.items())))
        for name, of_rates in _means(OPTIMIZER).items()
    )
    return markdown_table(["optimizer", "lowest rate", "second", "third", "highest rate"], rows)


def worst_rates():
    """Return a sentence on which optimizers are worst at the lowest learning rate tried, and which at the highest."""
    worst = {name: min(of_rates, key=of_rates.get) for name, of_rates in _means(OPTIMIZER).items()}
    lowest, highest = (
        ", ".join(name for name, rate in worst.items() if rate == extreme(OPTIMIZER.rates[name]))
        for extreme in (min, max)
    )
    return (
        f"The lowest rate tried is the worst for {lowest}: so few epochs are not enough for such small steps. The "
        f"highest is the worst for {highest}: such large steps overshoot."
    )


def optimizer_rates():
    """Return sentences on the best learning rate of each optimizer, and on what another rate or optimizer costs."""
    highest = [max(of_rates.values()) for of_rates in _means(OPTIMIZER).values()]
    grouped = itertools.groupby(OPTIMIZER.best_rates().items(), key=lambda item: item[1])
    best_rates = ", ".join(f"{rate:g} for {' and '.join(name for name, _ in group)}" for rate, group in grouped)
    return (
        f"The best rates are {best_rates}. At these rates, the optimizers differ by no more than "
        f"{max(highest) - min(highest):.4f}. At its worst rate, each is at least "
        f"{worst_rate_costs():.3f} below its best."
    )


def sigmoid_gaps():
    """Return a sentence on how far sigmoid is from ReLU at each learning rate."""
    means = _means(ACTIVATION)
    gaps = ", ".join(f"{means['sigmoid'][rate] - mean:+.4f} at {rate:g}" for rate, mean in means["relu"].items())
    at_best = max(means["sigmoid"].values()) - max(means["relu"].values())
    return f"Accuracy of sigmoid minus that of ReLU, by learning rate: {gaps}; each at its best rate: {at_best:+.4f}."


def layer_gains():
    """Return a sentence on what a wider first layer and two more layers gain."""
    means = {choice: statistics.mean(runs) for choice, runs in SIZE.accuracies().items()}
    return (
        f"Widening that layer from 128 to 512 units gains {means['512'] - means['128']:.4f}; another two layers of 512 "
        f"units gain {means['512-512-512'] - means['512']:.4f}."
    )


def depth():
    """Return a sentence that compares six layers with two, both regularised, at length."""
    runs = REGULARISATION_LONGER.runs()
    of_two, of_six = (runs[f"flip, shift 1, weight decay 0.1{suffix}"] for suffix in ("", ", six layers"))
    gain, error = steps.gain(*([run["value"] for run in runs] for runs in (of_two, of_six)))
    learned = [f"{statistics.mean(run['train_accuracy'] for run in runs):.4f}" for runs in (of_two, of_six)]
    return (
        f"Regularised and trained for {REGULARISATION_LONGER.base.epochs} epochs, six narrowing layers are "
        f"{abs(gain):.4f} {'more' if gain > 0 else 'less'} accurate than two (standard error {error:.4f}) and "
        f"reach a training accuracy of {' instead of '.join(reversed(learned))}"
    )


def _means(step):
    """Return the mean accuracies of a step, for each choice and each learning rate."""
    return {
        choice: {rate: statistics.mean(accuracies) for rate, accuracies in rates.items()}
        for choice, rates in step.by_rate().items()
    }


def large_gains():
    """Return what dropout adds to 1024-1024-1024, and what mirroring and weight decay add.

    Each is the mean of two gains, with and without the other, as in a factorial design.

    Returns
    -------
    list of (float, float)
        The gain, and its standard error.
    """
    plain, dropout, mirrored, both = LARGE.accuracies().values()
    gains = []
    for compared in (((plain, dropout), (mirrored, both)), ((plain, mirrored), (dropout, both))):
        (one, error), (other, other_error) = (steps.gain(before, after) for before, after in compared)
        gains.append(((one + other) / 2, math.hypot(error, other_error) / 2))
    return gains


def largest_leads():
    """Return the lead of 1024-1024-1024 over 512-256 in long runs, for each regularisation of both, and its mean.

    Returns
    -------
    dict of str to (float, float)
        The lead and its standard error; see `steps.gain`.
    """
    two_layers, largest = REGULARISATION_LONGER.accuracies(), LARGE.accuracies()
    leads = {choice: steps.gain(two_layers[choice], largest[choice]) for choice in LARGE.choices}
    gains, errors = zip(*leads.values(), strict=True)
    return leads | {"mean of all four": (statistics.mean(gains), math.hypot(*errors) / len(errors))}


def main_gains():
    """Return what the decisions add to the mean validation accuracy, each with its standard error; see `steps.gain`."""
    schedule, init, size, objective, regularisation, longer = (
        step.accuracies() for step in (SCHEDULE, INIT, SIZE, OBJECTIVE, REGULARISATION, REGULARISATION_LONGER)
    )
    compared = {
        "the cosine schedule instead of a constant rate": (schedule["constant"], schedule["cosine"]),
        "one hidden layer of 128 units instead of none": (size["none"], size["128"]),
        "512-256 instead of 128": (size["128"], size["512-256"]),
        "batch normalisation in six layers with He weights": (init["He"], init["He, batch norm"]),
        "label smoothing": (objective["cross-entropy"], objective[OBJECTIVE.decided]),
        f"shifts of one pixel, over {REGULARISATION.base.epochs} epochs": (
            regularisation["none"],
            regularisation["shift 1"],
        ),
        f"{REGULARISATION_LONGER.base.epochs} epochs instead of {REGULARISATION.base.epochs}, with shifts": (
            regularisation["shift 1"],
            longer["shift 1"],
        ),
    }
    return {what: steps.gain(*runs) for what, runs in compared.items()}


def largest_small_effect():
    """Return the largest gap between the best and the worst choice of an optimizer, a batch size or an activation."""
    means = (list(map(statistics.mean, step.accuracies().values())) for step in (OPTIMIZER, BATCH_SIZE, ACTIVATION))
    return max(max(values) - min(values) for values in means)


def final_gain(part, before, after):
    """Return what a model of `COMPARED` gains on another in mean accuracy on one part of the data; see `steps.gain`."""
    rows = read_rows(RESULTS / "study_mlp_final.csv")
    return steps.gain(*(rows[rows["model"] == label][part] for label in (before, after)))


def final_accuracies():
    """Return the test accuracy of each final model over the seeds, as text."""
    return steps.final_accuracies("mlp_final", FINALS)
