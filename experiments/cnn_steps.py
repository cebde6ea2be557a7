"""The steps of question 3: choose a CNN and how to train it, one decision at a time; and the final pairs."""

import itertools
import math
from dataclasses import fields, replace

import numpy as np
import torch

import cnn
import mlp
from experiments import RESULTS, mlp_steps, steps
from experiments.steps import Step
from experiments.stored import read_rows
from model_utils.backbones.lenet import LeNetHyperparameters
from model_utils.cnn_backbone import CNNHyperparameters
from model_utils.layers import INITS
from model_utils.mlp_head import MLPHead
from model_utils.pair import extract_features, standardized_features
from model_utils.tables import markdown_table, mean_and_std
from model_utils.training import best_epoch

# Question 3b compares the size of the kernels, how their number changes from layer to layer (the plan), and the size of
# the maps. Each network is as wide as the multiply-adds of 16-32-64-128-256 allow, so the comparison shows where
# multiply-adds are best spent.

KERNELS = {"3 x 3": (3,) * 5, "5 x 5": (5,) * 5, "5 x 5, then 3 x 3": (5, 5, 3, 3, 3)}
POOLINGS = {  # the maps have a height and width of 14, 7, 4, 2, 1 or of 14, 14, 7, 7, 4
    "small maps": {"pool_sizes": (2, 2, 2, 2, 2), "pool_strides": (2, 2, 2, 2, 2)},
    "medium maps": {"pool_sizes": (2, 3, 2, 3, 2), "pool_strides": (2, 1, 2, 1, 2)},
}
CHANNELS = {
    "equal numbers": {
        "small maps": {"3 x 3": (41,) * 5, "5 x 5": (24,) * 5, "5 x 5, then 3 x 3": (26,) * 5},
        "medium maps": {"3 x 3": (30,) * 5, "5 x 5": (18,) * 5, "5 x 5, then 3 x 3": (22,) * 5},
    },
    "doubled numbers": {
        "small maps": {
            "3 x 3": (16, 32, 64, 128, 256),
            "5 x 5": (10, 19, 38, 76, 152),
            "5 x 5, then 3 x 3": (13, 27, 54, 108, 216),
        },
        "medium maps": {
            "3 x 3": (6, 13, 26, 52, 106),
            "5 x 5": (4, 8, 16, 32, 64),
            "5 x 5, then 3 x 3": (6, 12, 25, 51, 102),
        },
    },
    "halved numbers": {
        "small maps": {
            "3 x 3": (64, 32, 16, 8, 4),
            "5 x 5": (37, 18, 9, 5, 2),
            "5 x 5, then 3 x 3": (37, 19, 10, 5, 3),
        },
        "medium maps": {
            "3 x 3": (59, 29, 15, 8, 4),
            "5 x 5": (34, 17, 9, 4, 2),
            "5 x 5, then 3 x 3": (36, 18, 9, 5, 3),
        },
    },
}


def architecture(plan, pooling, kernels):
    """Return the name of a combination of the choices above."""
    return f"{plan}, {pooling}, {kernels}"


def architecture_grids():
    """Return the networks of question 3b: their mean validation accuracies, and their numbers of kernels as text.

    Returns
    -------
    accuracies, channels : ndarray, shape (poolings, plans, kernels)
    """
    runs = ARCHITECTURE.accuracies()
    accuracies = [
        [[np.mean(runs[architecture(plan, pooling, k)]) for k in KERNELS] for plan in CHANNELS] for pooling in POOLINGS
    ]
    channels = [
        [["-".join(map(str, CHANNELS[plan][pooling][k])) for k in KERNELS] for plan in CHANNELS] for pooling in POOLINGS
    ]
    return np.array(accuracies), np.array(channels)


def smaller_kernels():
    """Return sentences on how often 3 x 3 kernels are better than larger ones."""
    grids, _ = architecture_grids()
    accuracies = ARCHITECTURE.accuracies()
    first, *larger = KERNELS
    pairs = [
        [accuracies[architecture(plan, pooling, size)] for size in (first, kernels)]
        for plan, pooling, kernels in itertools.product(CHANNELS, POOLINGS, larger)
    ]
    n_clear = sum(np.mean(one) - np.mean(other) > 2 * steps.standard_error(one, other) for one, other in pairs)
    return (
        f"{first} kernels have the highest mean in {np.count_nonzero(grids.argmax(axis=2) == 0)} of the "
        f"{grids[..., 0].size} rows of the two panels. In {n_clear} of the {len(pairs)} comparisons with larger "
        f"kernels, the lead of {first} kernels exceeds two standard errors."
    )


