"""Train, evaluate and save the NumPy MLP of `model_utils.mlp`: as functions for notebooks, or as a command.

The command line, each with --help:

    python mlp.py train --hidden-sizes 256 128 --epochs 20
    python mlp.py evaluate models/mlp/NAME
    python mlp.py inspect models/mlp/NAME
    python mlp.py predict models/mlp/NAME picture.png
"""

import model_utils.blas  # noqa: F401  before NumPy is loaded

# isort: split

import argparse
import math
import platform
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import sklearn
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from tqdm import tqdm

from data_preparation import (
    CLASS_NAMES,
    DataError,
    augment,
    batches,
    flatten,
    load_splits,
    preprocess,
    read_picture,
    scale,
)
from model_utils import command_line
from model_utils.checks import check_choice, check_count, check_inputs, check_labels, check_number
from model_utils.command_line import option
from model_utils.losses import OBJECTIVES, cross_entropy
from model_utils.mlp import MLP
from model_utils.optimizers import OPTIMIZERS, SCHEDULES, clip_gradients
from model_utils.saved_models import SavedModel, SavedModelError, load_model, save_model
from model_utils.tables import markdown_table


@dataclass(frozen=True)
class Hyperparameters:
    """Everything that is chosen before training. The command line has an option of each name.

    Raises
    ------
    ValueError
        If a value is out of its range. The architecture is checked by `MLP`.
    """

    hidden_sizes: tuple = option((128,), "units of each hidden layer")
    activation: str = option("relu", "after each hidden layer: relu, leaky_relu, elu, sigmoid, tanh")
    init: str = option("He", "initial weights: random, Xavier, He")
    dropout: float = option(0.0, "share of hidden activations dropped in training")
    batch_norm: bool = option(False, "normalise each hidden layer over the batch")
    objective: str = option("cross_entropy", "cross_entropy or mean_squared_error")
    label_smoothing: float = option(0.0, "share of each target spread evenly over all classes")
    optimizer: str = option("momentum", "sgd, momentum, nesterov, rmsprop, adam, adamw")
    learning_rate: float = option(0.05, "step size, before the schedule")
    schedule: str = option("constant", "of the learning rate: constant, step, inverse_time, cosine (with warm-up)")
    weight_decay: float = option(0.0, "pull of the weights, not the biases, towards 0")
    clip_norm: float = option(0.0, "longest gradient allowed, 0 for any")
    batch_size: int = option(128, "images per step")
    epochs: int = option(10, "passes through the training split")
    patience: int = option(0, "stop after so many epochs without a better validation accuracy, 0 for never")
    flip: bool = option(False, "mirror half of the training images, anew each epoch")
    shift: int = option(0, "move training images by up to so many pixels, anew each epoch")
    seed: int = option(0, "for initial weights, dropout, order of batches and augmentation")

    def __post_init__(self):
        check_choice("objective", self.objective, OBJECTIVES)
        check_number("label_smoothing", self.label_smoothing, 0, 1)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_number("learning_rate", self.learning_rate, 0)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_number("weight_decay", self.weight_decay, 0)
        check_number("clip_norm", self.clip_norm, 0)
        check_count("batch_size", self.batch_size)
        check_count("epochs", self.epochs)
        check_count("patience", self.patience, minimum=0)
        check_count("shift", self.shift, minimum=0)
        check_count("seed", self.seed, minimum=0)

    @property
    def name(self):
        """The saved model's folder name."""
        layers = "_".join(map(str, self.hidden_sizes))
        return (
            f"mlp__layers__{layers}__lr_{self.learning_rate:g}__epoch_{self.epochs}"
            f"__activation_{self.activation}__initiation_{self.init}"
        )


class TrainingDiverged(ArithmeticError):
    """The loss became NaN or infinite."""


