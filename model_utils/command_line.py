"""What the commands of `mlp.py` and `cnn.py` have in common."""

import argparse
import contextlib
import sys
from dataclasses import field, fields, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from model_utils.saved_models import is_saved
from model_utils.tables import markdown_table

# An accuracy on 10,000 images may differ by this much from the stored one: another processor rounds differently.
ACCURACY_TOLERANCE = 0.0005

SPLIT_OPTIONS = {
    "train": (48_000, "training images"),
    "validation": (12_000, "validation images"),
    "test": ("official", "'official' for the 10,000 that Zalando set apart, or a number to draw all from the 70,000"),
}


def option(default, text):
    """Declare a hyperparameter, a field of a dataclass: its default, and what --help says of it."""
    return field(default=default, metadata={"help": text})


def add_options(parser, defaults, prefix="", leave_out=()):
    """Give the parser an option for each field of an instance of hyperparameters: --batch-size for batch_size."""
    for f in fields(defaults):
        if f.name in leave_out:
            continue
        if f.type is bool:
            kind = {"action": argparse.BooleanOptionalAction}
        elif f.type is tuple:
            kind = {"type": int, "nargs": "*", "metavar": "N"}
        else:
            kind = {"type": f.type, "metavar": f.type.__name__.upper()}
        flag = "--" + (prefix + f.name).replace("_", "-")
        parser.add_argument(flag, default=getattr(defaults, f.name), help=f.metadata["help"], **kind)


def read_options(args, defaults, prefix="", leave_out=()):
    """Make the hyperparameters from the options that `add_options`, called alike, gave."""
    names = [f.name for f in fields(defaults) if f.name not in leave_out]
    return replace(defaults, **_with_tuples({name: getattr(args, prefix + name) for name in names}))


def from_json(hyperparameters_class, values):
    """Make the hyperparameters from what JSON kept of them: it knows lists only, no tuples."""
    return hyperparameters_class(**_with_tuples(values))


def _with_tuples(values):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def add_training_options(parser, models_dir):
    """Give the parser the options for the split, and for the folder of the saved model."""
    for part, (default, text) in SPLIT_OPTIONS.items():
        kind = _official_or_number if part == "test" else int
        parser.add_argument(f"--{part}-size", type=kind, default=default, help=text)
    parser.add_argument("--split-seed", type=int, default=0, help="for the split")
    parser.add_argument("--models-dir", type=Path, default=Path(models_dir), help="where the folder goes")
    parser.add_argument("--overwrite", action="store_true", help="replace a saved model of the same name")


def _official_or_number(text):
    try:
        return text if text == "official" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected official or a number, got {text!r}") from None


def read_split(args):
    """Return the arguments of `load_splits` from the options that `add_training_options` gave."""
    return {part: getattr(args, f"{part}_size") for part in SPLIT_OPTIONS} | {"seed": args.split_seed}


@contextlib.contextmanager
def reserved(path):
    """Keep other processes from training what is to be saved at this path, or what keeps its checkpoints there.

    Raises
    ------
    ValueError
        If another process is at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock.tmp"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{path}: another process is training it; choose another --models-dir") from None
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def check_folder_is_free(folder, overwrite):
    """Raise a ValueError if a model is saved in the folder already, unless it may be replaced."""
    if (is_saved(folder) or folder.exists()) and not overwrite:
        raise ValueError(f"{folder} exists; choose another --models-dir, or replace it with --overwrite")


def add_readers(commands, evaluate, inspect, predict):
    """Add the commands that read a saved model, each with its function; return their parsers."""
    texts = {
        "evaluate": (evaluate, "run a saved model on the test images and compare its accuracy with the stored one"),
        "inspect": (inspect, "show what a saved model is, how it was trained and how good it is"),
        "predict": (predict, "name the garment in each picture"),
    }
    readers = []
    for name, (function, text) in texts.items():
        reader = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        reader.add_argument("folder", type=Path, help="a saved model, such as models/mlp/NAME")
        reader.set_defaults(command=function)
        readers.append(reader)
    readers[-1].add_argument("pictures", type=Path, nargs="+", help="image files; they are made grey and 28 x 28")
    readers[-1].add_argument("--invert", action="store_true", help="for a dark garment on a light background")
    return readers


def check_whole(saved, names):
    """Look up all that `evaluate` and `inspect` ask of a saved model: better missed at once than half-way.

    Parameters
    ----------
    saved : SavedModel
    names : sequence of str
        Of its description.

    Raises
    ------
    KeyError, TypeError, ValueError
        If something is missing, or the history has another number of epochs than were run.
    """
    for name in names:
        saved.description[name]
    for part in ("validation", "test"):
        for name in ("accuracy", "precision", "recall", "f1", "per_class"):
            saved.metrics[part][name]
    n_epochs = saved.description["epochs_run"]
    n_epochs = sum(n_epochs.values()) if isinstance(n_epochs, dict) else n_epochs
    if n_epochs != len(saved.history):
        raise ValueError(f"history.csv: expected {n_epochs} epochs, got {len(saved.history)}")


def report_accuracy(program, accuracy, saved, n_images):
    """Print a test accuracy; return exit status 0 if the saved model has the same one stored, else 1."""
    stored = saved.metrics["test"]["accuracy"]
    agrees = abs(accuracy - stored) <= max(ACCURACY_TOLERANCE, 1 / n_images)
    if not agrees:
        print(
            f"{program}: the stored test accuracy is {stored:.4f}: the weights are not those measured", file=sys.stderr
        )
    print(f"{n_images:,} test images")
    print(f"test accuracy {accuracy:.4f}")
    return 0 if agrees else 1


def print_history(history, best, name="history"):
    """Print the best and the last epoch of a training."""
    columns = ["epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    rows = [
        [label, f"{row['epoch']:.0f}", *(f"{row[key]:.4f}" for key in columns[1:])]
        for label, row in (("best", best), ("last", history[-1]))
    ]
    print(markdown_table([name, *columns], rows))


def print_metrics(metrics):
    """Print what `mlp.evaluate` measured on validation and test images, ending with the two accuracies."""
    names = ["precision", "recall", "f1"]
    rows = [[name, *(f"{row[key]:.4f}" for key in names)] for name, row in metrics["test"]["per_class"].items()]
    rows.append(["macro mean", *(f"{metrics['test'][key]:.4f}" for key in names)])
    print(markdown_table(["test, per class", *names], rows), end="\n\n")
    for part in ("validation", "test"):
        print(f"{part} accuracy {metrics[part]['accuracy']:.4f}")


def print_probabilities(path, probabilities, class_names):
    """Print the three most probable classes of a picture; probabilities has shape (K,)."""
    best_three = np.argsort(probabilities)[:-4:-1]
    print(f"{path}: {', '.join(f'{class_names[k]} {probabilities[k]:.3f}' for k in best_three)}")


def run(parser, arguments, errors):
    """Run the command that the arguments name; print the given kinds of errors as one line each.

    Returns
    -------
    int
        The exit status: the command's own, 1 after an error, 130 after Ctrl-C.
    """
    args = parser.parse_args(arguments)
    try:
        return args.command(args)
    except errors as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
