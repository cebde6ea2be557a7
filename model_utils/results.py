"""What documents say of stored results, so that no number in them is typed by hand.

The command line:

    python -m model_utils.results models                     print the table of the models saved under models/
    python -m model_utils.results models --into README.md    write the results between the marks in README.md
"""

import argparse
import re
import statistics
from pathlib import Path

from model_utils.saved_models import load_model
from model_utils.tables import markdown_table, read_csv

EPOCH_TIMES = Path(__file__).parents[1] / "results" / "mlp_epoch.csv"  # from make bench


def models_table(models_dir):
    """Lay out the test accuracy and training time of every saved model under a folder.

    Parameters
    ----------
    models_dir : path
        Holds a folder for each kind of model, such as mlp, with the saved models in it.

    Returns
    -------
    str
        A Markdown table, least accurate first.
    """
    folders = [path.parent for path in Path(models_dir).glob("*/*/model.json") if not path.parent.name.endswith(".tmp")]
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


def speed_sentence(path=EPOCH_TIMES):
    """Say how long an epoch takes in NumPy and in PyTorch, from the rounds that `benchmarks.mlp_epoch` stored."""
    rows = read_csv(path, text_columns=("library", "version", "processor"))
    numpy_rows, torch_rows = ([row for row in rows if row["library"] == name] for name in ("NumPy", "PyTorch"))
    medians = [statistics.median(row["seconds"] for row in part) for part in (numpy_rows, torch_rows)]
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(numpy_rows, torch_rows, strict=True)]
    return (
        f"An epoch of 784-128-10 on 60,000 images at batch 128 takes {medians[0]:.2f} s in NumPy "
        f"{numpy_rows[0]['version']} and {medians[1]:.2f} s in PyTorch {torch_rows[0]['version']} (CPU, eager, its "
        f"fused optimizer), medians of {len(ratios)} alternating rounds on {rows[0]['processor']} with "
        f"{rows[0]['threads']} threads. Round by round, the NumPy MLP is "
        f"{statistics.median(ratios):.2f} times as fast in the median ({min(ratios):.2f} to {max(ratios):.2f})."
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


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description="Print the table of saved models, or write all results into a document."
    )
    parser.add_argument("models_dir", type=Path, help="such as models")
    parser.add_argument("--into", type=Path, help="a Markdown file with the marks <!-- models --> and <!-- speed -->")
    args = parser.parse_args()
    table = models_table(args.models_dir)
    print(table)
    if args.into:
        write_between_marks(args.into, "models", table)
        write_between_marks(args.into, "speed", speed_sentence())


if __name__ == "__main__":
    main()
