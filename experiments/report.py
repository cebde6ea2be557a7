"""Build REPORT.md, its figures and an HTML copy from the stored results: make report.

The text is in report_template.md, with a name in braces wherever a number or a table belongs; what the names stand for
is computed here. Nothing is trained.
"""

import math
import statistics
from dataclasses import asdict
from pathlib import Path

import nbformat
import numpy as np
import optuna
from nbconvert import HTMLExporter
from optuna.distributions import CategoricalDistribution

import cnn
import experiments
import mlp
from benchmarks import report as speed
from model_utils import plots, results
from model_utils.records import load_records
from model_utils.tables import markdown_table, read_csv
from studies import CHANNELS, KERNELS, POOLINGS, STUDIES, distinct_points, parse, stored_trials

ROOT = Path(__file__).parent
TEMPLATE = ROOT / "report_template.md"
REPORT = ROOT / "REPORT.md"
FIGURES = ROOT / "figures"
HTML = ROOT / "runs" / "report.html"


# Stored results ------------------------------------------------------------------------------------------------------


def stored_histories(name):
    """Read the histories of a comparison from results/: see `experiments.compare`."""
    return experiments.by_run(read_csv(results.RESULTS / f"{name}.csv", text_columns=("setting",)))


def values_by(rows, parameter):
    """Return the values of complete trials, for each value of a parameter."""
    groups = {}
    for row in rows:
        if row["state"] == "complete":
            groups.setdefault(row[parameter], []).append(row["value"])
    return groups


def mean_and_std(values):
    """Write the mean, and with more than one value the standard deviation."""
    text = f"{statistics.mean(values):.4f}"
    return text + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def settings_table():
    """Lay out what the recorded networks, the most accurate first, and the MLP on their features are trained with."""
    settings = [(record.title, record.hyperparameters, record.history) for record in load_records()]
    settings.append(("the MLP on features", asdict(cnn.MLP_HYPERPARAMETERS), []))
    rows = []
    for title, h, history in settings:
        if h.get("frozen"):
            continue
        variations = {
            "mirrored": h["flip"],
            f"moved by {h['shift']}": h["shift"],
            f"square of {h.get('erase')}": h.get("erase"),
        }
        rows.append(
            (
                title,
                h.get("optimizer", "adamw"),  # of which `cnn.train` has no other
                h["learning_rate"],
                h.get("schedule", "cosine"),
                h["epochs"],
                mlp.best_epoch(history)["epoch"] if history else "",
                h["batch_size"],
                h["weight_decay"],
                h["dropout"],
                h["label_smoothing"],
                ", ".join(name for name, is_done in variations.items() if is_done),
            )
        )
    header = ["network", "optimizer", "learning rate", "schedule", "epochs", "best", "batch size", "weight decay"]
    return markdown_table([*header, "dropout", "label smoothing", "training images"], rows)


def ablations():
    """Return the base's accuracies, and for each group, for each change, those of its runs."""
    runs = values_by(stored_trials("mlp_ablations"), "setting")
    base = runs.pop("as it is")
    groups = {}
    for setting, accuracies in runs.items():
        group, change = setting.split(": ", 1)
        groups.setdefault(group, {})[change] = accuracies
    return base, groups


def importances(name):
    """Return the share of the variance of a search's values that each parameter explains.

    By functional analysis of variance, F. Hutter et al., "An efficient approach for assessing hyperparameter
    importance", 2014.
    """
    distributions = STUDIES[name].space.distributions
    study = optuna.create_study(direction="maximize")
    for row in stored_trials(name):
        if row["state"] == "complete":
            parameters = {key: parse(row[key], distribution) for key, distribution in distributions.items()}
            study.add_trial(
                optuna.trial.create_trial(params=parameters, distributions=distributions, value=row["value"])
            )
    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))


# Figures -------------------------------------------------------------------------------------------------------------


def axis_of(texts, distribution):
    """Place a parameter's values on an axis from 0 to 1; return the places, and the axis's ticks with their names."""
    if isinstance(distribution, CategoricalDistribution):
        names = [str(choice) for choice in distribution.choices]
        ticks = np.linspace(0, 1, len(names))
        shown = [name.replace("mean_squared_error", "squared error") for name in names]
        return [ticks[names.index(text)] for text in texts], ticks, shown
    low, high = distribution.low, distribution.high
    scale = math.log if getattr(distribution, "log", False) else float

    def place(value):
        return (scale(value) - scale(low)) / (scale(high) - scale(low))

    return [place(float(text)) for text in texts], (0, 1), (f"{low:g}", f"{high:g}")


def draw_search(name):
    """Draw the trials of a search as parallel coordinates."""
    rows = stored_trials(name)
    distributions = STUDIES[name].space.distributions
    columns = {parameter: axis_of([row[parameter] for row in rows], d) for parameter, d in distributions.items()}
    return plots.parallel_coordinates(columns, [row["value"] for row in rows])