def build(hyperparameters, n_inputs=28 * 28, dtype=np.float32):
    """Make the untrained MLP that the hyperparameters describe, for `n_inputs` inputs and the ten classes."""
    h = hyperparameters
    return MLP(n_inputs, h.hidden_sizes, len(CLASS_NAMES), h.activation, h.init, h.dropout, h.batch_norm, h.seed, dtype)


def check_batches(batch_norm, batch_size, n_images):
    """Raise a ValueError if batch normalisation would meet a batch of one image, which has no spread.

    Parameters
    ----------
    batch_norm : bool
    batch_size, n_images : int
    """
    if batch_norm and (n_images % batch_size == 1 or batch_size == 1):
        raise ValueError(
            f"batch_size: expected one that leaves no image alone for batch normalisation, got {batch_size} "
            f"for {n_images:,} images"
        )


def check_empty(history):
    """Raise a ValueError if a history that a training is to fill has epochs of another one."""
    if history:
        raise ValueError(f"history: expected an empty list, got {len(history)} epochs")


@np.errstate(over="ignore", invalid="ignore")  # on the way to NaN, which the error raised below explains
def train(model, training, validation, hyperparameters, history=None, progress=True):
    """Train an MLP with mini-batches; it ends with the weights that were best on validation.

    Parameters
    ----------
    model : MLP
        From `build`. However training ends, by early stopping, Ctrl-C or an error, the model keeps the weights of
        the epoch with the highest validation accuracy so far, or its first weights if no epoch was finished.
    training, validation : tuple of ndarrays
        Inputs, float of shape (N, D), or images, uint8 of shape (N, 28, 28), and labels, int of shape (N,). Images are
        scaled a batch at a time, which takes a quarter of the memory.
    hyperparameters : Hyperparameters
    history : list, optional
        Gets a row at the end of each epoch. Pass an empty one to have the rows if training is cut short.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of dict
        The history: epoch, train_loss and train_accuracy (means over the epoch's batches, as the weights changed,
        with dropout and augmentation), validation_loss, validation_accuracy, learning_rate and seconds.

    Raises
    ------
    ValueError
        If inputs or labels are not as they should be, or the history is not empty.
    TrainingDiverged
        If the loss is NaN or infinite.
    """
    h = hyperparameters
    history = [] if history is None else history
    check_empty(history)
    (x_train, labels_train), validation = (
        _checked(model, *part, name) for part, name in ((training, "training"), (validation, "validation"))
    )
    x_scaled = np.empty((min(h.batch_size, len(x_train)), x_train.shape[1]), np.float32)
    check_batches(h.batch_norm, h.batch_size, len(x_train))
    objective = partial(OBJECTIVES[h.objective], label_smoothing=h.label_smoothing)
    optimizer = OPTIMIZERS[h.optimizer](
        model.parameters, model.gradients, n_decayed=model.n_weights, weight_decay=h.weight_decay
    )
    schedule = SCHEDULES[h.schedule]
    rng = np.random.default_rng([h.seed, 1])  # apart from the model's own stream
    steps_per_epoch = math.ceil(len(x_train) / h.batch_size)
    best = {"epoch": 0, "validation_accuracy": -1.0}
    best_state = model.state()

    def check_loss(loss, where):
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"loss is {loss} in {where}; the weights of epoch {best['epoch']} are kept. "
                f"Try a learning_rate below {h.learning_rate:g}, or clip_norm 1."
            )

    # To standard output, since notebooks paint standard error as if something were wrong.
    bar = tqdm(range(1, h.epochs + 1), desc="training", unit="epoch", file=sys.stdout, disable=not progress)
    try:
        for epoch in bar:
            started = time.perf_counter()
            loss_sum = n_correct = 0
            for step, (x, labels) in enumerate(batches(x_train, labels_train, h.batch_size, rng)):
                if h.flip or h.shift:
                    x = augment(x, rng, h.flip, h.shift)
                x = _as_inputs(x, out=x_scaled[: len(x)])
                logits = model.forward(x, training=True)
                loss, dlogits = objective(logits, labels)
                check_loss(loss, f"epoch {epoch}, step {step + 1} of {steps_per_epoch}")
                model.backward(dlogits)
                if h.clip_norm:
                    clip_gradients(model.gradients, h.clip_norm)
                share_done = (epoch - 1 + (step + 0.5) / steps_per_epoch) / h.epochs
                learning_rate = h.learning_rate * schedule(share_done)
                optimizer.step(learning_rate)
                loss_sum += loss * len(x)
                n_correct += int(np.count_nonzero(logits.argmax(axis=1) == labels))

            validation_loss, validation_accuracy = _loss_and_accuracy(model, *validation, objective)
            check_loss(validation_loss, f"epoch {epoch}, validation")
            row = {
                "epoch": epoch,
                "train_loss": loss_sum / len(x_train),
                "train_accuracy": n_correct / len(x_train),
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
                "learning_rate": learning_rate,
                "seconds": time.perf_counter() - started,
            }
            history.append(row)
            if validation_accuracy > best["validation_accuracy"]:
                best, best_state = row, model.state()
            bar.set_postfix_str(
                f"loss {row['train_loss']:.3f}, validation accuracy {validation_accuracy:.4f}, "
                f"best {best['validation_accuracy']:.4f}"
            )
            if h.patience and epoch - best["epoch"] >= h.patience:
                break
    finally:
        bar.close()
        model.load_state(best_state)
    return history