# No augmentation yet: a later step measures what it gains.
FIRST = CNNHyperparameters(init="He", dropout=0.0, flip=False, shift=0, epochs=6)
# Question 3a. With batch normalisation, the order of a layer's parts can matter. With the initial weights that question
# 3c settles on.
ORDER = Step(
    "cnn_order",
    "order of pooling and ReLU",
    replace(FIRST, init="random"),
    {"pooling, batch norm, ReLU": {}, "batch norm, ReLU, pooling": {"pool_first": False}},
    decided="pooling, batch norm, ReLU",
    reason="which needs less computation",
)
ARCHITECTURE = Step(
    "cnn_architecture",
    "size and number of kernels, size of the maps",
    FIRST,
    {
        architecture(plan, pooling, kernels): {"channels": channels, "kernel_sizes": KERNELS[kernels]}
        | POOLINGS[pooling]
        for plan, by_pooling in CHANNELS.items()
        for pooling, by_kernels in by_pooling.items()
        for kernels, channels in by_kernels.items()
    },
)
QUESTION_3A = architecture("doubled numbers", "small maps", "3 x 3")  # 16-32-64-128-256
# Six epochs favour networks that learn fast, so the first four and the last two of that ranking train for longer.
RANKING = Step(
    "cnn_ranking",
    "the best and the worst networks, He weights, for longer",
    replace(FIRST, epochs=24),
    {
        name: ARCHITECTURE.choices[name]
        for name in (
            "equal numbers, medium maps, 3 x 3",
            "equal numbers, small maps, 3 x 3",
            "doubled numbers, small maps, 3 x 3",
            "doubled numbers, small maps, 5 x 5, then 3 x 3",
            "halved numbers, small maps, 5 x 5, then 3 x 3",
            "halved numbers, small maps, 5 x 5",
        )
    },
)
# Would other initial weights change the ranking? These are the ones that question 3c settles on.
REPEATED = RANKING._replace(
    study="cnn_ranking_init",
    varied="the best and the worst networks, random weights",
    base=replace(FIRST, init="random"),
)


def describe_ranking():
    """Return a Markdown table of the networks of `RANKING` in three steps, and sentences on each and on the fifth."""
    all_steps = ARCHITECTURE, REPEATED, RANKING
    short, repeated, long = (step.accuracies() for step in all_steps)
    ranked = sorted(long, key=lambda name: -np.mean(long[name]))
    _, second, _, _, fifth, *_ = sorted(short, key=lambda name: -np.mean(short[name]))
    gain, error = steps.gain(short[fifth], short[second])
    left_out = (
        f"The fifth network of the first ranking, {fifth}, was not trained again. It is within two standard errors of "
        f"the best because the runs of the best vary a lot. The second network, {second}, is ahead of it by {gain:.4f} "
        f"(standard error {error:.4f})."
    )
    short = {name: short[name] for name in ranked}
    rows = [(name, *(mean_and_std(accuracies[name]) for accuracies in (short, repeated, long))) for name in ranked]
    header = [f"{step.base.init}, {step.base.epochs} epochs" for step in all_steps]
    table = markdown_table(["network", *header], rows)
    sentences = (
        f"{label}. {steps.compare(accuracies, with_lost=False)}"
        for label, accuracies in zip(header, (short, repeated, long), strict=True)
    )
    return "\n\n".join((table, *sentences, left_out))


# Question 3c.
INIT = Step(
    "cnn_init",
    "initial weights",
    FIRST,
    {init: {"init": init, "batch_norm": False} for init in INITS}
    | {f"{init}, batch norm": {"init": init} for init in INITS},
    rates=dict.fromkeys(INITS, (0.001, 0.002, 0.004, 0.008))
    | dict.fromkeys((f"{init}, batch norm" for init in INITS), (0.005, 0.01, 0.02, 0.04)),
)
# Six epochs favour weights that learn fast, so each trains for longer, at its best rate and end to end.
INIT_LONGER = Step(
    "cnn_init_longer",
    "initial weights of a pair, for longer",
    replace(FIRST, end_to_end=True, flip=True, shift=1, epochs=24),
    {
        "random, rate 0.005": {"init": "random", "learning_rate": 0.005},
        "Xavier, rate 0.02": {"init": "Xavier", "learning_rate": 0.02},
        "He, rate 0.04": {"init": "He", "learning_rate": 0.04},
    },
    decided="random, rate 0.005",
    reason="which is as good, and keeps the learning rate of the other steps",
)

