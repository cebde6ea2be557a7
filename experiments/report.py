"""Build REPORT.md, its figures, an HTML copy and README's results from the stored results: make report.

The text is in report_template.md, with a name in braces wherever a number or a table belongs. The values of these names
are computed here. Nothing is trained.
"""

from pathlib import Path

import nbformat
import numpy as np
from nbconvert import HTMLExporter

import cnn
from data_preparation import CLASS_NAMES, load_splits
from experiments import FIGURES, ROOT, cnn_steps, figures, mlp_steps, speed, steps
from experiments.documents import (
    per_class_table,
    results_table,
    settings_table,
    settled_on,
    write_between_marks,
)
from experiments.networks import confused_pairs, load_networks, networks_table, wrong_in_all
from experiments.spaces import (
    STUDIES,
    importances,
    repeated_table,
    sampled_text,
    search_table,
    stored_trials,
    values_by,
)
from model_utils import plots
from model_utils.backbones import hyperparameters_from_json
from model_utils.files import write_text
from model_utils.layers import INITS
from model_utils.tables import mean_and_std

TEMPLATE = Path(__file__).with_name("report_template.md")
REPORT = ROOT / "REPORT.md"
README = ROOT / "README.md"
HTML = ROOT / "runs" / "report.html"


# Figures -------------------------------------------------------------------------------------------------------------


def architecture_diagram(on_pixels, pair):
    """Draw the final MLP, the final pair's CNN and the pair as rows of boxes."""
    h = hyperparameters_from_json(pair.description["hyperparameters"])
    dropout = on_pixels.description["hyperparameters"]["dropout"]
    features = f"{h.n_features} features"
    hidden_sizes, hidden_sizes_of_pair = (network.description["sizes"][1:-1] for network in (on_pixels, pair))
    return figures.block_diagram(
        [
            [
                ("image", "28 x 28"),
                ("flatten", "784"),
                *(("hidden layer", f"{size} units\nbatch norm, ReLU\ndropout {dropout:g}") for size in hidden_sizes),
                ("output layer", "10 logits"),
                ("softmax", "cross-entropy"),
            ],
            [
                ("image", "28 x 28"),
                *(
                    (
                        f"conv {kernel} x {kernel}, {n}",
                        f"max pool {pool} x {pool}\nstride {stride}\nbatch norm, ReLU\n{n} x {size} x {size}",
                    )
                    for kernel, n, pool, stride, size in zip(
                        h.kernel_sizes, h.channels, h.pool_sizes, h.pool_strides, h.map_sizes, strict=True
                    )
                ),
                ("fully connected", f"batch norm, ReLU\n{features}"),
            ],
            [
                ("image", "ten views"),
                ("CNN above", f"{features}\nof each view"),
                ("mean", features),
                ("NumPy MLP", "-".join(map(str, hidden_sizes_of_pair))),
                ("softmax", "10 probabilities"),
            ],
        ]
    )


def draw_figures():
    """Draw every figure of the report; return them by name."""
    networks = load_networks()
    final = {title: settled_on(networks, kind) for title, kind in (("MLP", "mlp"), ("pair", "pair"))}
    return {
        "architectures": architecture_diagram(*final.values()),
        "final_curves": plots.learning_curves({title: network.history for title, network in final.items()}),
        "confusion": figures.confusion_matrices(
            {title: network.metrics["test"]["confusion_matrix"] for title, network in final.items()}, CLASS_NAMES
        ),
        "importance": figures.bars(importances("mlp_search"), "share of the accuracy's variance explained"),
        "cnn_grid": figures.accuracy_grids(
            cnn_steps.architecture_grids(),
            list(cnn_steps.POOLINGS),
            list(cnn_steps.CHANNELS),
            [f"kernels\n{kernels}" for kernels in cnn_steps.KERNELS],
        ),
        "lenet_steps": figures.dots(cnn_steps.LENET.accuracies()),
        "growth": speed.growth_figure(),
        "networks": figures.labelled_points(
            {
                network.title: (network.description["multiply_adds"], network.metrics["test"]["accuracy"])
                for network in networks
            },
            "multiply-adds of one prediction",
            "test accuracy",
        ),
    }


# Text ----------------------------------------------------------------------------------------------------------------


