"""Train a convolutional backbone, extract its features, and hand them to the NumPy MLP: as functions, or as a command.

The commands, each with --help:

    python cnn.py train --channels 16 32 64 128 256 --epochs 24
    python cnn.py evaluate models/cnn/NAME
    python cnn.py inspect models/cnn/NAME
    python cnn.py predict models/cnn/NAME picture.png
    python cnn.py export models/cnn/NAME pair.onnx
"""

import argparse
import contextlib
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

import mlp
from data_preparation import CLASS_NAMES, DataError, Splits, check_split_sizes, load_splits
from model_utils import backbones, command_line, model_page
from model_utils.backbone_training import train
from model_utils.backbones import BACKBONES
from model_utils.backbones.imagenet import WeightsError
from model_utils.checks import check_is
from model_utils.cnn_backbone import Backbone, BackboneHyperparameters
from model_utils.devices import DEVICES, choose_device
from model_utils.files import remove_folder
from model_utils.layer_table import layers_text
from model_utils.mlp import state_layout
from model_utils.mlp_head import MLPHead
from model_utils.onnx_export import export_onnx
from model_utils.pair import Pair, Standardizer, head_logits, standardized_features
from model_utils.pictures import read_picture
from model_utils.saved_models import (
    NotSavedError,
    SavedModel,
    SavedModelError,
    is_saved,
    load_model,
    naming,
    save_model,
    versions,
    weights_sha256,
)
from model_utils.training import EpochBar, TrainingDiverged, best_epoch, check_batches, measure

# The default hyperparameters of the MLP that classifies the features.
CLASSIFIER = mlp.ClassifierHyperparameters(
    hidden_sizes=(256, 128, 64, 32, 16),
    init="Xavier",
    weight_decay=0.005,
    learning_rate=0.01,
    schedule="cosine",
    epochs=10,
)
# What the MLP takes from the backbone when both are trained end to end.
SHARED = ("label_smoothing", "batch_size", "epochs", "patience", "seed")


def build(hyperparameters, classifier_hyperparameters=CLASSIFIER):
    """Make the untrained backbone that the hyperparameters describe.

    Parameters
    ----------
    hyperparameters : BackboneHyperparameters
    classifier_hyperparameters : mlp.ClassifierHyperparameters
        Of the MLP that is the head; used only for training end to end.

    Returns
    -------
    Backbone

    Raises
    ------
    ImportError, WeightsError
        If a package that the backbone needs is not installed, or its ImageNet weights are unavailable.
    """
    h = hyperparameters
    _check_classifier(classifier_hyperparameters)
    backbone = backbones.build(h)
    if h.weights == "ImageNet":
        backbone.load_imagenet_weights()
    if h.end_to_end:
        mlp_h = in_step(classifier_hyperparameters, h)
        backbone.head = MLPHead(mlp.build(mlp_h, backbone.n_features), mlp_h)
    return backbone


def in_step(classifier_hyperparameters, hyperparameters):
    """Return the MLP's hyperparameters, with those that end-to-end training shares taken from the backbone."""
    return replace(classifier_hyperparameters, **{name: getattr(hyperparameters, name) for name in SHARED})


def _check_classifier(hyperparameters):
    """Raise a ValueError unless these hyperparameters are those of an MLP trained on features, not on images."""
    if type(hyperparameters) is not mlp.ClassifierHyperparameters:
        found = type(hyperparameters).__name__
        raise ValueError(f"classifier_hyperparameters: expected ClassifierHyperparameters, got {found}")


# From images to features to classes ----------------------------------------------------------------------------------


