"""Train, evaluate and save the NumPy MLP of `model_utils.mlp`: as functions for notebooks, or as a command.

The commands, each with --help:

    python mlp.py train --hidden-sizes 256 128 --epochs 20
    python mlp.py evaluate models/mlp/NAME
    python mlp.py inspect models/mlp/NAME
    python mlp.py predict models/mlp/NAME picture.png
"""

import argparse
import contextlib
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data_preparation import (
    CLASS_NAMES,
    N_VIEWS,
    DataError,
    Splits,
    augment,
    batches,
    check_split_sizes,
    load_splits,
    preprocess,
    ten_views,
)
from model_utils import checks, command_line, mlp_training, model_page
from model_utils.hyperparameters import count, flag
from model_utils.losses import softmax
from model_utils.mlp import MLP, state_layout
from model_utils.mlp_training import ClassifierHyperparameters
from model_utils.saved_models import (
    SavedModel,
    SavedModelError,
    load_model,
    naming,
    save_model,
    versions,
    weights_sha256,
)
from model_utils.training import EpochBar, TrainingDiverged, best_epoch, check_batches, measure


@dataclass(frozen=True)
class MLPHyperparameters(ClassifierHyperparameters):
    """Hyperparameters of an MLP that is trained on images."""

    flip: bool = flag(False, "mirror each training image with probability 1/2, differently in each epoch")
    shift: int = count(0, "shift training images by up to this many pixels, differently each time", 0, checks.MAX_SHIFT)
    n_views: int = count(
        1,
        "predict from the mean logits of this many views: the image, with shifts 5, with mirror images 10",
        maximum=N_VIEWS,
    )


def build(hyperparameters, n_inputs=28 * 28, dtype=np.float32):
    """Make the untrained MLP that the hyperparameters describe, for `n_inputs` inputs and the ten classes."""
    checks.check_is("hyperparameters", hyperparameters, ClassifierHyperparameters)
    return mlp_training.build(hyperparameters, n_inputs, len(CLASS_NAMES), dtype)


def train(model, training, validation, hyperparameters, on_epoch=None):
    """Train an MLP with mini-batches; it keeps the weights that were best on validation.

    The loop is `model_utils.mlp_training.run_epochs`. Images are pre-processed one batch at a time, so the
    data set stays uint8 in memory.

    Parameters
    ----------
    model : MLP
        From `build`. However training ends, by early stopping, Ctrl-C or an error, the model keeps the weights of
        the epoch with the highest validation accuracy so far, or its initial weights if no epoch was finished.
    training, validation : Split
        Images, uint8 of shape (N, 28, 28), or features, float of shape (N, D), with labels, int of shape (N,).
    hyperparameters : ClassifierHyperparameters
        For images, MLPHyperparameters.
    on_epoch : callable, optional
        Called with each row of the history as soon as its epoch is over. An exception that it raises ends training.

    Returns
    -------
    list of dict
        The history; see `run_epochs`.

    Raises
    ------
    ValueError
        If images, features or labels are invalid.
    TrainingDiverged
        If the loss is NaN or infinite.
    """
    h = hyperparameters
    checks.check_is("hyperparameters", h, ClassifierHyperparameters)
    if on_epoch is not None:
        checks.check_callable("on_epoch", on_epoch)
    x_train, labels_train = _checked(model, training, "training")
    if (h.flip or h.shift) and x_train.dtype != np.uint8:
        raise ValueError(f"training images: flip and shift need images, uint8, got features, {x_train.dtype}")
    x_scaled = np.empty((min(h.batch_size, len(x_train)), model.sizes[0]), np.float32)
    validation = _checked(model, validation, "validation")
    check_batches(h.batch_norm, h.batch_size, len(x_train))

    def epoch_batches(rng):
        for x, labels in batches(x_train, labels_train, h.batch_size, rng):
            if h.flip or h.shift:
                x = augment(x, rng, h.flip, h.shift)
            yield _as_inputs(x, out=x_scaled[: len(x)]), labels, None

    def validate(objective):
        return _loss_and_accuracy(model, *validation, objective)

    return mlp_training.run_epochs(model, epoch_batches, len(x_train), validate, h, on_epoch)


