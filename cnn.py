"""Train a convolutional backbone, extract its features, and hand them to the NumPy MLP: as functions, or as a command.

The command line, each with --help:

    python cnn.py train --channels 16 32 64 128 256 --epochs 24
    python cnn.py evaluate models/cnn/NAME
    python cnn.py inspect models/cnn/NAME
    python cnn.py predict models/cnn/NAME picture.png
    python cnn.py export models/cnn/NAME pair.onnx
"""

import argparse
import contextlib
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import mlp
from data_preparation import CLASS_NAMES, DataError, load_splits
from model_utils import backbones, command_line
from model_utils.backbones import BACKBONES
from model_utils.backbones.imagenet import WeightsError
from model_utils.checkpoints import load_checkpoint, origin_of, save_checkpoint
from model_utils.checks import check_images, check_labels
from model_utils.cnn_backbone import preprocess
from model_utils.devices import DEVICES, choose_device, has_fast_bfloat16
from model_utils.layer_table import layers_text, multiply_adds
from model_utils.losses import cross_entropy
from model_utils.onnx_export import export_onnx
from model_utils.optimizers import cosine
from model_utils.pair import Pair, predict_logits, standardized_features
from model_utils.pictures import read_picture
from model_utils.saved_models import (
    SavedModel,
    SavedModelError,
    check_whole,
    is_saved,
    load_model,
    remove_saved,
    save_model,
    versions,
)
from model_utils.tensor_augmentation import augment
from model_utils.tensors import as_tensor
from model_utils.training import (
    EpochBar,
    TrainingDiverged,
    best_epoch,
    check_batches,
    check_loss,
    measure,
    out_of_patience,
)

# What classifies the features unless something else is asked for.
CLASSIFIER = mlp.ClassifierHyperparameters(
    hidden_sizes=(256, 128, 64, 32, 16),
    init="Xavier",
    weight_decay=0.005,
    learning_rate=0.01,
    schedule="cosine",
    epochs=10,
)


def build(hyperparameters):
    """Make the untrained backbone that the hyperparameters describe.

    Raises
    ------
    ImportError, WeightsError
        If a package that it needs is not installed, or its ImageNet weights are unavailable.
    """
    backbone = backbones.build(hyperparameters)
    if hyperparameters.weights == "ImageNet":
        backbone.load_imagenet_weights()
    return backbone


# Training ----------------------------------------------------------------------------------------------------------


def train(backbone, training, validation, hyperparameters, on_epoch=None, checkpoint=None):
    """Train a backbone through its own head; it ends with the weights that were best on validation.

    Parameters
    ----------
    backbone : Backbone
        On the device to train on. However training ends, it keeps the weights of the epoch with the highest validation
        accuracy so far.
    training, validation : Split
    hyperparameters : BackboneHyperparameters
    on_epoch : callable, optional
        Gets each row of the history as soon as its epoch is over, first those of a training that goes on. What it
        raises ends the training.
    checkpoint : path, optional
        A folder where the state of the training is kept after each epoch. If there is one already, training goes on
        from it, on a processor to the same final weights as if it had never been cut off.

    Returns
    -------
    list of dict
        The history, with the columns of `mlp.train`.

    Raises
    ------
    ValueError
        If images or labels are not as they should be, or the checkpoint is of other hyperparameters or images.
    SavedModelError
        If the checkpoint is damaged.
    TrainingDiverged
        If the loss is NaN or infinite.
    """
    h = hyperparameters
    device = next(backbone.parameters()).device
    images, labels = (as_tensor(array).to(device) for array in _checked(training, "training"))
    _checked(validation, "validation")
    has_batch_norm = any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())
    check_batches(has_batch_norm, h.batch_size, len(labels))
    use_bfloat16 = has_fast_bfloat16(device)
    backbone.trained_on = {"device": device.type, "precision": "bfloat16" if use_bfloat16 else "float32"}
    optimizer = _optimizer(backbone, h)
    history, best_state = [], _copy(backbone.state_dict())
    origin = None if checkpoint is None else origin_of(h, *training, *validation)
    if checkpoint is not None and is_saved(checkpoint):
        history, best_state = load_checkpoint(checkpoint, backbone, optimizer, origin)
    on_epoch = on_epoch or (lambda row: None)
    try:
        for row in history:
            on_epoch(row)
        # The caller's random numbers stay as they are, and each epoch has its own: nothing to keep in a checkpoint.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for epoch in range(len(history) + 1, h.epochs + 1):
                if out_of_patience(history, h.patience):
                    break
                started = time.perf_counter()
                torch.manual_seed(int(np.random.SeedSequence([h.seed, epoch]).generate_state(1)[0]))
                row = {"epoch": epoch} | _train_one_epoch(backbone, images, labels, optimizer, h, epoch, use_bfloat16)
                logits = predict_logits(backbone, validation.images)
                row["validation_loss"] = cross_entropy(logits, validation.labels, h.label_smoothing)[0]
                check_loss(row["validation_loss"], f"epoch {epoch}, validation", h.learning_rate)
                row["validation_accuracy"] = float(np.mean(logits.argmax(axis=1) == validation.labels))
                row["learning_rate"] = optimizer.param_groups[0]["lr"]
                row["seconds"] = time.perf_counter() - started
                history.append(row)
                if best_epoch(history) is row:
                    best_state = _copy(backbone.state_dict())
                if checkpoint is not None:
                    save_checkpoint(checkpoint, backbone, optimizer, origin, history, best_state)
                on_epoch(row)
    finally:
        backbone.load_state_dict(best_state)
        backbone.eval()
    return history


