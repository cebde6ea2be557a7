"""Tables of saved networks for README and the report, so that no number is typed by hand."""

import re
from pathlib import Path

from data_preparation import CLASS_NAMES
from experiments import cnn_finals, mlp_steps
from experiments.networks import load_networks
from mlp import MLPHyperparameters
from model_utils.backbones import hyperparameters_from_json
from model_utils.files import write_text
from model_utils.tables import markdown_table
from model_utils.training import best_epoch


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
    of_mlp, of_pair = (_over_seeds(settled_on(networks, kind)).partition(", n = ") for kind in ("mlp", "pair"))
    return (
        f"The best MLP reaches a test accuracy of **{of_mlp[0]}** on raw pixels, and the best pair of CNN and MLP "
        f"**{of_pair[0]}** (means and standard deviations over {of_pair[2]} seeds)."
    )


def results_table():
    """Return a Markdown table of the final models; those settled on are marked."""
    networks = load_networks()
    chosen = [settled_on(networks, kind) for kind in ("mlp", "pair")]
    rows = []
    for network in reversed(networks):
        over_seeds = _over_seeds(network)
        if not over_seeds:
            continue
        name = network.title + (" + MLP" if network.description["kind"] == "pair" else "")
        rows.append(
            (
                f"**{name}** (chosen)" if network in chosen else name,
                f"{network.metrics['test']['accuracy']:.4f}",
                over_seeds,
                f"{network.metrics['validation']['accuracy']:.4f}",
                f"{network.description['n_parameters']:,}",
                f"{network.description['multiply_adds'] / 1e6:,.0f}",
                network.description["hyperparameters"]["epochs"],
            )
        )
    header = [
        "model",
        "test accuracy",
        "over seeds",
        "validation accuracy",
        "parameters",
        "million multiply-adds",
        "epochs",
    ]
    return markdown_table(header, rows)


def _over_seeds(network):
    """Return the test accuracy of a final model over several seeds, as text; "" for any other network."""
    h = network.description["hyperparameters"]
    if network.description["kind"] == "mlp":
        finals, made_with = mlp_steps, MLPHyperparameters.from_json(h)
    else:
        finals, made_with = cnn_finals, hyperparameters_from_json(h)
    labels = [label for label, final in finals.FINALS.items() if final == made_with]
    return finals.final_accuracies()[labels[0]] if labels else ""


def settings_table(networks):
    """Return a Markdown table of the settings that a few networks are trained with, side by side."""
    columns = {network.title: _settings(network, network.description["hyperparameters"]) for network in networks}
    for network in networks:
        if h := network.description.get("mlp_hyperparameters"):
            title = f"its MLP, {'-'.join(map(str, h['hidden_sizes']))}"
            columns[title] = _settings(network, h) | {"precision": "float32", "training images": "the CNN's features"}
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
        "best epoch": best_epoch(network.history)["epoch"],
        "batch size": h["batch_size"],
        "weight decay": h["weight_decay"],
        "initial weights": h["init"],
        "dropout": h["dropout"],
        "precision": network.description.get("dtype") or network.description["trained_on"]["precision"],
        "training images": ", ".join(name for name, is_done in variations.items() if is_done),
    }


def per_class_table(networks):
    """Return a Markdown table of precision, recall and F1 of each class on the test images, for a few networks."""
    names = ("precision", "recall", "f1")
    tests = [network.metrics["test"] for network in networks]
    rows = [
        [label, *(f"{test['per_class'][label][name]:.3f}" for test in tests for name in names)] for label in CLASS_NAMES
    ]
    rows.append(["macro mean", *(f"{test[name]:.3f}" for test in tests for name in names)])
    kinds = [network.description["kind"].replace("mlp", "MLP") for network in networks]
    header = [f"{kind}: {name.replace('f1', 'F1')}" for kind in kinds for name in names]
    return markdown_table(["class", *header], rows)


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