def predict_logits(model, x, n_views=1, batch_size=1000):
    """Compute the logits of any number of images or features, `batch_size` at a time.

    Parameters
    ----------
    model : MLP
    x : ndarray of uint8, shape (N, 28, 28), or of float, shape (N, D)
    n_views : int
        Return the mean logits of this many views of each image: the first of `data_preparation.ten_views`.
    batch_size : int

    Returns
    -------
    ndarray of float, shape (N, K)

    Raises
    ------
    ValueError
        If an argument is invalid.
    """
    checks.check_count("n_views", n_views, maximum=N_VIEWS)
    checks.check_count("batch_size", batch_size)
    x = _checked_inputs(model, checks.check_images(x, "x") if n_views > 1 else x, "x")

    def logits(part):
        if n_views > 1:
            return np.mean([model.forward(preprocess(view)) for view in ten_views(part)[:n_views]], axis=0)
        return model.forward(_as_inputs(part))

    return np.concatenate([logits(x[start : start + batch_size]) for start in range(0, len(x), batch_size)])


def evaluate(model, split, n_views=1):
    """Measure a trained model on a split of images or of features; see `model_utils.training.measure`.

    Parameters
    ----------
    model : MLP
    split : Split
    n_views : int
        See `predict_logits`.

    Returns
    -------
    dict
        The metrics, from `measure`.

    Raises
    ------
    ValueError
        If images, features or labels are invalid.
    """
    checks.check_count("n_views", n_views, maximum=N_VIEWS)
    x, labels = _checked(model, split, "split")
    if n_views > 1:
        checks.check_images(x, "split images")
    return measure(predict_logits(model, x, n_views), labels, CLASS_NAMES)


def measure_mlp(model, splits, hyperparameters):
    """Measure a trained MLP on validation and test images; if it predicts from several views, also from one.

    Returns
    -------
    dict of str to dict
        What `evaluate` returns for "validation" and "test" and, if there are several views, for "validation_one_view"
        and "test_one_view".
    """
    h = hyperparameters
    checks.check_is("splits", splits, Splits)
    checks.check_is("hyperparameters", h, ClassifierHyperparameters)
    parts = {"validation": splits.validation, "test": splits.test}
    metrics = {name: evaluate(model, split, h.n_views) for name, split in parts.items()}
    if h.n_views > 1:
        metrics |= {f"{name}_one_view": evaluate(model, split) for name, split in parts.items()}
    return metrics


def _as_inputs(x, out=None):
    """Turn images into inputs, written into `out` if it is given; return features unchanged."""
    return preprocess(x, out) if x.dtype == np.uint8 else x


def _checked(model, split, part):
    x, labels = map(
        np.ascontiguousarray, checks.check_split(part, split)
    )  # gathering rows is fast in contiguous arrays
    x = _checked_inputs(model, x, f"{part} {'images' if x.dtype == np.uint8 else 'inputs'}")
    return x, checks.check_labels(labels, len(x), model.sizes[-1], name=f"{part} labels")


def _checked_inputs(model, x, name):
    checks.check_is("model", model, MLP)
    x = checks.as_array(name, x)
    if x.dtype == np.uint8:
        checks.check_inputs(_as_inputs(checks.check_images(x, name)[:1]), model.sizes[0], name=name)
        return x
    return checks.check_inputs(x, model.sizes[0], name=name)


def _loss_and_accuracy(model, x, labels, objective):
    logits = predict_logits(model, x)
    return objective(logits, labels)[0], float(np.mean(logits.argmax(axis=1) == labels))


def save(folder, model, hyperparameters, history, split, metrics):
    """Write a trained MLP to `folder`, with everything needed to describe it and to train it again.

    Parameters
    ----------
    folder : path
    model : MLP
    hyperparameters : MLPHyperparameters
    history : list of dict
        From `train`.
    split : dict
        The arguments of `load_splits`.
    metrics : dict
        From `measure_mlp`.

    Raises
    ------
    NotSavedError
        See `saved_models.save_model`.
    """
    description = {
        "kind": "mlp",
        "sizes": list(model.sizes),
        "n_parameters": model.n_parameters,
        "multiply_adds": model.n_weights * hyperparameters.n_views,
        "dtype": model.dtype.name,
        "hyperparameters": asdict(hyperparameters),
        "split": split,
        "epochs_run": len(history),
        "best_epoch": best_epoch(history)["epoch"],
        "training_seconds": round(sum(row["seconds"] for row in history), 2),
        "versions": versions("numpy", "scikit-learn"),
    }
    saved = SavedModel(model.state(), description, history, metrics)
    name, n_views = Path(folder).name, hyperparameters.n_views
    usage = f"""import mlp
model, saved = mlp.load(folder)
logits = mlp.predict_logits(model, images{f", n_views={n_views}" if n_views > 1 else ""})"""
    views = f"{n_views} view{'s' * (n_views > 1)}"
    what = f"A multilayer perceptron, written by hand in NumPy. It predicts from {views} of an image."
    command = command_line.train_command("mlp.py", hyperparameters, split)
    save_model(folder, saved, partial(model_page.page, name, what, usage, command, _structure(model), saved))


