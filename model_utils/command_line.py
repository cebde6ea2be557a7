"""What the commands of `mlp.py` and `cnn.py` have in common."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from model_utils.checks import check_choice
from model_utils.saved_models import NotSavedError, is_saved

# An accuracy on 10,000 images may differ from the stored one by this much, since CPUs round differently.
ACCURACY_TOLERANCE = 0.0005

MAX_NAME = 200  # characters in a folder's name; file systems allow 255, including what is added while saving

SPLIT_OPTIONS = {
    "train": (48_000, "training images"),
    "validation": (12_000, "validation images"),
    "test": ("official", "'official' for Zalando's 10,000 test images, or a number to draw all parts from the 70,000"),
}


def add_options(parser, defaults, prefix="", leave_out=()):
    """Add an option for each field of these hyperparameters to the parser, such as --batch-size for batch_size."""
    for f in fields(defaults):
        if f.name in leave_out:
            continue
        default = getattr(defaults, f.name)
        if f.type is bool:
            kind = {"action": argparse.BooleanOptionalAction}
        elif f.type is tuple:
            kind = {"type": int, "nargs": "*", "metavar": "N"}
            default = " ".join(map(str, default))
        else:
            kind = {"type": f.type, "metavar": f.type.__name__.upper()}
        flag = "--" + (prefix + f.name).replace("_", "-")
        text = f"{f.metadata['help']} (default: {default})"
        parser.add_argument(flag, default=argparse.SUPPRESS, help=text, **kind)


def read_options(args, defaults, prefix=""):
    """Return the defaults with the values of those options of `add_options` (with the same prefix) that were given."""
    given = {f.name: getattr(args, prefix + f.name) for f in fields(defaults) if hasattr(args, prefix + f.name)}
    try:
        return replace(defaults, **{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})
    except ValueError as error:  # it begins with the field's name
        raise ValueError(f"{prefix}{error}") from error


def add_backbone_options(parser, backbones):
    """Add --backbone, an option for each field that all kinds share, and a group of options for each kind.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    backbones : dict of str to class
        `model_utils.backbones.BACKBONES`.
    """
    kinds = {kind: [name for name, other in backbones.items() if other is kind] for kind in backbones.values()}
    shared = set.intersection(*({f.name for f in fields(kind.Hyperparameters)} for kind in kinds))
    default, *_ = backbones
    parser.add_argument("--backbone", default=default, metavar="NAME", help=f"one of {', '.join(backbones)}")
    defaults = backbones[default].Hyperparameters()
    own_of_default = {f.name for f in fields(defaults)} - shared
    add_options(parser, defaults, leave_out={"backbone"} | own_of_default)
    for kind, names in kinds.items():
        if {f.name for f in fields(kind.Hyperparameters)} != shared:
            add_options(parser.add_argument_group(", ".join(names)), kind.Hyperparameters(), leave_out=shared)


def read_backbone_options(args, backbones):
    """Return the hyperparameters from the options of `add_backbone_options`.

    Raises
    ------
    ValueError
        If there is no such backbone, or an option belongs to another kind.
    """
    check_choice("backbone", args.backbone, backbones)
    own = backbones[args.backbone].Hyperparameters(backbone=args.backbone)
    own_names = {f.name for f in fields(own)}
    for name, kind in backbones.items():
        for f in fields(kind.Hyperparameters):
            if hasattr(args, f.name) and f.name not in own_names:
                raise ValueError(f"{f.name}: an option of {name}, not of {args.backbone}")
    return read_options(args, own)


def add_training_options(parser, models_dir):
    """Add the options for the split, and for the folder of the saved model."""
    for part, (default, text) in SPLIT_OPTIONS.items():
        kind = _official_or_number if part == "test" else int
        parser.add_argument(f"--{part}-size", type=kind, default=default, help=text)
    parser.add_argument("--split-seed", type=int, default=0, help="seed of the split")
    parser.add_argument("--models-dir", type=Path, default=Path(models_dir), help="where the model's folder is created")
    parser.add_argument("--overwrite", action="store_true", help="replace a saved model of the same name")


def _official_or_number(text):
    try:
        return text if text == "official" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected official or a number, got {text!r}") from None


def train_command(program, hyperparameters, split, more=()):
    """Return the command line that trains with these hyperparameters on this split.

    Parameters
    ----------
    program : str
    hyperparameters, split
        As `read_options` (or `read_backbone_options`) and `read_split` return them for this command line.
    more : iterable of str
        More options.
    """
    backbone = getattr(hyperparameters, "backbone", None)
    defaults = type(hyperparameters)(**({"backbone": backbone} if backbone else {}))
    words = ["python", program, "train", *([f"--backbone {backbone}"] if backbone else [])]
    words += [*changed_options(hyperparameters, defaults), *more]
    words += [f"--{part}-size {split[part]}" for part, (default, _) in SPLIT_OPTIONS.items() if split[part] != default]
    words += [f"--split-seed {split['seed']}"] if split.get("seed") else []
    return " ".join(words)


def changed_options(hyperparameters, defaults, prefix=""):
    """Return the options of `add_options` that turn the defaults into these hyperparameters."""
    options = []
    for f in fields(defaults):
        value, option = getattr(hyperparameters, f.name), (prefix + f.name).replace("_", "-")
        if value == getattr(defaults, f.name):
            continue
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        else:
            options.append(f"--{option} {' '.join(map(str, value)) if isinstance(value, tuple) else value}".rstrip())
    return options


def read_split(args):
    """Return the arguments of `load_splits` from the options that `add_training_options` added."""
    return {part: getattr(args, f"{part}_size") for part in SPLIT_OPTIONS} | {"seed": args.split_seed}


@contextlib.contextmanager
def reserved(path, what="it"):
    """Lock `path`, where a model or its checkpoints are to be saved; raise if another process holds the lock.

    Parameters
    ----------
    path : path
    what : str
        What another process would be training there, for the message.

    Raises
    ------
    ValueError
        If another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock.tmp"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{path}: another process is training {what}; choose another --models-dir") from None
    try:
        yield
    finally:
        # Remove the file while it is locked: a process that waits for it then notices, and makes a new one. Windows
        # can only remove a file that nobody has open.
        if os.name != "nt":
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        if os.name == "nt":
            with contextlib.suppress(PermissionError):
                Path(lock.lock_file).unlink(missing_ok=True)