def summary():
    """Return the findings in a few lines, as a Markdown list."""
    of_pairs = cnn_steps.final_accuracies()
    of_mlps = {
        "-".join(map(str, mlp_steps.FINALS[label].hidden_sizes)): accuracy
        for label, accuracy in mlp_steps.final_accuracies().items()
    }
    *smaller, largest = of_mlps
    effects = [f"{varied} {gain:+.4f}" for varied, gain in steps.gains(mlp_steps.STEPS).items()]
    of_networks = {name: np.mean(runs) for name, runs in cnn_steps.ARCHITECTURE.accuracies().items()}
    best, worst = (pick(of_networks, key=of_networks.get) for pick in (max, min))
    of_cnn = [
        f"{step.removeprefix('+ ')} {gain:+.4f} (standard error {error:.4f})"
        for step, (gain, error) in cnn_steps.step_gains().items()
    ]
    lines = [
        f"The largest MLP by hand, with hidden layers of {largest}, reaches a test accuracy of {of_mlps[largest]}. "
        f"The smaller ones: {'; '.join(f'{of_mlps[label]} ({label})' for label in smaller)}.",
        "A CNN of five convolutions, with the MLP by hand as its head, learns from gradients computed in NumPy. It "
        f"reaches these test accuracies: {'; '.join(f'{accuracy} ({label})' for label, accuracy in of_pairs.items())}.",
        "These choices change the MLP's validation accuracy most, from the worst to the best: "
        f"{'; '.join(effects[:4])}.",
        f"Of {len(of_networks)} CNNs of equal cost, the best on validation is *{best}* ({of_networks[best]:.4f}), the "
        f"worst *{worst}* ({of_networks[worst]:.4f}).",
        f"The pair's validation accuracy changes with each step: {'; '.join(of_cnn)}. With other maps and "
        f"numbers of kernels: {_listed(cnn_steps.LARGE.accuracies())}.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def search_verdict():
    """Return sentences that compare the search with the steps, after the same number of epochs."""
    step = mlp_steps.REGULARISATION
    by_hand = np.mean(step.accuracies()[step.decided])
    found = max(map(np.mean, values_by(stored_trials("mlp_best"), "rank")))
    return (
        f"The steps reached a validation accuracy of {by_hand:.4f} in {step.base.epochs} epochs. A search over "
        f"{len(STUDIES['mlp_search'].space.distributions)} hyperparameters at once, which started from scratch, "
        f"reached {found:.4f} in as many epochs"
    )


def classifier():
    """Return a description of the MLP that classifies the features."""
    h = cnn.CLASSIFIER
    *sizes, last = map(str, h.hidden_sizes)
    return (
        f"hidden layers of {', '.join(sizes)} and {last} units and {h.init} initial weights. It is trained with "
        f"{h.optimizer}, a learning rate of {h.learning_rate}, a {h.schedule} schedule and a weight decay of "
        f"{h.weight_decay}"
    )


def did_not_work():
    """Return the choices that gained no more than two standard errors, as a Markdown list."""
    regularisation = mlp_steps.REGULARISATION.accuracies()
    bare = regularisation["none"]
    lost = [
        f"{choice} ({np.mean(runs) - np.mean(bare):+.4f})"
        for choice, runs in regularisation.items()
        if choice != "none" and np.mean(runs) - np.mean(bare) <= 2 * steps.standard_error(runs, bare)
    ]
    lines = []
    if lost:
        lines.append(
            "These kinds of regularisation gained the MLP 512-256 no more than two standard errors, in "
            f"{mlp_steps.REGULARISATION.base.epochs} epochs: {'; '.join(lost)}."
        )
    choices = list(cnn_steps.GAINS.choices)
    left_out = choices[choices.index(cnn_steps.GAINS.decided) + 1 :]
    lines += [
        f"{step.removeprefix('+ ').capitalize()} changed the pair's validation accuracy by {gain:+.4f}, with a "
        f"standard error of {error:.4f}."
        for step, (gain, error) in cnn_steps.step_gains().items()
        if step in left_out
    ]
    trainings = {way: np.mean(runs) for way, runs in cnn_steps.training_accuracies().items()}
    linear, by_mlp = (trainings[way] for way in ("linear head alone", "linear head, then the MLP on its features"))
    lines.append(
        f"On the features of the same backbones, the MLP with five hidden layers reaches {by_mlp:.4f}, a linear layer "
        f"{linear:.4f}."
    )
    grids = cnn_steps.architecture_grids()
    of_kernels = zip((f"kernels {kernels}" for kernels in cnn_steps.KERNELS), grids.max(axis=(0, 1)), strict=True)
    of_plans = zip(cnn_steps.CHANNELS, grids.max(axis=(0, 2)), strict=True)
    best_of = "; ".join(f"{name} {accuracy:.4f}" for name, accuracy in (*of_kernels, *of_plans))
    lines.append(
        f"Larger kernels and halved numbers of kernels, at equal cost. The best networks of each kind: {best_of}."
    )
    lines.append(f"{search_verdict()}. {sampled_text('mlp_search')}")
    return "\n".join(f"- {line}" for line in lines)


def conclusion():
    """Return a few sentences that compare the final MLP with the final pair."""
    networks = load_networks()
    on_pixels, pair = (settled_on(networks, kind) for kind in ("mlp", "pair"))
    wrong = [1 - network.metrics["test"]["accuracy"] for network in (on_pixels, pair)]
    (a, b, n), *_ = confused_pairs(pair.metrics["test"])
    gains = {step.removeprefix("+ "): gain for step, (gain, _) in cnn_steps.step_gains().items()}
    gained_most = max(gains, key=gains.get)
    n_parameters = [network.description["n_parameters"] for network in (on_pixels, pair)]
    n_wrong = round(wrong[1] * len(pair.predictions))
    n_hard = len(wrong_in_all(np.array([network.predictions for network in networks]), load_splits().test.labels))
    return (
        f"On pixels, the MLP by hand gets {wrong[0]:.2%} of the test images wrong, with {n_parameters[0]:,} "
        f"parameters. On features from a CNN, it gets {wrong[1]:.2%} wrong, with {n_parameters[1]:,} parameters in "
        "all. A convolution uses the same weights everywhere in an image; the MLP must learn each place separately. "
        f"Among the steps of its training, the pair gained most from {gained_most}. Of its {n_wrong:,} mistakes, {n} "
        f"confuse {a} and {b}. {n_hard} test images are wrong for all {len(networks)} networks of [appendix "
        "B](#b-other-networks): perhaps such a small picture does not show what it is, or the label is doubtful."
    )


def _listed(accuracies):
    """Return accuracies over the seeds as text, the best one first."""
    best_first = sorted(accuracies.items(), key=lambda item: -np.mean(item[1]))
    return "; ".join(f"{choice} {mean_and_std(runs)}" for choice, runs in best_first)


def values():
    """Return the value of each name in the template."""
    networks = load_networks()
    final = [settled_on(networks, kind) for kind in ("mlp", "pair")]
    inits = cnn_steps.INIT.accuracies()
    return {
        "summary": summary(),
        "classifier": classifier(),
        "final_settings": settings_table(final),
        "results": results_table(),
        "per_class": per_class_table(final),
        "did_not_work": did_not_work(),
        "conclusion": conclusion(),
        "networks": networks_table(networks),
        "race": speed.race_text(),
        "memory": speed.memory_text(),
        "cnn_epoch": speed.cnn_epoch_text(),
        "cnn_accuracy": speed.cnn_accuracy_text(),
        "prediction": speed.prediction_text(),
        "mlp_steps": steps.table(mlp_steps.STEPS),
        "n_architectures": len(cnn_steps.ARCHITECTURE.choices),
        "cnn_steps": steps.table(cnn_steps.STEPS),
        "n_hyperparameters": len(STUDIES["mlp_search"].space.distributions),
        "n_trials": STUDIES["mlp_search"].space.n_trials,
        "n_random": STUDIES["mlp_search"].space.n_random,
        "search_table": search_table("mlp_search"),
        "search_repeated": repeated_table("mlp_best"),
        "cnn_inits": _listed({choice: inits[f"{choice}, batch norm"] for choice in INITS}),
        "cnn_inits_without": _listed({choice: inits[choice] for choice in INITS}),
        "cnn_large": _listed(cnn_steps.LARGE.accuracies()),
        "cnn_training": _listed(cnn_steps.training_accuracies()),
        "finals": cnn_steps.finals_table(),
        "lenet_epochs": cnn_steps.LENET.base.epochs,
    }


# Small enough for the widest table on A4.
STYLE = """<style>
@page { size: A4; margin: 12mm }
:root { --jp-content-font-size1: 11px; --jp-content-line-height: 1.3 }
h2, h3 { break-after: avoid }
.jp-RenderedHTMLCommon img { max-width: 85% }
.jp-RenderedHTMLCommon table { font-size: 9px }
.jp-RenderedHTMLCommon td, .jp-RenderedHTMLCommon th { padding: 2px 6px }
.jp-RenderedHTMLCommon p { margin-bottom: 0.7em }
</style>
"""


def build():
    """Return the report's text."""
    return TEMPLATE.read_text(encoding="utf-8").format_map(values())


def to_html(text):
    """Return the report as one HTML page, with its figures in it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    html, _ = HTMLExporter(embed_images=True, exclude_input_prompt=True).from_notebook_node(
        notebook, resources={"metadata": {"name": "report", "path": str(ROOT)}}
    )
    return html.replace("</head>", f"{STYLE}</head>", 1)


def write():
    """Write the report, its figures and its HTML copy, and the results into README."""
    for name, figure in draw_figures().items():
        figure.savefig(FIGURES / f"{name}.png", dpi=100)
    text = build()
    write_text(REPORT, text)
    write_text(HTML, to_html(text))
    write_between_marks(README, "results", results_table())