# Question 3d. Ways to train the pair, all with the same number of epochs.
TRAININGS = {
    "linear head": {},
    "end to end": {"end_to_end": True},
    "end to end after a linear head": {"epochs": 8},
    "end to end, one hidden layer": {"end_to_end": True},
    "end to end, MLP rate 0.003": {"end_to_end": True},
    "end to end, MLP rate 0.03": {"end_to_end": True},
    "end to end, 512-256 as in question 2f": {"end_to_end": True},
}
TRAINING_BASE = replace(FIRST, init="random", flip=True, shift=1, epochs=16)
TRAINING_TITLE = (
    f"way to train a pair: 16-32-64-128-256, {TRAINING_BASE.epochs} epochs, n = {len(steps.SEEDS)}, ten views"
)
ONE_HIDDEN_LAYER = replace(cnn.CLASSIFIER, hidden_sizes=(128,))
AS_IN_2F = mlp.ClassifierHyperparameters(
    **{f.name: getattr(mlp_steps.RECIPE, f.name) for f in fields(mlp.ClassifierHyperparameters)}
)
# The MLP behind the features, where it is not `cnn.CLASSIFIER`, whose rate is 0.01.
HEADS = {
    "end to end, one hidden layer": ONE_HIDDEN_LAYER,
    "end to end, MLP rate 0.003": replace(cnn.CLASSIFIER, learning_rate=0.003),
    "end to end, MLP rate 0.03": replace(cnn.CLASSIFIER, learning_rate=0.03),
    "end to end, 512-256 as in question 2f": AS_IN_2F,
}


def finish_training(backbone, hyperparameters, history, splits):
    """Train the classifiers that are still untrained; return all validation accuracies, with ten views."""
    h = hyperparameters
    training, validation = splits[:2]
    if not h.end_to_end and h.epochs < TRAINING_BASE.epochs:  # the second half trains through the MLP
        h = replace(h, end_to_end=True, learning_rate=h.learning_rate / 2)
        mlp_h = cnn.in_step(cnn.CLASSIFIER, h)
        backbone.head = MLPHead(mlp.build(mlp_h, backbone.n_features), mlp_h)
        cnn.train(backbone, training, validation, h)
    if h.end_to_end:
        pair = cnn.pair_of(backbone)
        accuracy = _accuracy(pair.predict_logits(validation.images), validation.labels)
        return {"pair": accuracy, "one_hidden_layer": math.nan, "linear_head": math.nan}
    _, on_features = standardized_features(backbone, splits[:2], progress=False)
    measured = {}
    for name, classifier in {"pair": cnn.CLASSIFIER, "one_hidden_layer": ONE_HIDDEN_LAYER}.items():
        mlp_h = replace(classifier, seed=h.seed)
        mlp_history = mlp.train(mlp.build(mlp_h, backbone.n_features), *on_features, mlp_h)
        measured[name] = best_epoch(mlp_history)["validation_accuracy"]
    with torch.inference_mode():
        by_head = backbone.head(torch.from_numpy(extract_features(backbone, validation.images))).numpy()
    return measured | {"linear_head": _accuracy(by_head, validation.labels)}


def training_accuracies():
    """Read the validation accuracies of the runs, for each way to train a pair, from results/."""
    rows = read_rows(RESULTS / "study_cnn_training.csv")
    runs = {setting: rows[rows["setting"] == setting] for setting in TRAININGS}
    return {
        "linear head alone": list(runs["linear head"]["linear_head"]),
        "linear head, then an MLP with one hidden layer": list(runs["linear head"]["one_hidden_layer"]),
        "linear head, then the MLP on its features": list(runs["linear head"]["pair"]),
        **{way: list(runs[way]["pair"]) for way in TRAININGS if way != "linear head"},
    }


def _accuracy(logits, labels):
    return float(np.mean(logits.argmax(axis=1) == labels))