def best_epoch(history):
    """Return the row of the history whose weights the model has: the first of highest validation accuracy."""
    return max(history, key=lambda row: row["validation_accuracy"])


def evaluate(model, x, labels):
    """Measure a trained model.

    Parameters
    ----------
    model : MLP
    x : ndarray of float, shape (N, D), or of uint8, shape (N, 28, 28)
        Inputs, or images.
    labels : ndarray of int, shape (N,)

    Returns
    -------
    dict
        accuracy; cross_entropy in nats; macro means of precision, recall and f1; per_class, the same three by class
        name; confusion_matrix, where row t, column p counts images of class t that were taken for p; n_images.

    Raises
    ------
    ValueError
        If inputs or labels are not as they should be.
    """
    x, labels = _checked(model, x, labels, "evaluation")
    return measure(_predict_logits(model, x), labels)


def measure(logits, labels):
    """Measure a classifier by its logits, shape (N, K), and the true labels, shape (N,): see `evaluate`."""
    predictions = logits.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predictions, labels=range(len(CLASS_NAMES)), zero_division=0
    )
    return {
        "accuracy": float(np.mean(predictions == labels)),
        "cross_entropy": cross_entropy(logits, labels)[0],
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "per_class": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f)}
            for name, p, r, f in zip(CLASS_NAMES, precision, recall, f1, strict=True)
        },
        "confusion_matrix": confusion_matrix(labels, predictions, labels=range(len(CLASS_NAMES))).tolist(),
        "n_images": len(labels),
    }


def _checked(model, x, labels, part):
    """Return inputs and labels as arrays; images are flattened, but still pixels."""
    x = np.asarray(x)
    if x.dtype == np.uint8 and x.ndim == 3:
        x = flatten(x)
        check_inputs(_as_inputs(x[:1]), model.sizes[0], name=f"{part} images")
    else:
        x = check_inputs(x, model.sizes[0], name=f"{part} inputs")
    return x, check_labels(labels, len(x), model.sizes[-1], name=f"{part} labels")


def _as_inputs(x, out=None):
    """Scale pixels, into `out` if given; leave floats as they are."""
    return scale(x, out) if x.dtype == np.uint8 else x


def _predict_logits(model, x, batch_size=1000):
    parts = (x[start : start + batch_size] for start in range(0, len(x), batch_size))
    return np.concatenate([model.forward(_as_inputs(part)) for part in parts])


def _loss_and_accuracy(model, x, labels, objective):
    logits = _predict_logits(model, x)
    return objective(logits, labels)[0], float(np.mean(logits.argmax(axis=1) == labels))