def draw_figures():
    """Draw every figure of the report; return them by name."""
    base, groups = ablations()
    architectures = stored_histories("cnn_architectures")
    grids = [
        [
            [
                experiments.best_accuracies(architectures[f"{plan}, {pooling}, kernels {kernel}"])[0]
                for kernel in KERNELS
            ]
            for plan in CHANNELS
        ]
        for pooling in POOLINGS
    ]
    records = load_records()
    cnn5 = cnn.build(cnn.Hyperparameters())
    return {
        "architectures": plots.block_diagram(
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
                        for n, size in zip(cnn.Hyperparameters().channels, cnn5.map_sizes, strict=True)
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
        ),
        "search": draw_search("mlp"),
        "importance": plots.horizontal_bars(importances("mlp"), "share of the variance of validation accuracy"),
        "ablations": plots.ablations(groups, base),
        "candidates": plots.comparison(stored_histories("mlp_candidates"), "MLP, at full length"),
        "cnn_grid": plots.accuracy_grids(
            np.array(grids), [f"{name} pooling" for name in POOLINGS], list(CHANNELS), [f"kernels {k}" for k in KERNELS]
        ),
        "cnn_finalists": plots.comparison(stored_histories("cnn_finalists"), "CNN, finalists"),
        "cnn_search": draw_search("cnn"),
        "cnn_inits": plots.comparison(stored_histories("cnn_inits"), "CNN, first weights"),
        "lenet_steps": plots.comparison(stored_histories("lenet_steps"), "LeNet, step by step"),
        "networks": plots.labelled_points(
            {record.title: (record.multiply_adds, record.metrics["test"]["accuracy"]) for record in records},
            "multiply-adds of one prediction",
            "test accuracy",
        ),
    }


# Text ----------------------------------------------------------------------------------------------------------------


def ablation_rows():
    """List what each change costs, or gains, against the base, the largest loss first."""
    base, groups = ablations()
    differences = {
        f"{group}: {change}": statistics.mean(accuracies) - statistics.mean(base)
        for group, changes in groups.items()
        for change, accuracies in changes.items()
    }
    return sorted(differences.items(), key=lambda item: item[1])


def search_table(name, n=5):
    """Lay out the best points of a search, a column each."""
    rows = distinct_points(name)[:n]
    lines = [[parameter, *(_short(row[parameter]) for row in rows)] for parameter in STUDIES[name].space.distributions]
    lines.append(["validation accuracy", *(f"{row['value']:.4f}" for row in rows)])
    return markdown_table(["", *(f"{rank}" for rank in range(1, len(rows) + 1))], lines)


def _short(text):
    """A number as short as it reads well; other text as it is."""
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text


def repeated_table(name):
    """Lay out the repetition of a search's best points over several seeds."""
    groups = values_by(stored_trials(name), "rank")
    rows = [(rank, mean_and_std(values), len(values)) for rank, values in sorted(groups.items())]
    return markdown_table(["rank in the search", "best validation accuracy", "n"], rows)


def marginal_table(name, *parameters):
    """Lay out the mean over the points of a search, for each combination of some parameters' values."""
    groups = {}
    for row in distinct_points(name):
        groups.setdefault(tuple(row[parameter] for parameter in parameters), []).append(row["value"])
    rows = [
        (*combination, f"{statistics.mean(values):.4f}", f"{max(values):.4f}", len(values))
        for combination, values in sorted(groups.items())
    ]
    return markdown_table([*parameters, "mean validation accuracy", "best", "points"], rows)


def values():
    """Return all that the template names."""
    states = [row["state"] for row in stored_trials("mlp")]
    changes = ablation_rows()
    base, _ = ablations()
    return {name: text() for name, text in results.TEXTS.items()} | {
        "settings": settings_table(),
        "study_speed": speed.study_text(),
        "race": speed.race_text(),
        "memory": speed.memory_text(),
        "cnn_epoch": speed.cnn_epoch_text(),
        "n_trials": len(states),
        "n_pruned": states.count("pruned"),
        "n_failed": states.count("fail"),
        "search_best": f"{distinct_points('mlp')[0]['value']:.4f}",
        "search_table": search_table("mlp"),
        "search_repeated": repeated_table("mlp_best"),
        "importances": ", ".join(f"{name} {share:.0%}" for name, share in list(importances("mlp").items())[:4]),
        "ablation_base": mean_and_std(base),
        "ablations_lost": "; ".join(f"{name} {difference:+.4f}" for name, difference in changes[:8]),
        "ablations_gained": "; ".join(f"{name} {difference:+.4f}" for name, difference in changes[:-5:-1]),
        "candidates": experiments.describe(stored_histories("mlp_candidates")),
        "cnn_finalists": experiments.describe(stored_histories("cnn_finalists")),
        "cnn_n_trials": len(stored_trials("cnn")),
        "cnn_n_points": len(distinct_points("cnn")),
        "cnn_search_table": search_table("cnn"),
        "cnn_search_kernels": marginal_table("cnn", "kernels"),
        "cnn_search_init": marginal_table("cnn", "epochs", "init"),
        "cnn_repeated": repeated_table("cnn_best"),
        "cnn_inits": experiments.describe(stored_histories("cnn_inits")),
        "lenet_steps": experiments.describe(stored_histories("lenet_steps")),
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


def main():
    """Write the report and its figures."""
    for name, figure in draw_figures().items():
        figure.savefig(FIGURES / f"report_{name}.png", dpi=100)
    text = build()
    REPORT.write_text(text, encoding="utf-8")
    HTML.parent.mkdir(exist_ok=True)
    HTML.write_text(to_html(text), encoding="utf-8")
    print(f"{REPORT.name}, and as one page {HTML.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