# What else improves the pair, one step at a time. Each choice includes those before it.
GAINS = Step(
    "cnn_gains",
    "augmentation and length of the training",
    replace(FIRST, init="random", end_to_end=True, epochs=24),
    {
        "no augmentation": {},
        "+ shifted and mirrored images": {"flip": True, "shift": 1},
        "+ 48 epochs instead of 24": {"flip": True, "shift": 1, "epochs": 48},
        "+ erased squares": {"flip": True, "shift": 1, "epochs": 48, "erase": 8},
        "+ averaged weights": {"flip": True, "shift": 1, "epochs": 48, "erase": 8, "average": 0.999},
    },
    decided="+ erased squares",
    reason="the simpler of the two",
)


def step_gains():
    """Return what each step of `GAINS` adds to the mean validation accuracy, and the standard error of the gain.

    Returns
    -------
    dict of str to (float, float)
    """
    accuracies = GAINS.accuracies()
    return {
        after.removeprefix("+ "): steps.gain(accuracies[before], accuracies[after])
        for before, after in itertools.pairwise(accuracies)
    }


def longer_gain():
    """Return what longer training and erased squares add together, and the standard error of the gain."""
    accuracies = GAINS.accuracies()
    return steps.gain(accuracies["+ shifted and mirrored images"], accuracies["+ erased squares"])


RECIPE = replace(GAINS.base, **GAINS.choices[GAINS.decided])
# Question 3b again, now that it is known how to train a pair. At the cost of 16-32-64-128-256: equal or growing numbers
# of kernels, and small or medium maps. And if a network may cost more: larger kernels, larger maps, or more kernels?
LARGE_MAPS = {"pool_sizes": (3, 2, 3, 2, 2), "pool_strides": (1, 2, 1, 2, 2)}  # heights 28, 14, 14, 7, 4
LARGE = Step(
    "cnn_large",
    "larger kernels, larger maps, more kernels",
    replace(RECIPE, epochs=12),
    {
        "16-32-64-128-256, small maps": {},
        "41-41-41-41-41, small maps": RANKING.choices["equal numbers, small maps, 3 x 3"],
        "30-30-30-30-30, medium maps": RANKING.choices["equal numbers, medium maps, 3 x 3"],
        "6-13-26-52-106, medium maps": ARCHITECTURE.choices["doubled numbers, medium maps, 3 x 3"],
        "16-32-64-128-256, small maps, 5 x 5, then 3 x 3": {"kernel_sizes": KERNELS["5 x 5, then 3 x 3"]},
        "16-32-64-128-256, small maps, 5 x 5": {"kernel_sizes": KERNELS["5 x 5"]},
        # As many weights as the first network: the last pooling leaves one value of each map.
        "16-32-64-128-256, full-size maps to 1 x 1": {"pool_sizes": (3, 2, 3, 2, 7), "pool_strides": (1, 2, 1, 2, 7)},
        "16-32-64-128-256, full-size maps": LARGE_MAPS,
        "24-48-96-160-224, full-size maps": {"channels": (24, 48, 96, 160, 224)} | LARGE_MAPS,
        "73-73-73-73-73, full-size maps": {"channels": (73,) * 5} | LARGE_MAPS,
        "64-96-128-176-224, medium maps": {"channels": (64, 96, 128, 176, 224)} | POOLINGS["medium maps"],
    },
    decided="24-48-96-160-224, full-size maps",
    reason="which has the best mean; from here on, only accuracy counts, not cost",
    seeds=steps.SEEDS[:2],
)


# In this step, a network falls behind that led when it was trained through a linear head without augmentation. Is that
# because of the augmentation? The two networks again, without it.
UNAUGMENTED = Step(
    "cnn_unaugmented",
    "numbers of kernels, without augmentation",
    replace(LARGE.base, flip=False, shift=0, erase=0),
    {name: LARGE.choices[name] for name in ("16-32-64-128-256, small maps", "30-30-30-30-30, medium maps")},
    seeds=steps.SEEDS[:2],
)


# A large network can memorise more of its training images, so they may have to vary more.
AUGMENTATION = Step(
    "cnn_augmentation",
    "augmentation of the largest network",
    replace(RECIPE, epochs=24, **LARGE.choices[LARGE.decided]),
    {"shift 1, squares of 8 x 8": {}, "shift 2, squares of 12 x 12": {"shift": 2, "erase": 12}},
    seeds=steps.SEEDS[:2],
)