def train_pair(backbone, splits, hyperparameters, classifier_hyperparameters, checkpoint=None):
    """Train a backbone and the MLP on its features, with progress bars, and measure both.

    A backbone that is not frozen is trained with a linear head, and then the MLP is trained on its features; or both
    are trained together, end to end.

    Parameters
    ----------
    backbone : Backbone
        From `build`, with the same hyperparameters.
    splits : Splits
    hyperparameters : BackboneHyperparameters
    classifier_hyperparameters : mlp.ClassifierHyperparameters
    checkpoint : path, optional
        See `backbone_training.train`.

    Returns
    -------
    pair : Pair
    histories : dict of str to list of dict
        {"backbone": from `train`, empty if it is frozen, "mlp": from `mlp.train`, empty if trained end to end}.
    metrics : dict
        From `measure_pair`. The test images are used only after training.
    """
    h, mlp_h = hyperparameters, classifier_hyperparameters
    check_is("backbone", backbone, Backbone)
    check_is("splits", splits, Splits)
    check_is("hyperparameters", h, BackboneHyperparameters)
    _check_classifier(mlp_h)
    if not h.end_to_end:  # checked and built first, so that an impossible MLP raises before the backbone is trained
        check_batches(mlp_h.batch_norm, mlp_h.batch_size, len(splits.train.labels))
        classifier = mlp.build(mlp_h, backbone.n_features)
    histories = {"backbone": [], "mlp": []}
    if not h.frozen:
        with contextlib.closing(EpochBar(h.epochs, "backbone")) as bar:
            histories["backbone"] = train(backbone, splits.train, splits.validation, h, bar, checkpoint)
    if h.end_to_end:
        pair = pair_of(backbone)
        return pair, histories, measure_pair(pair, splits)
    standardizer, feature_splits = standardized_features(backbone, splits)
    with contextlib.closing(EpochBar(mlp_h.epochs, "MLP")) as bar:
        histories["mlp"] = mlp.train(classifier, *feature_splits[:2], mlp_h, bar)
    pair = Pair(backbone, standardizer, classifier)
    return pair, histories, measure_pair(pair, splits, feature_splits)


def pair_of(backbone):
    """Remove the MLP head from a backbone; return the two as a pair.

    The MLP was trained on features that were not standardised, so the pair does not standardise them either.
    """
    classifier, backbone.head = backbone.head.mlp, nn.Identity()
    return Pair(backbone, Standardizer.identity(backbone.n_features), classifier)


def measure_pair(pair, splits, feature_splits=None):
    """Measure a pair, and its backbone's linear head if one was trained, on validation and test images.

    Parameters
    ----------
    pair : Pair
    splits : Splits
    feature_splits : list of Split, optional
        The standardised features, if they have already been extracted.

    Returns
    -------
    dict of str to dict
        {"validation": ..., "test": ...} of the pair, and {"head_validation": ..., "head_test": ...} of the linear head;
        each from `measure`.
    """
    check_is("pair", pair, Pair)
    check_is("splits", splits, Splits)
    metrics = {}
    for number, part in enumerate(("validation", "test"), start=1):
        images, labels = splits[number]
        if feature_splits is None:
            logits = pair.predict_logits(images)
        else:
            logits = pair.classifier.predict_logits(feature_splits[number].images)
        metrics[part] = measure(logits, labels, CLASS_NAMES)
    if pair.backbone.trained_on and isinstance(pair.backbone.head, nn.Linear):
        for part in ("validation", "test"):
            split = getattr(splits, part)
            metrics[f"head_{part}"] = measure(head_logits(pair.backbone, split.images), split.labels, CLASS_NAMES)
    return metrics


# Saved pairs ---------------------------------------------------------------------------------------------------------


def pair_name(hyperparameters, classifier_hyperparameters):
    """Return the folder name of a saved pair: the name of the backbone, then that of the MLP."""
    return f"{hyperparameters.name}_{classifier_hyperparameters.name}"


