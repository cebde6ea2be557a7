"""Build REPORT.md, its figures, an HTML copy and README's results from what is stored: make report.

The text is in report_template.md, with a name in braces wherever a number or a table belongs; what the names stand for
is computed here. Nothing is trained.
"""

import statistics
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import optuna
from nbconvert import HTMLExporter
from optuna.visualization.matplotlib import plot_parallel_coordinate, plot_param_importances

from experiments import FIGURES, RESULTS, ROOT, figures, speed, variants
from experiments.documents import (
    mean_and_std,
    results_table,
    seeds_sentence,
    settings_table,
    write_between_marks,
)
from experiments.libraries import libraries_table
from experiments.networks import load_networks, measured_models_table, networks_table
from experiments.spaces import (
    ABLATIONS,
    CHANNELS,
    KERNELS,
    POOLINGS,
    STUDIES,
    UNCHANGED,
    ablation,
    architecture,
    distinct_points,
    stored_study,
    stored_trials,
)
from experiments.stored import read_rows
from model_utils.cnn_backbone import CNNHyperparameters
from model_utils.files import write_text
from model_utils.tables import markdown_table

TEMPLATE = Path(__file__).with_name("report_template.md")
REPORT = ROOT / "REPORT.md"
README = ROOT / "README.md"
HTML = ROOT / "runs" / "report.html"


# Stored results ------------------------------------------------------------------------------------------------------


def stored_histories(name):
    """Read the histories of a comparison from results/: see `variants.compare`."""
    return variants.by_run(read_rows(RESULTS / f"{name}.csv"))


def values_by(trials, parameter):
    """Return the values of complete trials, a list for each value of a parameter."""
    complete = trials[trials["state"] == "complete"]
    return complete.groupby(parameter)["value"].apply(list)


def ablations():
    """Return the base's accuracies, and for each group, for each change, those of its runs."""
    runs = values_by(stored_trials("mlp_ablations"), "setting")
    groups = {
        group: {change: runs[ablation(group, change)] for change in changes} for group, changes in ABLATIONS.items()
    }
    return runs[UNCHANGED], groups


def importance_evaluator():
    """By functional analysis of variance, F. Hutter et al., "An efficient approach for assessing hyperparameter
    importance", 2014.
    """
    return optuna.importance.FanovaImportanceEvaluator(seed=0)


# Figures -------------------------------------------------------------------------------------------------------------


def search_figures(name):
    """Draw how much each parameter of a search matters, and the trials as lines through the six that matter most."""
    study, target = stored_study(name), "validation accuracy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        with plt.style.context("default"):  # Optuna changes the style for good
            importance = plot_param_importances(study, evaluator=importance_evaluator(), target_name=target)
        most = [label.get_text() for label in importance.get_yticklabels()][-6:]
        with plt.style.context("default"):
            trials = plot_parallel_coordinate(study, params=most, target_name=target)
    for axes in (importance, trials):
        axes.figure.set_size_inches(10, 5)
        axes.figure.tight_layout()
    return importance.figure, trials.figure


def architecture_diagram():
    """Draw the MLP, the CNN and the pair as rows of boxes."""
    h = CNNHyperparameters()
    return figures.block_diagram(
        [
            [
                ("image", "28 x 28"),
                ("flatten", "784"),
                ("hidden layer", "512, batch norm,\nReLU, dropout 0.2"),
                ("hidden layer", "256, batch norm,\nReLU, dropout 0.2"),
                ("output layer", "10 logits"),
                ("softmax", "cross-entropy"),
            ],
            [
                ("image", "28 x 28"),
                *(
                    (f"conv 3 x 3, {n}", f"batch norm, ReLU,\nmax pool\n{n} x {size} x {size}")
                    for n, size in zip(h.channels, h.map_sizes, strict=True)
                ),
                ("fully connected", "256 features"),
                ("head", "10 logits,\nfor training only"),
            ],
            [
                ("image", "ten views"),
                ("CNN above", "256 features\nof each view"),
                ("mean, then", "standardised"),
                ("NumPy MLP", "256-128-64-32-16"),
                ("softmax", "10 probabilities"),
            ],
        ]
    )


def draw_figures():
    """Draw every figure of the report; return them by name."""
    base, groups = ablations()
    runs = stored_histories("cnn_architectures")
    grids = [
        [
            [variants.best_accuracies(runs[architecture(plan, pooling, kernel)])[0] for kernel in KERNELS]
            for plan in CHANNELS
        ]
        for pooling in POOLINGS
    ]
    importance, search = search_figures("mlp")
    _, cnn_search = search_figures("cnn")
    return {
        "architectures": architecture_diagram(),
        "search": search,
        "importance": importance,
        "ablations": figures.ablations(groups, base),
        "candidates": figures.comparison(stored_histories("mlp_candidates"), "MLP, at full length"),
        "cnn_grid": figures.accuracy_grids(
            np.array(grids), [f"{name} pooling" for name in POOLINGS], list(CHANNELS), [f"kernels {k}" for k in KERNELS]
        ),
        "cnn_finalists": figures.comparison(stored_histories("cnn_finalists"), "CNN, finalists"),
        "cnn_search": cnn_search,
        "cnn_inits": figures.comparison(stored_histories("cnn_inits"), "CNN, initial weights"),
        "lenet_steps": figures.comparison(stored_histories("lenet_steps"), "LeNet, step by step"),
        "growth": speed.growth_figure(),
        "networks": figures.labelled_points(
            {
                network.title: (network.description["multiply_adds"], network.metrics["test"]["accuracy"])
                for network in load_networks()
            },
            "multiply-adds of one prediction",
            "test accuracy",
        ),
    }