def _train_one_epoch(backbone, images, labels, optimizer, hyperparameters, epoch, use_bfloat16):
    """Go once through the images; return the means of loss and accuracy over the epoch's batches."""
    h = hyperparameters
    device = images.device
    batches = torch.randperm(len(images)).split(h.batch_size)
    loss_sum = torch.zeros((), device=device)
    n_correct = torch.zeros((), dtype=torch.int64, device=device)
    backbone.train()
    for step, chosen in enumerate(batches):
        chosen = chosen.to(device)
        share_done = (epoch - 1 + (step + 0.5) / len(batches)) / h.epochs
        for group in optimizer.param_groups:
            group["lr"] = h.learning_rate * cosine(share_done)
        with torch.autocast(device.type, torch.bfloat16, enabled=use_bfloat16):
            logits = backbone(preprocess(augment(images[chosen], h.flip, h.shift, h.erase))).float()
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=h.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(chosen)
        n_correct += (logits.argmax(dim=1) == labels[chosen]).sum()
        # Reading a number makes a graphics card wait, so not at each step.
        if step % 25 == 24:
            check_loss(loss_sum.item(), f"epoch {epoch}, step {step + 1} of {len(batches)}", h.learning_rate)
    mean_loss = loss_sum.item() / len(images)
    check_loss(mean_loss, f"epoch {epoch}, step {len(batches)} of {len(batches)}", h.learning_rate)
    return {"train_loss": mean_loss, "train_accuracy": n_correct.item() / len(images)}


def _optimizer(backbone, hyperparameters):
    """Weights decay; biases and batch norm do not."""
    weights = [parameter for parameter in backbone.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in backbone.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": weights}, {"params": others, "weight_decay": 0.0}],
        weight_decay=hyperparameters.weight_decay,
        fused=True,
    )


def _checked(split, part):
    images = check_images(split.images, f"{part} images")
    return images, check_labels(split.labels, len(images), len(CLASS_NAMES), f"{part} labels")


def _copy(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}


# From images to features to classes ----------------------------------------------------------------------------------