def _structure(model):
    return model_page.as_code(str(model))


def load(folder):
    """Read what `save` wrote.

    Returns
    -------
    model : MLP
    saved : SavedModel

    Raises
    ------
    SavedModelError
        If the folder does not hold a complete NumPy MLP.
    """
    saved = load_model(folder, kind="mlp")
    sizes, dtype = saved.description["sizes"], saved.description["dtype"]
    with naming(folder, "not a saved NumPy MLP"):
        h = MLPHyperparameters(**saved.description["hyperparameters"])
        check_sizes(sizes, h.hidden_sizes)
        checks.check_weights(saved.weights, state_layout(sizes, h.batch_norm, dtype))
        model = build(h, sizes[0], dtype)
        model.load_state(saved.weights)
    return model, saved


def predicts_from(saved):
    """Return from how many views of an image a saved MLP predicts."""
    return MLPHyperparameters(**saved.description["hyperparameters"]).n_views


def check_sizes(sizes, hidden_sizes):
    """Raise a ValueError unless a saved MLP's sizes after the inputs are its hidden sizes and the ten classes."""
    if list(sizes[1:]) != [*hidden_sizes, len(CLASS_NAMES)]:
        raise ValueError(f"sizes: expected {[*hidden_sizes, len(CLASS_NAMES)]} after the inputs, got {sizes}")


# The command line ---------------------------------------------------------------------------------------------------


def main(arguments=None):
    """Run the command line; return its exit status."""
    return command_line.run(_parser(), arguments, (ValueError, DataError, SavedModelError, TrainingDiverged, OSError))


def _parser():
    parser = argparse.ArgumentParser(
        prog="mlp.py", description="A hand-written NumPy multilayer perceptron on Fashion-MNIST."
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser(
        "train",
        help="train an MLP, measure it on the test images and save it",
        description="Train an MLP, keep the weights that were best on validation, measure it once on the test images, "
        "and save it in a folder named after its hyperparameters. Ctrl-C ends training early; the best weights so far "
        "are then measured and saved.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command_line.add_options(command, MLPHyperparameters())
    command_line.add_training_options(command, "models/mlp")
    command.set_defaults(command=_train_command)
    command_line.add_readers(commands, _evaluate_command, _inspect_command, _predict_command)
    return parser


def _train_command(args):
    h = command_line.read_options(args, MLPHyperparameters())
    model = build(h)
    folder = args.models_dir / h.name
    command_line.check_name(folder)
    split = command_line.read_split(args)
    check_split_sizes(**split)
    check_batches(h.batch_norm, h.batch_size, split["train"])
    with command_line.reserved(folder):
        command_line.check_folder_is_free(folder, args.overwrite)
        splits = load_splits(**split)
        print(model)
        history, status = [], 0
        try:
            with contextlib.closing(EpochBar(h.epochs)) as bar:

                def on_epoch(row):
                    history.append(row)
                    bar(row)

                train(model, splits.train, splits.validation, h, on_epoch)
        except (KeyboardInterrupt, TrainingDiverged) as stop:
            if not history:
                raise
            print(f"mlp.py: {str(stop) or 'interrupted'}", file=sys.stderr)
            status = 130 if isinstance(stop, KeyboardInterrupt) else 1
        metrics = measure_mlp(model, splits, h)
        command_line.save_or_rescue(lambda place: save(place, model, h, history, split, metrics), folder)
    print(f"best epoch {best_epoch(history)['epoch']} of {len(history)}, saved in {folder}")
    print(f"test accuracy {metrics['test']['accuracy']:.4f}")
    return status


def _evaluate_command(args):
    model, saved = load(args.folder)
    test = load_splits(**saved.description["split"]).test
    n_views = predicts_from(saved)
    accuracy = evaluate(model, test, n_views)["accuracy"]
    if n_views > 1:
        print(f"test accuracy from one view {evaluate(model, test)['accuracy']:.4f}; from {n_views} views:")
    return command_line.report_accuracy("mlp.py", accuracy, saved, len(test.labels))


def _inspect_command(args):
    model, saved = load(args.folder)
    facts = model_page.facts(_structure(model), saved, weights_sha256(args.folder))
    print(f"# {args.folder.absolute().name}\n\n{facts}")
    return 0


def _predict_command(args):
    # Imported here, because no other command needs Pillow.
    from model_utils.pictures import read_picture

    model, saved = load(args.folder)
    for path in args.pictures:
        image = read_picture(path, args.invert)
        probabilities = softmax(predict_logits(model, image[np.newaxis], predicts_from(saved)))[0]
        command_line.print_probabilities(path, probabilities, CLASS_NAMES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
