"""The page of a saved model: README.md and its pictures, which code hosts show; `inspect` prints its text."""

import io
import textwrap

from model_utils.tables import markdown_table
from model_utils.training import best_epoch

PAGE, CURVES, CONFUSION = "README.md", "curves.png", "confusion.png"

# Accuracies that may have been measured besides the model's own.
OTHER_ACCURACIES = {
    "head_test": "test accuracy of the backbone's own head",
    "test_one_view": "test accuracy with one view of each image",
}


def page(name, what, usage, command, structure, saved, weights_sha256):
    """Return the files of a saved model's page.

    Parameters
    ----------
    name : str
        The name of the folder.
    what : str
        What the model is, in one sentence.
    usage : str
        Python code that loads the model from `folder`, and predicts for `images`.
    command : str
        The command that trains such a model.
    structure, saved, weights_sha256
        See `facts`.

    Returns
    -------
    dict of str to bytes
        By file name: the text, and the pictures that it shows.
    """
    # Matplotlib takes memory, and training does not need it.
    from model_utils import plots

    test = saved.metrics["test"]
    text = f"""# {name}

{what} Test accuracy **{test["accuracy"]:.4f}**. To load it, set `folder` to the path of this folder; `images` are
uint8, shape (N, 28, 28):

```python
{usage}
```

To train it again:

```
{command}
```

![Loss and accuracy over the epochs]({CURVES})

![Confusion matrix of the test images]({CONFUSION})

{facts(structure, saved, weights_sha256)}
"""
    pictures = {
        CURVES: plots.learning_curves(_histories(saved)),
        CONFUSION: plots.confusion_matrices({"test images": test["confusion_matrix"]}, list(test["per_class"])),
    }
    return {PAGE: text.encode()} | {name: _as_png(figure) for name, figure in pictures.items()}


def facts(structure, saved, weights_sha256):
    """Return a description of a saved model: what it is, how it was trained and how good it is.

    Parameters
    ----------
    structure : str
        The model's layers, as Markdown.
    saved : SavedModel
    weights_sha256 : str
        The checksum of the weights file.

    Returns
    -------
    str
        Markdown, with the test accuracy as its last line.
    """
    description, metrics = saved.description, saved.metrics
    chosen = ("hyperparameters", "mlp_hyperparameters", "split", "trained_on", "versions")
    tables = [_facts_table(name, description[name]) for name in chosen if description.get(name)]
    sizes = f"{description['n_parameters']:,} parameters, {description['multiply_adds']:,} multiply-adds per prediction"
    others = [f"{text} {metrics[part]['accuracy']:.4f}" for part, text in OTHER_ACCURACIES.items() if part in metrics]
    return "\n\n".join(
        [
            "## Layers",
            structure,
            f"{sizes}. SHA-256 of the weights file: {weights_sha256}",
            "## Hyperparameters",
            *tables,
            "## Training",
            *(_best_and_last(part, history) for part, history in _histories(saved).items()),
            f"Training took {description['training_seconds']} seconds. {_measured_on(saved)}",
            "## Accuracy",
            _per_class(metrics["test"]),
            *others,
            *(f"{part} accuracy {metrics[part]['accuracy']:.4f}" for part in ("validation", "test")),
        ]
    )


def as_code(text):
    """Return a text as Markdown that keeps its line breaks."""
    return textwrap.indent(text, "    ")


def _facts_table(name, values):
    rows = [(k, " ".join(map(str, v)) if isinstance(v, list | tuple) else v) for k, v in values.items()]
    return markdown_table([name, "value"], rows)


def _histories(saved):
    """Return the history of each part that was trained: the model itself, or a pair's backbone and its MLP."""
    parts = dict.fromkeys(row.get("part", "MLP") for row in saved.history)
    return {
        part.replace("mlp", "MLP"): [row for row in saved.history if row.get("part", "MLP") == part] for part in parts
    }


def _measured_on(saved):
    """Return a sentence on the inputs that the accuracies of a history were measured on."""
    parts = list(_histories(saved))
    if saved.description["kind"] == "mlp" or parts == ["backbone"]:
        return "During training, accuracy was measured on one view of each image."
    if "backbone" not in parts:
        return "During training, accuracy was measured on the mean features of all views of an image."
    return (
        "During training, the accuracy of the backbone was measured on one view of each image, that of the MLP on the "
        "mean features of all views."
    )


def _best_and_last(part, history):
    columns = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    rows = [
        [label, f"{row['epoch']:.0f}", *(f"{row[key]:.4f}" for key in columns)]
        for label, row in (("best", best_epoch(history)), ("last", history[-1]))
    ]
    return markdown_table([part, "epoch", *(column.replace("_", " ") for column in columns)], rows)


def _per_class(test):
    names = ["precision", "recall", "f1"]
    rows = [[label, *(f"{row[name]:.4f}" for name in names)] for label, row in test["per_class"].items()]
    rows.append(["macro mean", *(f"{test[name]:.4f}" for name in names)])
    return markdown_table(["test images", *names], rows)


def _as_png(figure):
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80, pil_kwargs={"optimize": True})
    return content.getvalue()
