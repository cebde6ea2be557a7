"""Tables of saved networks for README and the report, so that no number is typed by hand."""

import re
from pathlib import Path

from experiments import RESULTS, cnn_finals, mlp_steps
from experiments.networks import load_networks
from experiments.stored import read_rows
from mlp import MLPHyperparameters
from model_utils.backbones import hyperparameters_from_json
from model_utils.files import write_text
from model_utils.tables import markdown_table, mean_and_std


def settled_on(networks, kind):
    """Return the network that is best on validation among the MLPs, kind "mlp", or the five-layer pairs, "pair"."""
    candidates = [
        network
        for network in networks
        if network.description["kind"] == kind
        and network.description["hyperparameters"].get("backbone", "cnn5") == "cnn5"
    ]
    return max(candidates, key=lambda network: network.metrics["validation"]["accuracy"])


def headline():
    """Return one sentence on the test accuracies of the models settled on."""
    networks = load_networks()
    of_mlp, of_pair = (_runs(settled_on(networks, kind)) for kind in ("mlp", "pair"))
    return (
        f"The best MLP reaches a test accuracy of **{mean_and_std(of_mlp['test'])}** on raw pixels, and the best pair "
        f"of CNN and MLP **{mean_and_std(of_pair['test'])}** (means and standard deviations over {len(of_pair)} seeds)."
    )


def results_table():
    """Return a Markdown table of the final models, over their seeds; those settled on are marked."""
    networks = load_networks()
    chosen = [settled_on(networks, kind) for kind in ("mlp", "pair")]
    rows = []
    for network in reversed(networks):
        runs = _runs(network)
        if runs is None:
            continue
        name = network.title + (" + MLP" if network.description["kind"] == "pair" else "")
        rows.append(
            (
                f"**{name}** (chosen)" if network in chosen else name,
                mean_and_std(runs["test"]),
                mean_and_std(runs["validation"]),
                len(runs),
                f"{network.description['n_parameters']:,}",
                f"{network.description['multiply_adds'] / 1e6:,.0f}",
                network.description["hyperparameters"]["epochs"],
            )
        )
    header = ["model", "test accuracy", "validation accuracy", "n", "parameters", "million multiply-adds", "epochs"]
    return markdown_table(header, rows)


def _runs(network):
    """Return the stored runs of a final model, one row for each seed; None for any other network."""
    h = network.description["hyperparameters"]
    if network.description["kind"] == "mlp":
        kind, finals, made_with = "mlp", mlp_steps.FINALS, MLPHyperparameters(**h)
    else:
        kind, finals, made_with = "cnn", cnn_finals.FINALS, hyperparameters_from_json(h)
    labels = [label for label, final in finals.items() if final == made_with]
    if not labels:
        return None
    rows = read_rows(RESULTS / f"study_{kind}_final.csv")
    return rows[rows["model"] == labels[0]]


def settings_table(networks):
    """Return a Markdown table of the settings that a few networks are trained with, side by side."""
    columns = {network.title: _settings(network, network.description["hyperparameters"]) for network in networks}
    for network in networks:
        if h := network.description.get("mlp_hyperparameters"):
            title = f"its MLP, {'-'.join(map(str, h['hidden_sizes']))}"
            columns[title] = _settings(network, h) | {"training images": "the CNN's features"}
    rows = [(name, *(column[name] for column in columns.values())) for name in columns[networks[0].title]]
    return markdown_table(["", *columns], rows)


def _settings(network, h):
    shift, erase = h.get("shift", 0), h.get("erase", 0)
    variations = {
        "mirrored": h.get("flip"),
        f"shifted by up to {shift} pixel{'s' * (shift > 1)}": shift,
        f"{erase} x {erase} erased": erase,
    }
    return {
        "optimizer": h.get("optimizer", "adamw"),  # every backbone's
        "learning rate": h["learning_rate"],
        "epochs": h["epochs"],
        "batch size": h["batch_size"],
        "weight decay": h["weight_decay"],
        "initial weights": h["init"],
        "dropout": h["dropout"],
        "training images": ", ".join(name for name, is_done in variations.items() if is_done),
    }


def write_between_marks(path, name, text):
    """Replace the text between <!-- name --> and <!-- /name --> in a Markdown file.

    Raises
    ------
    ValueError
        If the file does not have these marks exactly once.
    """
    path = Path(path)
    document, n = re.subn(
        rf"(<!-- {name} -->\n).*(<!-- /{name} -->)",
        lambda marks: f"{marks[1]}{text}\n{marks[2]}",
        path.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if n != 1:
        raise ValueError(f"{path}: expected <!-- {name} --> and <!-- /{name} --> once, found {n}")
    write_text(path, document)
