"""What README and report say of saved networks, so that no number in them is typed by hand."""

import re
from dataclasses import asdict
from pathlib import Path

import cnn
from experiments import cnn_steps, mlp_steps
from experiments.networks import load_networks
from mlp import MLPHyperparameters
from model_utils.backbones import hyperparameters_from_json
from model_utils.cnn_backbone import CNNHyperparameters
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


def results_table():
    """Lay out the models of both notebooks, and the networks settled on."""
    networks = load_networks()
    chosen = [settled_on(networks, kind) for kind in ("mlp", "pair")]
    standard = list(CNNHyperparameters().channels)
    rows = []
    for network in reversed(networks):
        h = network.description["hyperparameters"]
        if network.description["kind"] != "mlp" and h.get("channels") != standard and network not in chosen:
            continue
        name = network.title + (" + MLP" if network.description["kind"] == "pair" else "")
        rows.append(
            (
                f"**{name}**, settled on" if network in chosen else name,
                f"{network.metrics['test']['accuracy']:.4f}",
                _over_seeds(network),
                f"{network.metrics['validation']['accuracy']:.4f}",
                f"{network.description['n_parameters']:,}",
                h["epochs"],
            )
        )
    header = ["model", "test accuracy", "over seeds", "validation accuracy", "parameters", "epochs"]
    return markdown_table(header, rows)


def _over_seeds(network):
    """Say what a network reaches on the test images over several seeds, if it is a final model."""
    h = network.description["hyperparameters"]
    if network.description["kind"] == "mlp":
        steps, made_with = mlp_steps, MLPHyperparameters.from_json(h)
    else:
        steps, made_with = cnn_steps, hyperparameters_from_json(h)
    labels = [label for label, final in steps.FINALS.items() if final == made_with]
    return steps.final_accuracies()[labels[0]] if labels else ""


def settings_table():
    """Lay out what the measured networks, the most accurate first, and the MLP on their features are trained with."""
    settings = [(network.title, network.description["hyperparameters"], network.history) for network in load_networks()]
    settings.append(("the MLP on features", asdict(cnn.CLASSIFIER), []))
    rows = []
    for title, h, history in settings:
        if h.get("frozen"):
            continue
        variations = {
            "mirrored": h.get("flip"),
            f"moved by {h.get('shift')}": h.get("shift"),
            f"square of {h.get('erase')}": h.get("erase"),
        }
        rows.append(
            (
                title,
                h.get("optimizer", "adamw"),  # of which `cnn.train` has no other
                h["learning_rate"],
                h.get("schedule", "cosine"),
                h["epochs"],
                best_epoch(history)["epoch"] if history else "",
                h["batch_size"],
                h["weight_decay"],
                h["dropout"],
                h["label_smoothing"],
                ", ".join(name for name, is_done in variations.items() if is_done),
            )
        )
    header = ["network", "optimizer", "learning rate", "schedule", "epochs", "best", "batch size", "weight decay"]
    return markdown_table([*header, "dropout", "label smoothing", "training images"], rows)


def write_between_marks(path, name, text):
    """Replace what stands between <!-- name --> and <!-- /name --> in a Markdown file.

    Raises
    ------
    ValueError
        If the file has no such marks.
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