def train_pair(backbone, splits, hyperparameters, classifier_hyperparameters, checkpoint=None):
    """Train a backbone, unless it is frozen, then the MLP on its features, with progress bars, and measure both.

    Parameters: see `train`.

    Returns
    -------
    pair : Pair
    histories : dict of str to list of dict
        {"backbone": from `train`, empty if it is frozen, "mlp": from `mlp.train`}.
    metrics : dict
        See `save`. The test images are read once the training is over.
    """
    h, mlp_h = hyperparameters, classifier_hyperparameters
    histories = {"backbone": []}
    if not h.frozen:
        with contextlib.closing(EpochBar(h.epochs, "backbone")) as bar:
            histories["backbone"] = train(backbone, splits.train, splits.validation, h, bar, checkpoint)
    standardizer, feature_splits = standardized_features(backbone, splits)
    classifier = mlp.build(mlp_h, backbone.n_features)
    with contextlib.closing(EpochBar(mlp_h.epochs, "MLP")) as bar:
        histories["mlp"] = mlp.train(classifier, *feature_splits[:2], mlp_h, bar)
    metrics = measure_pair(backbone, classifier, splits, feature_splits, with_head=not h.frozen)
    return Pair(backbone, standardizer, classifier), histories, metrics


def measure_pair(backbone, classifier, splits, feature_splits, with_head=True):
    """Measure an MLP on features, and the backbone's own head, if it was trained, on images; see `save`."""
    _, validation, test = feature_splits
    metrics = {"validation": mlp.evaluate(classifier, validation), "test": mlp.evaluate(classifier, test)}
    for part, split in (("head_validation", splits.validation), ("head_test", splits.test)) if with_head else ():
        metrics[part] = measure(predict_logits(backbone, split.images), split.labels, CLASS_NAMES)
    return metrics


# Saved pairs ---------------------------------------------------------------------------------------------------------


def pair_name(hyperparameters, classifier_hyperparameters):
    """Return the folder name of a saved pair: that of the backbone, and the MLP's own."""
    return f"{hyperparameters.name}_{classifier_hyperparameters.name}"


