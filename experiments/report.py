"""Build REPORT.md, its figures, an HTML copy and README's results from what is stored: make report.

The text is in report_template.md, with a name in braces wherever a number or a table belongs; what the names stand for
is computed here. Nothing is trained.
"""

from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from experiments import FIGURES, ROOT, cnn_steps, figures, mlp_steps, speed, steps
from experiments.documents import (
    results_table,
    settings_table,
    write_between_marks,
)
from experiments.libraries import libraries_table
from experiments.networks import load_networks, measured_models_table, networks_table
from experiments.spaces import STUDIES, importances, repeated_table, search_table
from model_utils.cnn_backbone import CNNHyperparameters
from model_utils.files import write_text

TEMPLATE = Path(__file__).with_name("report_template.md")
REPORT = ROOT / "REPORT.md"
README = ROOT / "README.md"
HTML = ROOT / "runs" / "report.html"


# Figures -------------------------------------------------------------------------------------------------------------


def architecture_diagram():
    """Draw the MLP, the CNN and the pair as rows of boxes."""
    h = CNNHyperparameters()
    mlp_h = list(mlp_steps.FINALS.values())[-1]
    return figures.block_diagram(
        [
            [
                ("image", "28 x 28"),
                ("flatten", "784"),
                *(("hidden layer", f"{size}, batch norm,\nReLU") for size in mlp_h.hidden_sizes),
                ("output layer", "10 logits"),
                ("softmax", "cross-entropy"),
            ],
            [
                ("image", "28 x 28"),
                *(
                    (f"conv 3 x 3, {n}", f"max pool, batch norm,\nReLU\n{n} x {size} x {size}")
                    for n, size in zip(h.channels, h.map_sizes, strict=True)
                ),
                ("fully connected", "batch norm, ReLU,\n256 features"),
            ],
            [
                ("image", "ten views"),
                ("CNN above", "256 features\nof each view"),
                ("mean", "256 features"),
                ("NumPy MLP", "256-128-64-32-16"),
                ("softmax", "10 probabilities"),
            ],
        ]
    )


def draw_figures():
    """Draw every figure of the report; return them by name."""
    return {
        "architectures": architecture_diagram(),
        "learning_rates": figures.learning_rates(mlp_steps.OPTIMIZER.by_rate()),
        "regularisation": figures.dots(mlp_steps.REGULARISATION.accuracies()),
        "importance": figures.bars(importances("mlp_search"), "share of the accuracy's variance explained"),
        "cnn_grid": figures.accuracy_grids(
            cnn_steps.architecture_grids(),
            list(cnn_steps.POOLINGS),
            list(cnn_steps.CHANNELS),
            [f"kernels {kernels}" for kernels in cnn_steps.KERNELS],
        ),
        "cnn_inits": figures.dots(cnn_steps.INIT.accuracies()),
        "lenet_steps": figures.dots(cnn_steps.LENET.accuracies()),
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


def values():
    """Return all that the template names."""
    return {
        "models": measured_models_table(),
        "networks": networks_table(load_networks()),
        "libraries": libraries_table(),
        "settings": settings_table(),
        "race": speed.race_text(),
        "memory": speed.memory_text(),
        "cnn_epoch": speed.cnn_epoch_text(),
        "cnn_accuracy": speed.cnn_accuracy_text(),
        "prediction": speed.prediction_text(),
        "study_speed": speed.study_text(),
        "steps": steps.table(mlp_steps.STEPS),
        "n_trials": STUDIES["mlp_search"].space.n_trials,
        "n_random": STUDIES["mlp_search"].space.n_random,
        "search_table": search_table("mlp_search"),
        "search_repeated": repeated_table("mlp_best"),
        "cnn_architecture": steps.compare(cnn_steps.ARCHITECTURE.accuracies()),
        "cnn_init": cnn_steps.INIT.describe(),
        "cnn_finals": cnn_steps.finals_table(),
        "lenet_steps": steps.describe(cnn_steps.LENET.at_best_rates()),
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
