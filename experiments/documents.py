"""What documents say of stored results, so that no number in them is typed by hand.

The command line:

    python -m model_utils.results                         print the table of the models saved under models/
    python -m model_utils.results --into README.md        write the results between the marks in README.md
"""

import argparse
import json
import re
import statistics
from pathlib import Path

from model_utils.records import RECORDS, load_records
from model_utils.saved_models import list_saved, load_model
from model_utils.tables import markdown_table, read_csv

MODELS = Path(__file__).parents[1] / "models"
RESULTS = Path(__file__).parents[1] / "results"
SEEDS = RESULTS / "cnn_seeds.csv"  # from cnn_implementation.ipynb
LIBRARIES_CSV = RESULTS / "libraries.csv"  # from comparison.py libraries

# The ways of transfer learning that people compare: those without a record were not measured.
TRANSFER = tuple(
    network + way
    for network in ("resnet18", "vgg11_bn", "vgg16_bn", "efficientnet_lite0")
    for way in ("", "_ImageNet", "_ImageNet_frozen")
)


def models_table(folders):
    """Lay out the test accuracy and training time of saved models.

    Parameters
    ----------
    folders : list of path

    Returns
    -------
    str
        A Markdown table, least accurate first.
    """
    saved_models = {folder: load_model(folder) for folder in folders}
    by_accuracy = sorted(saved_models.items(), key=lambda item: item[1].metrics["test"]["accuracy"])
    rows = [
        (
            folder.name,
            f"{saved.metrics['test']['accuracy']:.4f}",
            f"{saved.metrics['validation']['accuracy']:.4f}",
            f"{saved.description['n_parameters']:,}",
            f"{saved.description['training_seconds']:.0f} s",
        )
        for folder, saved in by_accuracy
    ]
    return markdown_table(["model", "test accuracy", "validation accuracy", "parameters", "training time"], rows)


def recorded_models_table():
    """Lay out the models in models/ that are recorded: what else is trained there is not the documents' business."""
    recorded = {record.model for record in load_records()}
    return models_table([folder for folder in list_saved(MODELS) if folder.name in recorded])


def seeds_sentence(path=SEEDS):
    """Say what the CNN features with the MLP by hand reach over several seeds, from what the notebook stored."""
    rows = read_csv(path)
    made_with = json.loads(Path(path).with_suffix(".json").read_text(encoding="utf-8"))
    channels = "-".join(map(str, made_with["backbone"]["channels"]))
    means = {column: statistics.mean(row[column] for row in rows) for column in ("test", "head_test")}
    stds = {column: statistics.stdev(row[column] for row in rows) for column in means}
    return (
        f"CNN features ({channels}) with the MLP by hand, over {len(rows)} seeds: test accuracy "
        f"{means['test']:.4f} ± {stds['test']:.4f} (mean and standard deviation); the backbone's own head "
        f"{means['head_test']:.4f} ± {stds['head_test']:.4f}."
    )


def networks_table(folder=RECORDS):
    """Lay out what every recorded network reached on the test images, and which networks were not measured.

    Returns
    -------
    str
        A Markdown table, most accurate first.
    """
    records = load_records(folder)
    rows = []
    for record in records:
        test, head = record.metrics["test"], record.metrics.get("head_test")
        rows.append(
            (
                record.title,
                *(f"{test[quantity]:.4f}" for quantity in ("accuracy", "precision", "recall", "f1")),
                f"{head['accuracy']:.4f}" if head else "",
                f"{record.parameters:,}",
                f"{record.multiply_adds:,}",
                f"{record.training_seconds:.0f} s",
                f"{record.images_per_second:,.0f}",
            )
        )
    titles = {record.title for record in records}
    rows += [(title, "not measured", *[""] * 8) for title in TRANSFER if title not in titles]
    header = ["network", "test accuracy", "precision", "recall", "F1", "accuracy of its own head", "parameters"]
    return markdown_table([*header, "multiply-adds", "training", "images/s"], rows)


def libraries_table(path=LIBRARIES_CSV):
    """Lay out what the same MLP reaches in several libraries, and scikit-learn's own classifiers."""
    rows = read_csv(path, text_columns=("system", "version", "network", "processor", "commit"))
    return markdown_table(
        ["network", "system", "validation accuracy", "test accuracy", "seconds an epoch"],
        [
            (
                row["network"],
                f"{row['system']} {row['version']}",
                f"{row['validation_accuracy']:.4f}",
                f"{row['test_accuracy']:.4f}",
                f"{row['seconds']:.2f}" + ("" if row["epochs"] else " in all"),
            )
            for row in rows
        ],
    )


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
    path.write_text(document, encoding="utf-8")


# What can stand between marks of these names.
TEXTS = {
    "models": recorded_models_table,
    "seeds": seeds_sentence,
    "networks": networks_table,
    "libraries": libraries_table,
}


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description="Print the table of saved models, or write all results into documents."
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument("models_dir", type=Path, nargs="?", default=MODELS, help="such as models")
    either.add_argument("--into", type=Path, metavar="FILE", help=f"Markdown with marks: {', '.join(TEXTS)}")
    args = parser.parse_args()
    if args.into is None:
        print(models_table(list_saved(args.models_dir)))
        return
    document = args.into.read_text(encoding="utf-8")
    for name in TEXTS:
        if f"<!-- {name} -->" in document:
            write_between_marks(args.into, name, TEXTS[name]())


if __name__ == "__main__":
    main()