# Text ----------------------------------------------------------------------------------------------------------------


def ablation_rows():
    """List what each change costs, or gains, against the base, the largest loss first."""
    base, groups = ablations()
    differences = {
        ablation(group, change): statistics.mean(accuracies) - statistics.mean(base)
        for group, changes in groups.items()
        for change, accuracies in changes.items()
    }
    return sorted(differences.items(), key=lambda item: item[1])


def search_table(name, n=5):
    """Lay out the best points of a search, a column each."""
    points = distinct_points(name).head(n)
    lines = [[parameter, *map(_short, points[parameter])] for parameter in STUDIES[name].space.distributions]
    lines.append(["validation accuracy", *(f"{value:.4f}" for value in points["value"])])
    return markdown_table(["", *map(str, range(1, len(points) + 1))], lines)


def _short(value):
    """A number as short as it reads well; anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else value


def repeated_table(name):
    """Lay out the repetition of a search's best points over several seeds."""
    rows = [
        (rank, mean_and_std(values), len(values)) for rank, values in values_by(stored_trials(name), "rank").items()
    ]
    return markdown_table(["rank in the search", "best validation accuracy", "n"], rows)


def marginal_table(name, *parameters):
    """Lay out the mean over the points of a search, for each combination of some parameters' values."""
    groups = distinct_points(name).groupby(list(parameters))["value"]
    rows = [(*combination, f"{statistics.mean(v):.4f}", f"{v.max():.4f}", len(v)) for combination, v in groups]
    return markdown_table([*parameters, "mean validation accuracy", "best", "points"], rows)


def values():
    """Return all that the template names."""
    states = stored_trials("mlp")["state"].value_counts()
    changes = ablation_rows()
    base, _ = ablations()
    importances = optuna.importance.get_param_importances(stored_study("mlp"), evaluator=importance_evaluator())
    return {
        "models": measured_models_table(),
        "seeds": seeds_sentence(),
        "networks": networks_table(load_networks()),
        "libraries": libraries_table(),
        "settings": settings_table(),
        "race": speed.race_text(),
        "memory": speed.memory_text(),
        "cnn_epoch": speed.cnn_epoch_text(),
        "cnn_accuracy": speed.cnn_accuracy_text(),
        "prediction": speed.prediction_text(),
        "study_speed": speed.study_text(),
        "n_trials": states.sum(),
        "n_pruned": states.get("pruned", 0),
        "n_failed": states.get("fail", 0),
        "search_best": f"{distinct_points('mlp')['value'].max():.4f}",
        "search_table": search_table("mlp"),
        "search_repeated": repeated_table("mlp_best"),
        "importances": ", ".join(f"{name} {share:.0%}" for name, share in list(importances.items())[:4]),
        "ablation_base": mean_and_std(base),
        "ablations_lost": "; ".join(f"{name} {difference:+.4f}" for name, difference in changes[:8]),
        "ablations_gained": "; ".join(f"{name} {difference:+.4f}" for name, difference in changes[:-5:-1]),
        "candidates": variants.describe(stored_histories("mlp_candidates")),
        "cnn_finalists": variants.describe(stored_histories("cnn_finalists")),
        "cnn_n_trials": len(stored_trials("cnn")),
        "cnn_n_points": len(distinct_points("cnn")),
        "cnn_search_table": search_table("cnn"),
        "cnn_search_kernels": marginal_table("cnn", "kernels"),
        "cnn_search_init": marginal_table("cnn", "epochs", "init"),
        "cnn_repeated": repeated_table("cnn_best"),
        "cnn_inits": variants.describe(stored_histories("cnn_inits")),
        "lenet_steps": variants.describe(stored_histories("lenet_steps")),
    }


def build():
    """Return the report's text."""
    return TEMPLATE.read_text(encoding="utf-8").format_map(values())


def to_html(text):
    """Return the report as one HTML page, its figures in it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    html, _ = HTMLExporter(embed_images=True, exclude_input_prompt=True).from_notebook_node(
        notebook, resources={"metadata": {"name": "report", "path": str(ROOT)}}
    )
    return html


def write():
    """Write the report, its figures and its HTML copy, and the results into README."""
    for name, figure in draw_figures().items():
        figure.savefig(FIGURES / f"{name}.png", dpi=100)
    text = build()
    write_text(REPORT, text)
    write_text(HTML, to_html(text))
    write_between_marks(README, "results", results_table())