def augmentation_gains():
    """Return sentences on the lead of one network of `UNAUGMENTED`, and on what augmentation adds to both."""
    plain, augmented = UNAUGMENTED.accuracies(), LARGE.accuracies()
    first, second = (name.partition(",")[0] for name in plain)
    lead, error = steps.gain(*plain.values())
    (gain, error_of_gain), (other, error_of_other) = (steps.gain(plain[name], augmented[name]) for name in plain)
    return (
        f"Without augmentation, the lead of {second} over {first} is {lead:+.4f} (standard error {error:.4f}). "
        f"Augmentation changes the accuracy of {first} by {gain:+.4f}, that of {second} by {other:+.4f}; the two gains "
        f"differ by {gain - other:.4f} (standard error {math.hypot(error_of_gain, error_of_other):.4f})."
    )


def large_gains():
    """Return differences between the networks of `LARGE`, each with its standard error; see `step_gains`.

    Two runs say little about the spread of one network, so the standard error is that of the spread pooled over all.
    """
    small, full = (f"16-32-64-128-256, {maps} maps" for maps in ("small", "full-size"))
    most = "24-48-96-160-224, full-size maps"
    compared = {
        "growing instead of equal numbers, small maps": ("41-41-41-41-41, small maps", small),
        "growing instead of equal numbers, medium maps": ("30-30-30-30-30, medium maps", "6-13-26-52-106, medium maps"),
        "growing instead of equal numbers, full-size maps": ("73-73-73-73-73, full-size maps", most),
        "medium instead of small maps, equal numbers": ("41-41-41-41-41, small maps", "30-30-30-30-30, medium maps"),
        "medium instead of small maps, growing numbers": (small, "6-13-26-52-106, medium maps"),
        "16-32-64-128-256 instead of equal numbers on medium maps": ("30-30-30-30-30, medium maps", small),
        "5 x 5 kernels in the first two layers": (small, f"{small}, 5 x 5, then 3 x 3"),
        "5 x 5 kernels in all layers": (small, f"{small}, 5 x 5"),
        "full-size maps": (small, full),
        "full-size maps to 1 x 1": (small, f"{full} to 1 x 1"),
        "more kernels on full-size maps": (full, most),
        "full-size maps instead of more kernels, at equal cost": ("64-96-128-176-224, medium maps", most),
        "full-size maps with equal numbers instead of more kernels, at equal cost": (
            "64-96-128-176-224, medium maps",
            "73-73-73-73-73, full-size maps",
        ),
    }
    accuracies = LARGE.accuracies()
    error = math.sqrt(np.mean([np.var(runs, ddof=1) / len(runs) for runs in accuracies.values()]) * 2)
    return {
        what: (steps.gain(accuracies[before], accuracies[after])[0], error)
        for what, (before, after) in compared.items()
    }


def large_table():
    """Return a Markdown table of the networks of `LARGE`, with their costs and accuracies."""
    rows, runs_of = [], LARGE.runs()
    for name, changes in LARGE.choices.items():
        pair, runs = cnn.pair_of(cnn.build(replace(LARGE.base, **changes))), runs_of[name]
        rows.append(
            (
                f"**{name}**" if name == LARGE.decided else name,
                f"{pair.multiply_adds / 1e6:,.0f}",
                f"{pair.n_parameters:,}",
                mean_and_std([run["value"] for run in runs]),
                f"{np.mean([run['train_accuracy'] for run in runs]):.4f}",
            )
        )
    header = ["network", "million multiply-adds", "parameters", "validation accuracy", "training accuracy"]
    return markdown_table(header, rows)


def pair_multiply_adds(hyperparameters):
    """Return the multiply-adds of one prediction of the pair with these hyperparameters, trained end to end."""
    return cnn.pair_of(cnn.build(hyperparameters)).multiply_adds


STEPS = (ORDER, ARCHITECTURE, RANKING, INIT, INIT_LONGER, GAINS, LARGE)

# From LeNet-5 to today. Each choice includes those before it.
LENET = Step(
    "cnn_lenet",
    "from LeNet-5 to today",
    LeNetHyperparameters(backbone="lenet5", dropout=0.0, flip=False, shift=0, learning_rate=0.002, epochs=6),
    {
        "LeNet-5": {},
        "+ ReLU": {"backbone": "lenet5_relu"},
        "+ max pooling": {"backbone": "lenet5_relu_max"},
        "+ batch norm": {"backbone": "modern_lenet"},
        "+ shifted and mirrored images": {"backbone": "modern_lenet", "flip": True, "shift": 1},
    },
    decided="+ batch norm",
)
# Steps that decide nothing about the final pairs.
ASIDE = (REPEATED, UNAUGMENTED, AUGMENTATION, LENET)
