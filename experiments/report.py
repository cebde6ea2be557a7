"""Build REPORT.md, its figures, an HTML copy and README's results from the stored results: make report.

The text is in report_template.md, with a name in braces wherever a number or a table belongs. The values of these names
are computed here. Nothing is trained.
"""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
from nbconvert import HTMLExporter

from data_preparation import load_splits
from experiments import FIGURES, RESULTS, ROOT, cnn_finals, cnn_steps, figures, mlp_steps, speed, steps
from experiments.documents import (
    headline,
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
from experiments.stored import read_rows
from model_utils import plots
from model_utils.backbones import hyperparameters_from_json
from model_utils.files import write_text
from model_utils.tables import markdown_table, mean_and_std

TEMPLATE = Path(__file__).with_name("report_template.md")
REPORT = ROOT / "REPORT.md"
README = ROOT / "README.md"
HTML = ROOT / "runs" / "report.html"


# Figures -------------------------------------------------------------------------------------------------------------


def architecture_diagram(on_pixels, pair):
    """Draw the final MLP, the final pair's CNN and the pair as rows of boxes."""
    h = hyperparameters_from_json(pair.description["hyperparameters"])
    dropout, n_views = (on_pixels.description["hyperparameters"][name] for name in ("dropout", "n_views"))
    features = f"{h.n_features} features"
    hidden_sizes, hidden_sizes_of_pair = (network.description["sizes"][1:-1] for network in (on_pixels, pair))
    return figures.block_diagram(
        {
            "MLP": [
                ("image", "28 x 28"),
                ("flatten", "784"),
                *(("hidden layer", f"{size} units\nbatch norm, ReLU\ndropout {dropout:g}") for size in hidden_sizes),
                ("output layer", "10 logits"),
                ("mean, softmax", f"over {n_views} views"),
            ],
            "CNN": [
                ("image", "28 x 28"),
                *(
                    (
                        "convolution",
                        f"{n} kernels {kernel} x {kernel}\nmax pool {pool} x {pool}\n"
                        f"stride {stride}\nbatch norm, ReLU\n{n} x {size} x {size}",
                    )
                    for kernel, n, pool, stride, size in zip(
                        h.kernel_sizes, h.channels, h.pool_sizes, h.pool_strides, h.map_sizes, strict=True
                    )
                ),
                ("fully connected", f"batch norm, ReLU\n{features}"),
            ],
            "pair, to predict": [
                ("image", "10 views"),
                ("CNN above", f"{features}\nof each view"),
                ("mean", features),
                ("NumPy MLP", f"hidden layers\n{'-'.join(map(str, hidden_sizes_of_pair))}"),
                ("output layer", "10 logits"),
                ("softmax", "probabilities"),
            ],
        }
    )


def panels(of_steps):
    """Return the panels of `figures.steps` for some steps, each choice at its best learning rate."""
    return {step.title: (step.accuracies(), step.decided) for step in of_steps}


def training_panels():
    """Return the panels of `figures.steps` for the steps that settle how to train a pair."""
    way = {cnn_steps.TRAINING_TITLE: (cnn_steps.training_accuracies(), "end to end")}
    return panels([cnn_steps.INIT, cnn_steps.INIT_LONGER]) | way | panels([cnn_steps.GAINS])


def draw_figures():
    """Draw every figure of the report; return them by name."""
    networks = load_networks()
    final = {title: settled_on(networks, kind) for title, kind in (("MLP", "mlp"), ("pair", "pair"))}
    n_shown = mlp_steps.STEPS.index(mlp_steps.REGULARISATION) + 1  # the later ones are in a table only
    return {
        "architectures": architecture_diagram(*final.values()),
        "final_curves": plots.learning_curves({title: network.history for title, network in final.items()}),
        "confusion": figures.confusion_and_scores({title: network.metrics["test"] for title, network in final.items()}),
        "importance": figures.bars(importances("mlp_search"), "share of the accuracy's variance explained"),
        "mlp_steps": figures.steps(panels(mlp_steps.STEPS[:n_shown])),
        "cnn_steps": figures.steps(training_panels()),
        "cnn_grid": figures.accuracy_grids(
            *cnn_steps.architecture_grids(),
            list(cnn_steps.POOLINGS),
            list(cnn_steps.CHANNELS),
            [f"kernels\n{kernels}" for kernels in cnn_steps.KERNELS],
        ),
        "lenet_steps": figures.dots(cnn_steps.LENET.accuracies()),
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
    *_, of_mlp = mlp_steps.final_accuracies().values()
    *_, of_pair = cnn_finals.final_accuracies().values()
    grids, _ = cnn_steps.architecture_grids()  # (poolings, plans, kernels)
    smallest_kernels = next(iter(cnn_steps.KERNELS))
    n_won = np.count_nonzero(grids.argmax(axis=2) == 0)
    worst_plan = list(cnn_steps.CHANNELS)[grids.mean(axis=(0, 2)).argmin()]
    large, of_large = cnn_steps.LARGE, cnn_steps.large_gains()
    larger_maps, _ = of_large["full-size maps"]
    costs = {name: cnn_steps.pair_multiply_adds(replace(large.base, **large.choices[name])) for name in large.choices}
    cost = costs["16-32-64-128-256, full-size maps"] / costs["16-32-64-128-256, small maps"]
    decisions = sorted(mlp_steps.main_gains().items(), key=lambda item: -item[1][0])[:5]
    of_decisions = "; ".join(f"{what} {gain:+.4f}" for what, (gain, _) in decisions)
    of_training = cnn_steps.step_gains()
    what = max(of_training, key=of_training.get)
    lines = [
        f"The largest hand-written MLP, with three hidden layers of 1024 units, reaches a test accuracy of {of_mlp}. "
        f"A CNN of five convolutions with an MLP behind it, trained end to end, reaches {of_pair}.",
        f"At its worst learning rate, each optimizer loses at least {mlp_steps.worst_rate_costs():.3f}. With He "
        f"weights, the other decisions that gain the MLP most validation accuracy: {of_decisions}. At their best "
        f"rates, optimizers, batch sizes and activations differ by {mlp_steps.largest_small_effect():.4f} at most.",
        f"We compared {grids.size} CNNs of equal cost. {smallest_kernels} kernels have the highest mean in {n_won} of "
        f"the {grids.size // len(cnn_steps.KERNELS)} combinations of map size and numbers of kernels. "
        f"{worst_plan.capitalize()} of kernels are the worst on average.",
        f"Among the changes to how such a pair is trained, {what} add the most, {of_training[what][0]:+.4f}. Larger "
        f"maps (heights of 28, 14, 14, 7 and 4 instead of 14, 7, 4, 2 and 1) add {larger_maps:.4f}, at {cost:.0f} "
        "times the cost.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def search_verdict():
    """Return sentences that compare the search with the steps, after the same number of epochs."""
    step = mlp_steps.REGULARISATION
    plain, decided = (np.mean(step.accuracies()[choice]) for choice in ("none", step.decided))
    found = max(map(np.mean, values_by(stored_trials("mlp_best"), "rank")))
    trials = stored_trials("mlp_search")
    is_augmented, is_random = trials["flip"] | (trials["shift"] > 0), trials["sampled"] == "random"
    return (
        f"A search varied {len(STUDIES['mlp_search'].space.distributions)} hyperparameters at once. "
        f"Images are augmented in {sum(is_augmented & is_random)} of its {sum(is_random)} random points, but in "
        f"{sum(is_augmented & ~is_random)} of the {sum(~is_random)} that it then chose itself. In {step.base.epochs} "
        f"epochs, its best point reaches {found:.4f}; the network found step by step reaches {plain:.4f} without "
        f"augmentation and {decided:.4f} with shifts"
    )


def conclusion():
    """Return a few sentences that compare the final MLP with the final pair."""
    networks = load_networks()
    on_pixels, pair = (settled_on(networks, kind) for kind in ("mlp", "pair"))
    wrong = [1 - network.metrics["test"]["accuracy"] for network in (on_pixels, pair)]
    (a, b, n), *_ = confused_pairs(pair.metrics["test"])
    n_parameters = [network.description["n_parameters"] for network in (on_pixels, pair)]
    n_wrong = round(wrong[1] * len(pair.predictions))
    cost = pair.description["multiply_adds"] / on_pixels.description["multiply_adds"]
    return (
        f"The saved pair makes {wrong[1] / wrong[0]:.0%} as many mistakes as the saved MLP, with "
        f"{n_parameters[1] / n_parameters[0]:.0%} of its parameters, but {cost:.0f} times the multiply-adds. It "
        "probably makes fewer because a convolution uses the same weights everywhere in an image; the MLP must learn "
        "each position separately. "
        f"Of the {n_wrong:,} mistakes of {pair.title}, "
        f"{n} confuse {a} and {b}. With more time, we would try more layers with shortcut connections, as in the "
        "wide ResNet mentioned above."
    )


def mlp_table():
    """Return a Markdown table of all choices of question 2f."""
    return markdown_table(steps.TABLE, itertools.chain(*(step.table_rows() for step in mlp_steps.STEPS)))


def cnn_table():
    """Return a Markdown table of all choices of question 3."""
    order, architecture, *later, _ = cnn_steps.STEPS
    shown = order, architecture, cnn_steps.REPEATED, *later, cnn_steps.UNAUGMENTED, cnn_steps.AUGMENTATION
    rows = [step.table_rows() for step in shown]
    ways, rate = cnn_steps.training_accuracies(), cnn_steps.TRAINING_BASE.learning_rate
    titles = [cnn_steps.TRAINING_TITLE] + [""] * (len(ways) - 1)
    rows.append(
        [
            (title, f"**{way}**" if way == "end to end" else way, rate, mean_and_std(runs), "")
            for title, (way, runs) in zip(titles, ways.items(), strict=True)
        ]
    )
    return markdown_table(steps.TABLE, itertools.chain(*rows))


def final_pairs():
    """Return clauses that compare the final pairs, by name."""
    rows = read_rows(RESULTS / "study_cnn_final.csv")
    first, small, stronger, weaker = (
        rows[rows["model"] == label]
        for label in (
            "16-32-64-128-256",
            "32-48-64-88-112",
            "24-48-96-160-224",
            "24-48-96-160-224, weaker augmentation",
        )
    )
    gain, error = steps.gain(weaker["validation"], stronger["validation"])
    longer, error_of_longer = steps.gain(first["value"], weaker["value"])
    from_ten_views, error_from_ten_views = steps.gain(first["validation"], weaker["validation"])
    of_small, error_of_small = steps.gain(first["test"], small["test"])
    stronger_gain, stronger_error = steps.gain(*cnn_steps.AUGMENTATION.accuracies().values())
    costs = [cnn_steps.pair_multiply_adds(h) for h in cnn_finals.FINALS.values()]
    return {
        "stronger_in_24_epochs": f"{stronger_gain:+.4f} (standard error {stronger_error:.4f}, n = 2)",
        "stronger_gain": f"{gain:.4f}",
        "augmentation": f"{mean_and_std(stronger['validation'])} instead of {mean_and_std(weaker['validation'])}, a "
        f"difference of {gain:.4f} with a standard error of {error:.4f}",
        "lead_after_48_epochs": f"{longer:.4f} (standard error {error_of_longer:.4f})",
        "lead_from_ten_views": f"{from_ten_views:.4f} ({error_from_ten_views:.4f})",
        "small_pair": f"{mean_and_std(small['test'])} on the test images, {of_small:.4f} more than 16-32-64-128-256 "
        f"(standard error {error_of_small:.4f}), at {costs[1] / costs[0]:.1f} times the multiply-adds",
    }


def final_mlps():
    """Return clauses on the largest of the final MLPs, by name."""
    *_, largest = mlp_steps.FINALS
    of_dropout, of_mirroring = mlp_steps.large_gains()
    from_all_views = mlp_steps.final_gain("validation", largest, mlp_steps.MIRRORED)
    compared = {"dropout_gain": of_dropout, "mirroring_gain": of_mirroring, "mirroring_gain_from_views": from_all_views}
    leads = {
        "large_mlp": mlp_steps.final_gain("validation", "512-256", largest),
        "large_mlp_one_view": mlp_steps.final_gain("validation_one_view", "512-256", largest),
        "large_mlp_mean": mlp_steps.largest_leads()["mean of all four"],
    }
    return {
        **{name: f"{difference:+.4f} (standard error {of_it:.4f})" for name, (difference, of_it) in compared.items()},
        "n_large_mlp": len(mlp_steps.LARGE.seeds),
        **{name: f"{gain:.4f} (standard error {error:.4f})" for name, (gain, error) in leads.items()},
    }


def views():
    """Return sentences on what several views instead of one add to the accuracies of the final pair and MLP."""
    mlps, pairs = (read_rows(RESULTS / f"study_{kind}_final.csv") for kind in ("mlp", "cnn"))
    mlp_label, h = list(mlp_steps.FINALS.items())[-1]
    *_, pair_label = cnn_finals.FINALS
    of_mlp, of_pair = mlps[mlps["model"] == mlp_label], pairs[pairs["model"] == pair_label]
    gains = [
        steps.gain(of_pair["value"], of_pair["validation"])[0],
        *(steps.gain(of_mlp[f"{part}_one_view"], of_mlp[part])[0] for part in ("validation", "test")),
    ]
    return (
        f"Compared with one view, the chosen pair's ten views change its validation accuracy by {gains[0]:+.4f}. The "
        f"chosen MLP's {h.n_views} views change its validation accuracy by {gains[1]:+.4f} and its test accuracy by "
        f"{gains[2]:+.4f}."
    )


def last_epochs():
    """Return a sentence on the accuracies of the final MLP and pair after the last epoch."""
    networks = load_networks()
    ends = {name: settled_on(networks, kind).history[-1] for name, kind in (("MLP", "mlp"), ("pair", "pair"))}
    told = (
        f"the {name} reaches {row['train_accuracy']:.3f} on training images and {row['validation_accuracy']:.3f} on "
        "validation images"
        for name, row in ends.items()
    )
    return f"After the last epoch, {'; '.join(told)}."


def values():
    """Return the value of each name in the template."""
    networks = load_networks()
    final = [settled_on(networks, kind) for kind in ("mlp", "pair")]
    of_large = cnn_steps.large_gains()
    return {
        "summary": summary(),
        "final_settings": settings_table(final),
        "results": results_table(),
        "search_verdict": search_verdict(),
        "conclusion": conclusion(),
        "networks": networks_table(networks),
        "n_networks": len(networks),
        "n_hard": len(wrong_in_all(np.array([n.predictions for n in networks]), load_splits().test.labels)),
        "race": speed.race_text(),
        "memory": speed.memory_text(),
        "cnn_epoch": speed.cnn_epoch_text(),
        "cnn_accuracy": speed.cnn_accuracy_text(),
        "prediction": speed.prediction_text(),
        "rates": mlp_steps.optimizer_rates(),
        "rates_table": mlp_steps.rates_table(),
        "worst_rates": mlp_steps.worst_rates(),
        "sigmoid_gaps": mlp_steps.sigmoid_gaps(),
        "widths": mlp_steps.layer_gains(),
        "depth": mlp_steps.depth(),
        "shifting": f"{cnn_steps.step_gains()['shifted and mirrored images'][0]:.4f}",
        "longer": f"{cnn_steps.longer_gain()[0]:.4f}",
        "mlp_recipe": mlp_steps.RECIPE,
        "cnn_recipe": cnn_steps.RECIPE,
        "random_runs": ", ".join(f"{accuracy:.4f}" for accuracy in mlp_steps.INIT.accuracies()["random"]),
        "mlp_steps": mlp_table(),
        "n_architectures": len(cnn_steps.ARCHITECTURE.choices),
        "smaller_kernels": cnn_steps.smaller_kernels(),
        "cnn_steps": cnn_table(),
        "n_hyperparameters": len(STUDIES["mlp_search"].space.distributions),
        "n_trials": STUDIES["mlp_search"].space.n_trials,
        "n_random": STUDIES["mlp_search"].space.n_random,
        "search_table": search_table("mlp_search"),
        "sampled": sampled_text("mlp_search"),
        "search_repeated": repeated_table("mlp_best"),
        **final_pairs(),
        **final_mlps(),
        "last_epochs": last_epochs(),
        "views": views(),
        "float32": mean_and_std(cnn_steps.ORDER.accuracies()[cnn_steps.ORDER.decided]),
        "bfloat16": mean_and_std(cnn_steps.REPEATED.accuracies()[cnn_steps.QUESTION_3A]),
        "large_table": cnn_steps.large_table(),
        "augmentation_gains": cnn_steps.augmentation_gains(),
        "n_large": len(cnn_steps.LARGE.seeds),
        "n_large_networks": len(cnn_steps.LARGE.choices),
        "large_epochs": cnn_steps.LARGE.base.epochs,
        "large": {what: f"{abs(gain):.4f}" for what, (gain, _) in of_large.items()},
        "large_error": f"{next(iter(of_large.values()))[1]:.4f}",
        "lenet_epochs": cnn_steps.LENET.base.epochs,
    }


# Small enough for the widest table on A4.
STYLE = """<style>
@page { size: A4; margin: 10mm }
:root { --jp-content-font-size1: 11px; --jp-content-line-height: 1.25 }
body.jp-Notebook { padding: 0 }
.jp-RenderedHTMLCommon :is(h1, h2, h3) { break-after: avoid; margin: 0.6em 0 0.3em }
.jp-RenderedHTMLCommon h1 { font-size: 20px }
.jp-RenderedHTMLCommon h2 { font-size: 16px }
.jp-RenderedHTMLCommon img { max-width: 90% }
.jp-RenderedHTMLCommon table { font-size: 9px }
.jp-RenderedHTMLCommon :is(tr, table:not(:has(tr:nth-child(12)))) { break-inside: avoid }
.jp-RenderedHTMLCommon td, .jp-RenderedHTMLCommon th { padding: 1px 6px }
.jp-RenderedHTMLCommon td:not(:first-child) { white-space: nowrap }
.jp-RenderedHTMLCommon p { margin-bottom: 0.6em }
</style>
"""


def build():
    """Return the report's text."""
    return TEMPLATE.read_text(encoding="utf-8").format_map(values())


def to_html(text):
    """Return the report as one HTML page, with its figures in it, and without links to local files."""
    text = re.sub(r"(?<!!)\[([^\]]*)\]\((?!http|#)[^)]*\)", r"\1", text)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    html, _ = HTMLExporter(embed_images=True, exclude_input_prompt=True).from_notebook_node(
        notebook, resources={"metadata": {"name": "report", "path": str(ROOT)}}
    )
    return html.replace("</head>", f"{STYLE}</head>", 1)


def write():
    """Write the report, its figures and its HTML copy, and the results into README."""
    for name, figure in draw_figures().items():
        figure.savefig(FIGURES / f"{name}.png", dpi=150)
    text = build()
    write_text(REPORT, text)
    write_text(HTML, to_html(text))
    write_between_marks(README, "headline", headline())
    write_between_marks(README, "results", results_table())