def check_name(folder):
    """Raise a ValueError if the name that a model would be saved under is too long for a file system."""
    if len(folder.name) > MAX_NAME:
        raise ValueError(
            f"the folder's name would have {len(folder.name)} characters, more than {MAX_NAME}; use fewer layers"
        )


def check_folder_is_free(folder, overwrite):
    """Raise a ValueError if a model is saved in the folder already, unless it may be replaced."""
    if is_saved(folder) and not overwrite:
        raise ValueError(f"{folder} exists; choose another --models-dir, or replace it with --overwrite")


def save_or_rescue(save, folder):
    """Save a trained model; if that fails, save it in a temporary folder, so that its training is not lost.

    Parameters
    ----------
    save : callable
        Takes a folder.
    folder : path

    Raises
    ------
    NotSavedError
        If it was not saved in the folder; the message says where it is.
    """
    try:
        save(folder)
    except NotSavedError as error:
        try:
            elsewhere = Path(tempfile.mkdtemp()) / folder.name
            save(elsewhere)
        except (NotSavedError, OSError) as again:
            raise NotSavedError(f"{error}; saving it elsewhere failed, too: {again}") from again
        raise NotSavedError(f"{error}; it is in {elsewhere} instead: move it from there") from error


def add_readers(commands, evaluate, inspect, predict):
    """Add the commands that every saved model has, each with its function; return their parsers."""
    readers = [
        add_reader(
            commands,
            "evaluate",
            evaluate,
            "run a saved model on the test images and compare its accuracy with the stored one",
        ),
        add_reader(commands, "inspect", inspect, "show what a saved model is, how it was trained and how good it is"),
        add_reader(commands, "predict", predict, "name the garment in each picture"),
    ]
    readers[-1].add_argument("pictures", type=Path, nargs="+", help="image files; they become 28 x 28 grey images")
    readers[-1].add_argument("--invert", action="store_true", help="for a dark garment on a light background")
    return readers


def add_reader(commands, name, function, text):
    """Add a command that reads a saved model; return its parser."""
    reader = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    reader.add_argument("folder", type=Path, help="a saved model, such as models/mlp/NAME")
    reader.set_defaults(command=function)
    return reader


def agrees(accuracy, saved, n_images):
    """Return whether a test accuracy agrees with the stored one: up to rounding on another CPU, or one image."""
    return abs(accuracy - saved.metrics["test"]["accuracy"]) <= max(ACCURACY_TOLERANCE, 1 / n_images)


def report_accuracy(program, accuracy, saved, n_images):
    """Print a test accuracy; return exit status 0 if it agrees with the stored one, else 1."""
    is_stored = agrees(accuracy, saved, n_images)
    if not is_stored:
        stored = saved.metrics["test"]["accuracy"]
        print(
            f"{program}: the stored test accuracy is {stored:.4f}, so these are not the weights that were measured",
            file=sys.stderr,
        )
    print(f"{n_images:,} test images")
    print(f"test accuracy {accuracy:.4f}")
    return 0 if is_stored else 1


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
        status = args.command(args)
    except errors as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        _ignore_ctrl_c(arguments)
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        status = 130
    if status == 130:
        _ignore_ctrl_c(arguments)
    return status


def _ignore_ctrl_c(arguments):
    """If the process ends after this command, keep a second Ctrl-C from changing how it ends."""
    if arguments is None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