def save(folder, model, hyperparameters, history, split, metrics):
    """Write a trained MLP to `folder`, with all it takes to know it and to make it again.

    Parameters
    ----------
    folder : path
    model : MLP
    hyperparameters : Hyperparameters
    history : list of dict
        From `train`.
    split : dict
        The arguments of `load_splits`.
    metrics : dict
        {"validation": ..., "test": ...}, each from `evaluate`.
    """
    description = {
        "model": "NumPy MLP",
        "sizes": list(model.sizes),
        "n_parameters": model.n_parameters,
        "dtype": model.dtype.name,
        "hyperparameters": asdict(hyperparameters),
        "split": split,
        "epochs_run": len(history),
        "best_epoch": best_epoch(history)["epoch"],
        "training_seconds": round(sum(row["seconds"] for row in history), 2),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }
    save_model(folder, SavedModel(model.state(), description, history, metrics))


def load(folder):
    """Read what `save` wrote.

    Returns
    -------
    model : MLP
    saved : SavedModel

    Raises
    ------
    SavedModelError
        If the folder does not hold a whole NumPy MLP.
    """
    saved = load_model(folder)
    try:
        description = saved.description
        hyperparameters = command_line.from_json(Hyperparameters, description["hyperparameters"])
        model = build(hyperparameters, description["sizes"][0], description["dtype"])
        model.load_state(saved.weights)
        command_line.check_whole(saved, ("split", "training_seconds", "best_epoch"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SavedModelError(f"{folder}: not a saved NumPy MLP ({error!r})") from error
    return model, saved


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
        "and save it in a folder named after what is in it. Ctrl-C ends training early; the best weights so far are "
        "then measured and saved.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command_line.add_options(command, Hyperparameters())
    command_line.add_training_options(command, "models/mlp")
    command.set_defaults(command=_train_command)
    command_line.add_readers(commands, _evaluate_command, _inspect_command, _predict_command)
    return parser


def _train_command(args):
    h = command_line.read_options(args, Hyperparameters())
    model = build(h)
    folder = args.models_dir / h.name
    split = command_line.read_split(args)
    with command_line.reserved(folder):
        command_line.check_folder_is_free(folder, args.overwrite)
        training, validation, test = load_splits(**split)
        print(model)
        history = []
        status = 0
        try:
            train(model, training, validation, h, history)
        except (KeyboardInterrupt, TrainingDiverged) as stop:
            if not history:
                raise
            print(f"mlp.py: {str(stop) or 'interrupted'}", file=sys.stderr)
            status = 130 if isinstance(stop, KeyboardInterrupt) else 1
        metrics = {"validation": evaluate(model, *validation), "test": evaluate(model, *test)}
        save(folder, model, h, history, split, metrics)
    print(f"best epoch {best_epoch(history)['epoch']} of {len(history)}, saved in {folder}")
    print(f"test accuracy {metrics['test']['accuracy']:.4f}")
    return status


def _evaluate_command(args):
    model, saved = load(args.folder)
    test = load_splits(**saved.description["split"]).test
    accuracy = evaluate(model, *test)["accuracy"]
    return command_line.report_accuracy("mlp.py", accuracy, saved, len(test.labels))


def _inspect_command(args):
    model, saved = load(args.folder)
    description = saved.description
    print(f"{args.folder.name}\n\n{model}\n")
    print(markdown_table(["hyperparameter", "value"], description["hyperparameters"].items()), end="\n\n")
    print(markdown_table(["split", "value"], description["split"].items()), end="\n\n")
    command_line.print_history(saved.history, best_epoch(saved.history))
    print(f"{description['training_seconds']} seconds of training\n")
    command_line.print_metrics(saved.metrics)
    return 0


def _predict_command(args):
    model, _ = load(args.folder)
    for path in args.pictures:
        image = read_picture(path, args.invert)
        probabilities = model.predict_proba(preprocess(image[np.newaxis]))[0]
        command_line.print_probabilities(path, probabilities, CLASS_NAMES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