def save(folder, pair, hyperparameters, classifier_hyperparameters, histories, split, metrics):
    """Write a pair to `folder`, with everything needed to describe it and to train it again.

    Parameters
    ----------
    folder : path
    pair : Pair
    hyperparameters : BackboneHyperparameters
    classifier_hyperparameters : mlp.ClassifierHyperparameters
    histories : dict of str to list of dict
        From `train_pair`.
    split : dict
        The arguments of `load_splits`.
    metrics : dict
        From `measure_pair`.

    Raises
    ------
    NotSavedError
        See `saved_models.save_model`.
    """
    _check_classifier(classifier_hyperparameters)
    backbone, _, classifier = pair
    if hyperparameters.end_to_end:
        classifier_hyperparameters = in_step(classifier_hyperparameters, hyperparameters)
    description = {
        "kind": "pair",
        "sizes": list(classifier.sizes),
        "n_parameters": pair.n_parameters,
        "multiply_adds": pair.multiply_adds,
        "hyperparameters": asdict(hyperparameters),
        "mlp_hyperparameters": asdict(classifier_hyperparameters),
        "split": split,
        "epochs_run": {part: len(history) for part, history in histories.items()},
        "best_epoch": {part: best_epoch(history)["epoch"] for part, history in histories.items() if history},
        "training_seconds": round(sum(row["seconds"] for history in histories.values() for row in history), 2),
        "trained_on": backbone.trained_on,
        "versions": versions("numpy", "torch", "scikit-learn"),
    }
    history = [{"part": part} | row for part, rows in histories.items() for row in rows]
    saved = SavedModel(pair.state(), description, history, metrics)
    name = Path(folder).name
    usage = """import cnn
pair, saved = cnn.load(folder)
probabilities = pair.predict_proba(images)"""
    if hyperparameters.frozen:
        what = "A pretrained backbone that was not trained further, and the hand-written MLP trained on its features."
    else:
        how = "together, end to end" if hyperparameters.end_to_end else "one after the other"
        what = f"A backbone, and the hand-written MLP that classifies its features, trained {how}."
    what += f" The MLP classifies the mean features of {2 * len(backbone.views)} views of an image."
    command = _train_command_of(hyperparameters, classifier_hyperparameters, split)
    save_model(folder, saved, partial(model_page.page, name, what, usage, command, _structure(pair), saved))


def _structure(pair):
    return f"{layers_text(pair.backbone)}\n\n{model_page.as_code(str(pair.classifier))}"


def _train_command_of(hyperparameters, classifier_hyperparameters, split):
    defaults = in_step(CLASSIFIER, hyperparameters) if hyperparameters.end_to_end else CLASSIFIER
    of_mlp = command_line.changed_options(classifier_hyperparameters, defaults, "mlp_")
    return command_line.train_command("cnn.py", hyperparameters, split, of_mlp)


def load(folder, device=None):
    """Read what `save` wrote, with the backbone on a device; see `choose_device`.

    Returns
    -------
    pair : Pair
    saved : SavedModel

    Raises
    ------
    SavedModelError
        If the folder does not hold a complete pair.
    ValueError, ImportError
        If the device, or a package that the backbone needs, is unavailable.
    """
    saved = load_model(folder, kind="pair")
    device = choose_device(device)
    description = saved.description
    sizes = description["sizes"]

    def untrained(build):
        backbone = build(h)
        if h.end_to_end:
            backbone.head = nn.Identity()
        return backbone

    with naming(folder, "not a saved backbone with its MLP"):
        h = backbones.hyperparameters_from_json(description["hyperparameters"])
        mlp_h = mlp.ClassifierHyperparameters(**description["mlp_hyperparameters"])
        mlp.check_sizes(sizes, mlp_h.hidden_sizes)
        Pair.check_state(saved.weights, untrained(backbones.outline), state_layout(sizes, mlp_h.batch_norm))
        # Random weights will do, since the saved ones replace them.
        pair = Pair.from_state(saved.weights, untrained(backbones.build), mlp.build(mlp_h, sizes[0]))
    pair.backbone.trained_on = description["trained_on"]
    pair.backbone.to(device)
    return pair, saved


# The command line ---------------------------------------------------------------------------------------------------


def main(arguments=None):
    """Run the command line; return its exit status."""
    errors = (ValueError, DataError, SavedModelError, WeightsError, TrainingDiverged, OSError, ImportError)
    return command_line.run(_parser(), arguments, errors)