def save(folder, pair, hyperparameters, classifier_hyperparameters, histories, split, metrics):
    """Write a pair to `folder`, with all it takes to know it and to make it again.

    Parameters
    ----------
    folder : path
    pair : Pair
    hyperparameters : BackboneHyperparameters
    classifier_hyperparameters : mlp.ClassifierHyperparameters
    histories : dict of str to list of dict
        As from `train_pair`.
    split : dict
        The arguments of `load_splits`.
    metrics : dict
        {"validation": ..., "test": ...} of the pair, {"head_validation": ..., "head_test": ...} of the backbone's own
        head, if it was trained; each from `measure`.
    """
    backbone, _, classifier = pair
    n_backbone = sum(parameter.numel() for parameter in backbone.parameters())
    description = {
        "kind": "pair",
        "sizes": list(classifier.sizes),
        "n_parameters": n_backbone + classifier.n_parameters,
        "n_backbone_parameters": n_backbone,
        "multiply_adds": multiply_adds(backbone) + sum(W.size for W in classifier.W),
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
    save_model(folder, SavedModel(pair.state(), description, history, metrics))


def load(folder, device=None):
    """Read what `save` wrote, with the backbone on a device; see `choose_device`.

    Returns
    -------
    pair : Pair
    saved : SavedModel

    Raises
    ------
    SavedModelError
        If the folder does not hold a whole pair.
    ValueError, ImportError
        If the device, or a package that the backbone needs, is unavailable.
    """
    saved = load_model(folder, kind="pair")
    device = choose_device(device)
    try:
        description = saved.description
        # With random weights, whatever they were at first: those that were saved take their place.
        backbone = backbones.build(backbones.hyperparameters_from_json(description["hyperparameters"]))
        backbone.trained_on = description["trained_on"]
        mlp_hyperparameters = mlp.ClassifierHyperparameters.from_json(description["mlp_hyperparameters"])
        classifier = mlp.build(mlp_hyperparameters, description["sizes"][0])
        pair = Pair.from_state(saved.weights, backbone.to(device), classifier)
        check_whole(saved, ("split", "training_seconds", "best_epoch"))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SavedModelError(f"{folder}: not a saved backbone with its MLP ({error!r})") from error
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
        "features, measure both once on the test images, and save them together in a folder named after what is in "
        "it. After each epoch a checkpoint is written beside it: whatever ends the training, --resume goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command_line.add_backbone_options(command, BACKBONES)
    command_line.add_options(command.add_argument_group("the MLP"), CLASSIFIER, "mlp_")
    command_line.add_training_options(command, "models/cnn")
    command.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    command.set_defaults(command=_train_command)
    readers = command_line.add_readers(commands, _evaluate_command, _inspect_command, _predict_command)
    evaluate, _, predict = readers
    for reader in (command, evaluate, predict):
        reader.add_argument("--device", choices=DEVICES, help="where the backbone runs; the fastest one if not given")
    text = "write a saved pair as one ONNX file, which runs without Python"
    export = command_line.add_reader(commands, "export", _export_command, text)
    export.add_argument("onnx_file", type=Path, help="the file to write, such as pair.onnx")
    return parser


def _train_command(args):
    h = command_line.read_backbone_options(args, BACKBONES)
    mlp_h = command_line.read_options(args, CLASSIFIER, "mlp_")
    backbone = build(h).to(choose_device(args.device))
    split = command_line.read_split(args)
    splits = load_splits(**split)
    check_batches(mlp_h.batch_norm, mlp_h.batch_size, len(splits.train.labels))
    folder = args.models_dir / pair_name(h, mlp_h)
    # Of the backbone alone: whatever becomes of its MLP, the trained backbone is not lost.
    checkpoint = args.models_dir / f"{h.name}.checkpoint.tmp"
    with command_line.reserved(checkpoint):
        command_line.check_folder_is_free(folder, args.overwrite)
        if args.resume and not is_saved(checkpoint):
            raise ValueError(f"{checkpoint}: no such folder, so there is no training to resume")
        if is_saved(checkpoint) and not args.resume:
            if not args.overwrite:
                raise ValueError(
                    f"{checkpoint} is of an interrupted training; --resume goes on, --overwrite starts again"
                )
            remove_saved(checkpoint)
        try:
            pair, histories, metrics = train_pair(backbone, splits, h, mlp_h, checkpoint)
        except KeyboardInterrupt:
            if is_saved(checkpoint):
                print(f"cnn.py: {checkpoint} is kept; go on with --resume", file=sys.stderr)
            raise
        save(folder, pair, h, mlp_h, histories, split, metrics)
        remove_saved(checkpoint)
    print(f"saved in {folder}")
    _print_head(metrics)
    print(f"test accuracy {metrics['test']['accuracy']:.4f}")
    return 0


def _evaluate_command(args):
    pair, saved = load(args.folder, args.device)
    test = load_splits(**saved.description["split"]).test
    accuracy = measure(pair.predict_logits(test.images), test.labels, CLASS_NAMES)["accuracy"]
    return command_line.report_accuracy("cnn.py", accuracy, saved, len(test.labels))


def _inspect_command(args):
    pair, saved = load(args.folder, "cpu")
    description = saved.description
    print(f"{args.folder.name}\n")
    print(layers_text(pair.backbone), end="\n\n")
    print(pair.classifier, end="\n\n")
    command_line.print_facts(description, "hyperparameters", "mlp_hyperparameters", "split", "trained_on")
    for part in description["best_epoch"]:
        history = [row for row in saved.history if row["part"] == part]
        command_line.print_history(history, part)
        print()
    print(f"{description['training_seconds']} seconds of training\n")
    _print_head(saved.metrics)
    print()
    command_line.print_metrics(saved.metrics)
    return 0


def _print_head(metrics):
    if "head_test" in metrics:
        print(f"test accuracy of the backbone's own head {metrics['head_test']['accuracy']:.4f}")


def _predict_command(args):
    pair, _ = load(args.folder, args.device)
    for path in args.pictures:
        image = read_picture(path, args.invert)
        command_line.print_probabilities(path, pair.predict_proba(image[np.newaxis])[0], CLASS_NAMES)
    return 0


def _export_command(args):
    pair, _ = load(args.folder, "cpu")
    export_onnx(args.onnx_file, *pair)
    print(f"images, uint8 of shape (N, 28, 28), to logits: {args.onnx_file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