def _parser():
    parser = argparse.ArgumentParser(
        prog="cnn.py", description="A convolutional backbone whose features a NumPy MLP classifies, on Fashion-MNIST."
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser(
        "train",
        help="train a backbone, then an MLP on its features, measure the pair on the test images and save it",
        description="Train a backbone, keep the weights that were best on validation, train the NumPy MLP on its "
        "features (with --end-to-end, together with it), measure both once on the test images, and save them together "
        "in a folder named after their hyperparameters. After each epoch a checkpoint is written beside it; --resume "
        "continues from there.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command_line.add_backbone_options(command, BACKBONES)
    command_line.add_options(command.add_argument_group("the MLP"), CLASSIFIER, "mlp_")
    command_line.add_training_options(command, "models/cnn")
    command.add_argument("--resume", action="store_true", help="continue an interrupted training run")
    command.set_defaults(command=_train_command)
    readers = command_line.add_readers(commands, _evaluate_command, _inspect_command, _predict_command)
    evaluate, _, predict = readers
    for reader in (command, evaluate, predict):
        reader.add_argument("--device", choices=DEVICES, help="where the backbone runs; the fastest one by default")
    text = "write a saved pair as one ONNX file, which runs without Python"
    export = command_line.add_reader(commands, "export", _export_command, text)
    export.add_argument("onnx_file", type=Path, help="the file to write, such as pair.onnx")
    return parser


def _train_command(args):
    h = command_line.read_backbone_options(args, BACKBONES)
    mlp_h = command_line.read_options(args, CLASSIFIER, "mlp_")
    if h.end_to_end:
        for name in SHARED:
            if getattr(mlp_h, name) != getattr(h, name) and hasattr(args, f"mlp_{name}"):
                raise ValueError(f"mlp_{name}: end to end, the MLP takes its {name} from the backbone")
        mlp_h = in_step(mlp_h, h)
    split = command_line.read_split(args)
    folder = args.models_dir / pair_name(h, mlp_h)
    command_line.check_name(folder)
    check_split_sizes(**split)  # before a network is built or its weights are fetched
    check_batches(mlp_h.batch_norm, mlp_h.batch_size, split["train"])
    backbone = build(h, mlp_h).to(choose_device(args.device))
    splits = load_splits(**split)
    # Named after the backbone alone, so that a trained backbone is not lost if something goes wrong with its MLP.
    checkpoint = args.models_dir / f"{h.name}.checkpoint.tmp"
    with command_line.reserved(checkpoint, "a backbone of this name, with this MLP or another"):
        command_line.check_folder_is_free(folder, args.overwrite)
        if args.resume and not is_saved(checkpoint):
            raise ValueError(f"{checkpoint}: no such folder, so there is no training run to resume")
        if is_saved(checkpoint) and not args.resume:
            if not args.overwrite:
                raise ValueError(
                    f"{checkpoint} is from an interrupted training run; --resume continues it, --overwrite starts over"
                )
            remove_folder(checkpoint)
        try:
            pair, histories, metrics = train_pair(backbone, splits, h, mlp_h, checkpoint)
            command_line.save_or_rescue(lambda place: save(place, pair, h, mlp_h, histories, split, metrics), folder)
        except (KeyboardInterrupt, NotSavedError):
            if is_saved(checkpoint):
                print(f"cnn.py: {checkpoint} is kept; continue with --resume", file=sys.stderr)
            raise
        remove_folder(checkpoint)
    print(f"saved in {folder}")
    if "head_test" in metrics:
        print(f"test accuracy of the backbone's own head {metrics['head_test']['accuracy']:.4f}")
    print(f"test accuracy {metrics['test']['accuracy']:.4f}")
    return 0


def _evaluate_command(args):
    pair, saved = load(args.folder, args.device)
    test = load_splits(**saved.description["split"]).test
    accuracy = measure(pair.predict_logits(test.images), test.labels, CLASS_NAMES)["accuracy"]
    return command_line.report_accuracy("cnn.py", accuracy, saved, len(test.labels))


def _inspect_command(args):
    pair, saved = load(args.folder, "cpu")
    facts = model_page.facts(_structure(pair), saved, weights_sha256(args.folder))
    print(f"# {args.folder.absolute().name}\n\n{facts}")
    return 0


def _predict_command(args):
    pair, _ = load(args.folder, args.device)
    for path in args.pictures:
        image = read_picture(path, args.invert)
        command_line.print_probabilities(path, pair.predict_proba(image[np.newaxis])[0], CLASS_NAMES)
    return 0


def _export_command(args):
    pair, _ = load(args.folder, "cpu")
    export_onnx(args.onnx_file, *pair)
    print(f"saved in {args.onnx_file}: it turns images, uint8 of shape (N, 28, 28), into logits")
    return 0


if __name__ == "__main__":
    sys.exit(main())
