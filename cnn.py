"""Train a convolutional backbone, extract its features, and hand them to the NumPy MLP: as functions, or as a command.

The command line, each with --help:

    python cnn.py train --channels 16 32 64 128 256 --epochs 24
    python cnn.py evaluate models/cnn/NAME
    python cnn.py inspect models/cnn/NAME
    python cnn.py predict models/cnn/NAME picture.png
    python cnn.py export models/cnn/NAME pair.onnx

Images come as in `data_preparation.Split`: uint8 of shape (N, 28, 28), N images. F is the number of features.
"""

import model_utils.blas  # noqa: F401  before NumPy is loaded

# isort: split

import argparse
import hashlib
import math
import platform
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from tqdm import tqdm

import mlp
from data_preparation import CLASS_NAMES, DataError, load_splits, read_picture, scale
from model_utils import command_line
from model_utils.checks import check_choice, check_count, check_labels, check_number
from model_utils.cnn_backbone import CNNBackbone
from model_utils.command_line import option
from model_utils.imagenet import NETWORKS, ImageNetBackbone, WeightsError
from model_utils.layer_table import layer_table
from model_utils.layers import INITS
from model_utils.lenet import LENETS, LeNet
from model_utils.losses import cross_entropy, softmax
from model_utils.onnx_export import export_onnx
from model_utils.optimizers import cosine
from model_utils.saved_models import SavedModel, SavedModelError, is_saved, load_model, remove_saved, save_model
from model_utils.tables import markdown_table
from model_utils.vision_transformer import VisionTransformer
from model_utils.wide_cnn import WideCNN

DEVICES = ("cpu", "cuda", "mps")

BACKBONES = ("cnn5", *LENETS, "wide_cnn", *NETWORKS, "vit")

# What describes some backbones only; the architecture of the others is their own.
ONLY_FOR = {
    ("cnn5",): ("channels", "kernel_sizes", "pool_sizes", "pool_strides", "n_features", "init", "batch_norm"),
    NETWORKS: ("weights", "frozen", "image_size"),
}


@dataclass(frozen=True)
class Hyperparameters:
    """Everything about the backbone that is chosen before training. The command line has an option of each name.

    Raises
    ------
    ValueError
        If a value is out of its range, or does not belong to the backbone, see `ONLY_FOR`. The architecture of a cnn5
        is checked by `CNNBackbone`.
    """

    backbone: str = option("cnn5", f"what finds the features: {', '.join(BACKBONES)}")
    channels: tuple = option((16, 32, 64, 128, 256), "cnn5: kernels of each convolution layer")
    kernel_sizes: tuple = option((3, 3, 3, 3, 3), "cnn5: height and width of the kernels of each layer")
    pool_sizes: tuple = option((2, 2, 2, 3, 3), "cnn5: height and width of each layer's max pooling")
    pool_strides: tuple = option((2, 2, 2, 1, 3), "cnn5: step of each layer's max pooling; 1 keeps the size of the map")
    n_features: int = option(256, "cnn5: units of the fully connected layer, the features")
    init: str = option("Xavier", "cnn5: initial weights: random, Xavier, He")
    dropout: float = option(0.3, "share of features dropped before the backbone's own head, in training")
    batch_norm: bool = option(True, "cnn5: normalise each convolution over the batch")
    weights: str = option("random", f"{', '.join(NETWORKS)}: initial weights, random or ImageNet")
    frozen: bool = option(False, "ImageNet's networks: keep the initial weights, and train the MLP only")
    image_size: int = option(32, "ImageNet's networks: height and width that images are enlarged to")
    label_smoothing: float = option(0.1, "share of each target spread evenly over all classes")
    learning_rate: float = option(0.005, "of AdamW, the top of a cosine with warm-up")
    weight_decay: float = option(0.05, "pull of the weights, not of biases and batch norm, towards 0")
    batch_size: int = option(128, "images per step")
    epochs: int = option(24, "passes through the training split")
    patience: int = option(0, "stop after so many epochs without a better validation accuracy, 0 for never")
    flip: bool = option(True, "mirror half of the training images, anew each epoch")
    shift: int = option(1, "move training images by up to so many pixels, anew each epoch")
    erase: int = option(
        0, "blacken a square of so many pixels each way, anywhere in each training image, anew each epoch"
    )
    seed: int = option(0, "for initial weights, dropout, order of batches and augmentation")

    def __post_init__(self):
        check_choice("backbone", self.backbone, BACKBONES)
        for owners, names in ONLY_FOR.items():
            for field in fields(self):
                is_set = field.name in names and getattr(self, field.name) != field.default
                if is_set and self.backbone not in owners:
                    raise ValueError(f"{field.name}: expected for {', '.join(owners)} only, not for {self.backbone}")
        check_choice("weights", self.weights, ("random", "ImageNet"))
        check_choice("init", self.init, INITS)
        check_number("label_smoothing", self.label_smoothing, 0, 1)
        check_number("learning_rate", self.learning_rate, 0)
        check_number("weight_decay", self.weight_decay, 0)
        check_count("batch_size", self.batch_size)
        check_count("epochs", self.epochs)
        check_count("patience", self.patience, minimum=0)
        check_count("shift", self.shift, minimum=0)
        check_count("erase", self.erase, minimum=0)
        check_count("seed", self.seed, minimum=0)


# What classifies the features unless something else is asked for.
MLP_HYPERPARAMETERS = mlp.Hyperparameters(
    hidden_sizes=(256, 128, 64, 32, 16),
    init="Xavier",
    weight_decay=0.005,
    learning_rate=0.01,
    schedule="cosine",
    epochs=10,
)


def model_name(hyperparameters, mlp_hyperparameters):
    """Return the folder name of a saved pair: that of the backbone, and the MLP's own."""
    return f"{backbone_name(hyperparameters)}_{mlp_hyperparameters.name}"


def backbone_name(hyperparameters):
    """Return CNN and the channels of a cnn5; for another backbone its name, and what was done with its weights."""
    h = hyperparameters
    if h.backbone == "cnn5":
        return f"CNN_{'_'.join(map(str, h.channels))}"
    return h.backbone + ("_ImageNet" if h.weights == "ImageNet" else "") + ("_frozen" if h.frozen else "")


def build(hyperparameters):
    """Make the untrained backbone that the hyperparameters describe.

    Raises
    ------
    ValueError
        If its architecture is impossible.
    ImportError, WeightsError
        If a package that it needs is not installed, or its ImageNet weights are not to be had.
    """
    h = hyperparameters
    if h.backbone == "cnn5":
        return CNNBackbone(
            h.channels,
            h.kernel_sizes,
            h.pool_sizes,
            h.pool_strides,
            h.n_features,
            h.init,
            h.dropout,
            h.batch_norm,
            n_classes=len(CLASS_NAMES),
            seed=h.seed,
        )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(h.seed)
        if h.backbone in LENETS:
            return LeNet(*LENETS[h.backbone], h.dropout, len(CLASS_NAMES))
        if h.backbone in NETWORKS:
            backbone = ImageNetBackbone(h.backbone, h.image_size, h.dropout, len(CLASS_NAMES))
            if h.weights == "ImageNet":
                backbone.load_imagenet_weights()
            return backbone
        return {"wide_cnn": WideCNN, "vit": VisionTransformer}[h.backbone](h.dropout, len(CLASS_NAMES))


# Training ----------------------------------------------------------------------------------------------------------


def choose_device(name=None):
    """Return the device of that name, or if None the first that is here of a CUDA card, Apple's MPS and the processor.

    Raises
    ------
    ValueError
        If the name is unknown or the device is not here.
    """
    is_here = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    if name is None:
        name = next(device for device, check in is_here.items() if check())
    check_choice("device", name, DEVICES)
    if not is_here[name]():
        raise ValueError(f"device: {name} was asked for, and this machine or this PyTorch has none")
    return torch.device(name)


def has_fast_bfloat16(device):
    """Say whether the device multiplies in bfloat16 by its own instructions, at twice the speed of float32 or more.

    Where it has to imitate them, as processors without AVX-512 BF16 do, bfloat16 is far slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # PyTorch asks the processor in this function only; it is not part of its documented interface.
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def as_tensor(images):
    """Turn images, uint8 of shape (N, 28, 28), into a float32 tensor of shape (N, 1, 28, 28) in [0, 1].

    Raises
    ------
    ValueError
        If images are of another shape or type.
    """
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise ValueError(f"images: expected shape (N, 28, 28) with N at least 1, got {images.shape}")
    return torch.from_numpy(np.ascontiguousarray(scale(images))).unsqueeze(1)


def augment(images, flip=True, shift=1, erase=0):
    """Vary a batch at random: as `data_preparation.augment`, for tensors on any device, and with a square erased.

    Parameters
    ----------
    images : tensor, shape (N, 1, 28, 28)
    flip : bool
        Mirror each image left to right with probability 1/2.
    shift : int
        Move each image by -shift to shift pixels in each direction; black (0) moves in from outside.
    erase : int
        Side of a square that is made black in each image; part of it may lie outside. Cutout, after T. DeVries and
        G. Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.

    Returns
    -------
    tensor, shape (N, 1, 28, 28)
    """
    n = len(images)
    if flip:
        is_mirrored = (torch.rand(n) < 0.5).to(images.device)
        images = torch.where(is_mirrored[:, None, None, None], images.flip(3), images)
    if shift:
        rows, columns = torch.randint(0, 2 * shift + 1, (2, n)).to(images.device)
        windows = F.pad(images, (shift,) * 4).unfold(2, 28, 1).unfold(3, 28, 1)  # (N, 1, 2s+1, 2s+1, 28, 28)
        images = windows[torch.arange(n, device=images.device), :, rows, columns]
    if erase:
        first = torch.randint(1 - erase, 28, (2, n, 1)).to(images.device)  # of the square's rows and of its columns
        pixels = torch.arange(28, device=images.device)
        rows, columns = (pixels >= first) & (pixels < first + erase)  # (N, 28) each
        images = images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)
    return images


def train(backbone, training, validation, hyperparameters, history=None, checkpoint=None, progress=True):
    """Train a backbone through its own head; it ends with the weights that were best on validation.

    Parameters
    ----------
    backbone : Backbone
        On the device to train on. However training ends, it keeps the weights of the epoch with the highest validation
        accuracy so far.
    training, validation : Split
    hyperparameters : Hyperparameters
    history : list, optional
        Gets a row at the end of each epoch. Pass an empty one to have the rows if training is cut short.
    checkpoint : path, optional
        A folder where the state of the training is kept after each epoch. If there is one already, training goes on
        from it, on a processor to the same final weights as if it had never been cut off.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of dict
        The history, with the columns of `mlp.train`.

    Raises
    ------
    ValueError
        If images or labels are not as they should be, a batch of one image would meet batch normalisation, the history
        is not empty, or the checkpoint is of other hyperparameters or images.
    SavedModelError
        If the checkpoint is damaged.
    mlp.TrainingDiverged
        If the loss is NaN or infinite.
    """
    h = hyperparameters
    history = [] if history is None else history
    mlp.check_empty(history)
    device = next(backbone.parameters()).device
    images, labels = (tensor.to(device) for tensor in _as_tensors_checked(training, "training"))
    _as_tensors_checked(validation, "validation")
    has_batch_norm = any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())
    mlp.check_batches(has_batch_norm, h.batch_size, len(labels))
    weights, others = [], []
    for parameter in backbone.parameters():
        (weights if parameter.ndim > 1 else others).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": weights}, {"params": others, "weight_decay": 0.0}], weight_decay=h.weight_decay, fused=True
    )
    best_state = _copy(backbone.state_dict())
    # What a checkpoint was made with: going on with anything else would not be the same training.
    origin = {"hyperparameters": asdict(h), "images_sha256": _sha256(*training, *validation)}
    if checkpoint is not None and is_saved(checkpoint):
        best_state = _load_checkpoint(checkpoint, backbone, optimizer, origin, history)

    steps_per_epoch = math.ceil(len(labels) / h.batch_size)
    bar = tqdm(
        total=h.epochs * steps_per_epoch,
        initial=len(history) * steps_per_epoch,
        desc="training",
        unit="step",
        file=sys.stdout,
        mininterval=0.5,
        disable=not progress,
    )
    try:
        # The caller's random numbers stay as they are, and each epoch has its own: nothing to keep in a checkpoint.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for epoch in range(len(history) + 1, h.epochs + 1):
                if history and h.patience and epoch - mlp.best_epoch(history)["epoch"] > h.patience:
                    break
                started = time.perf_counter()
                torch.manual_seed(int(np.random.SeedSequence([h.seed, epoch]).generate_state(1)[0]))
                row = {"epoch": epoch} | _train_one_epoch(backbone, images, labels, optimizer, h, epoch, history, bar)
                logits = predict_logits(backbone, validation.images)
                row["validation_loss"] = cross_entropy(logits, validation.labels, h.label_smoothing)[0]
                _check_finite(row["validation_loss"], "validation loss", epoch, h)
                row["validation_accuracy"] = float(np.mean(logits.argmax(axis=1) == validation.labels))
                row["learning_rate"] = optimizer.param_groups[0]["lr"]
                row["seconds"] = time.perf_counter() - started
                history.append(row)
                if mlp.best_epoch(history) is row:
                    best_state = _copy(backbone.state_dict())
                if checkpoint is not None:
                    _save_checkpoint(checkpoint, backbone, optimizer, origin, history, best_state)
    finally:
        bar.close()
        backbone.load_state_dict(best_state)
        backbone.eval()
    return history


def _train_one_epoch(backbone, images, labels, optimizer, hyperparameters, epoch, history, bar):
    """Go once through the images; return the means of loss and accuracy over the epoch's batches."""
    h = hyperparameters
    device = images.device
    best = f", best validation {mlp.best_epoch(history)['validation_accuracy']:.4f}" if history else ""
    batches = torch.randperm(len(images)).split(h.batch_size)
    loss_sum = torch.zeros((), device=device)
    n_correct = torch.zeros((), dtype=torch.int64, device=device)
    n_seen = 0
    backbone.train()
    for step, chosen in enumerate(batches):
        chosen = chosen.to(device)
        share_done = (epoch - 1 + (step + 0.5) / len(batches)) / h.epochs
        for group in optimizer.param_groups:
            group["lr"] = h.learning_rate * cosine(share_done)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device)):
            logits = backbone(augment(images[chosen], h.flip, h.shift, h.erase)).float()
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=h.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(chosen)
        n_correct += (logits.argmax(dim=1) == labels[chosen]).sum()
        n_seen += len(chosen)
        # Reading a number makes a graphics card wait, so not at each step.
        if step % 25 == 24 or n_seen == len(images):
            mean_loss, accuracy = loss_sum.item() / n_seen, n_correct.item() / n_seen
            _check_finite(mean_loss, "loss", epoch, h)
            bar.set_postfix_str(
                f"epoch {epoch}/{h.epochs}, loss {mean_loss:.3f}, accuracy {accuracy:.4f}{best}", refresh=False
            )
        bar.update()
    return {"train_loss": mean_loss, "train_accuracy": accuracy}


def _check_finite(loss, name, epoch, hyperparameters):
    if not math.isfinite(loss):
        raise mlp.TrainingDiverged(
            f"{name} is {loss} in epoch {epoch}; the best weights before it are kept. "
            f"Try a learning_rate below {hyperparameters.learning_rate:g}."
        )


def _as_tensors_checked(split, part):
    try:
        images = as_tensor(split.images)
    except ValueError as error:
        raise ValueError(f"{part} {error}") from None
    labels = check_labels(split.labels, len(images), len(CLASS_NAMES), f"{part} labels")
    return images, torch.from_numpy(np.ascontiguousarray(labels))


def _copy(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _sha256(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


# What the optimizer keeps of each parameter.
ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")


def _save_checkpoint(folder, backbone, optimizer, origin, history, best_state):
    weights = _as_arrays(backbone.state_dict(), "now.") | _as_arrays(best_state, "best.")
    for number, state in optimizer.state_dict()["state"].items():
        weights |= _as_arrays(state, f"optimizer.{number}.")
    save_model(folder, SavedModel(weights, origin, history, {}))


def _load_checkpoint(folder, backbone, optimizer, origin, history):
    """Set everything that `_save_checkpoint` kept but the best state, which is returned."""
    saved = load_model(folder)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        kept = asdict(command_line.from_json(Hyperparameters, saved.description["hyperparameters"]))
        different = [f"{name} {value}" for name, value in kept.items() if value != origin["hyperparameters"][name]]
        if saved.description["images_sha256"] != origin["images_sha256"]:
            different.append("images")
        if not different:
            best_state = _as_tensors(saved.weights, "best.")
            for weights in (best_state, _as_tensors(saved.weights, "now.")):
                backbone.load_state_dict(weights)
            state = {
                number: {name: torch.from_numpy(saved.weights[f"optimizer.{number}.{name}"]) for name in ADAMW_STATE}
                for number in range(len(parameters))
            }
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SavedModelError(f"{folder}: not a checkpoint of this training ({error!r})") from error
    if different:
        raise ValueError(f"{folder}: the interrupted training had other settings: {', '.join(different)}")
    for number, parameter in enumerate(parameters):
        for name, tensor in state[number].items():
            if tensor.shape == parameter.shape:  # in the parameter's memory layout, which the fused optimizer relies on
                state[number][name] = torch.empty_like(parameter).copy_(tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    history[:] = saved.history
    return best_state


def _as_arrays(tensors, prefix):
    return {prefix + name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def _as_tensors(arrays, prefix):
    return {
        name.removeprefix(prefix): torch.from_numpy(array) for name, array in arrays.items() if name.startswith(prefix)
    }


# From images to features to classes ----------------------------------------------------------------------------------


def predict_logits(backbone, images):
    """Compute the logits of a backbone's own head, float32 of shape (N, K), in evaluation mode."""
    return _in_batches(backbone, backbone, images)


def extract_features(backbone, images, progress=False):
    """Compute the features of images, in evaluation mode: see `Backbone.mean_features`.

    Parameters
    ----------
    backbone : Backbone
    images : ndarray of uint8, shape (N, 28, 28)
    progress : bool
        Show a progress bar.

    Returns
    -------
    ndarray of float32, shape (N, F)
    """
    return _in_batches(backbone, backbone.mean_features, images, progress)


@torch.inference_mode()
def _in_batches(backbone, function, images, progress=False):
    """Apply a function of a backbone, in evaluation mode, to any number of images; return an array."""
    backbone.eval()
    device = next(backbone.parameters()).device
    batches = as_tensor(images).split(backbone.n_at_once)
    bar = tqdm(batches, desc="features", unit="batch", file=sys.stdout, mininterval=0.5, disable=not progress)
    return torch.cat([function(batch.to(device)).cpu() for batch in bar]).numpy()


class Standardizer(NamedTuple):
    """Brings each feature to mean 0 and standard deviation 1 on the training images.

    Attributes
    ----------
    mean, std : ndarray of float32, shape (F,)
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, features):
        """Take the statistics of features, shape (N, F). One that never varies gets std 1 and so becomes 0."""
        varies = features.max(axis=0) > features.min(axis=0)  # rounding can give a constant one a tiny std
        return cls(features.mean(axis=0), np.where(varies, features.std(axis=0), np.float32(1)))

    def __call__(self, features):
        """Standardise features, shape (N, F)."""
        return (features - self.mean) / self.std


class Hybrid(NamedTuple):
    """From raw images to classes: a backbone, the statistics of its features, and the NumPy MLP that classifies them.

    Attributes
    ----------
    backbone : Backbone
    standardizer : Standardizer
    classifier : model_utils.mlp.MLP
    """

    backbone: torch.nn.Module
    standardizer: Standardizer
    classifier: mlp.MLP

    def predict_logits(self, images):
        """Return the MLP's logits, shape (N, K), of images, uint8 of shape (N, 28, 28)."""
        return self.classifier.predict_logits(self.standardizer(extract_features(self.backbone, images)))

    def predict_proba(self, images):
        """Return the class probabilities, shape (N, K), of images, uint8 of shape (N, 28, 28)."""
        return softmax(self.predict_logits(images))


def classifier_data(backbone, splits, progress=True):
    """Extract the features of all splits once, and standardise them by those of the training images.

    Returns
    -------
    standardizer : Standardizer
    parts : list of (features, labels)
        For training, validation and test: float32 of shape (N, F), and int of shape (N,).
    """
    features = [extract_features(backbone, part.images, progress) for part in splits]
    standardizer = Standardizer.fit(features[0])
    return standardizer, [(standardizer(f), part.labels) for f, part in zip(features, splits, strict=True)]


def train_hybrid(splits, hyperparameters, mlp_hyperparameters, histories, checkpoint=None, device=None, progress=True):
    """Train a backbone, unless it is frozen, then the MLP on its features, and measure them.

    Parameters
    ----------
    splits : Splits
    hyperparameters : Hyperparameters
    mlp_hyperparameters : mlp.Hyperparameters
    histories : dict of str to list
        {"backbone": [], "mlp": []}; the lists get a row an epoch.
    checkpoint : path, optional
        See `train`.
    device : str, optional
        For the backbone, see `choose_device`.
    progress : bool
        Show progress bars.

    Returns
    -------
    hybrid : Hybrid
    metrics : dict
        See `save`. The test images are read once the training is over.
    """
    backbone = build(hyperparameters).to(choose_device(device))
    if not hyperparameters.frozen:
        train(backbone, splits.train, splits.validation, hyperparameters, histories["backbone"], checkpoint, progress)
    standardizer, (training, validation, test) = classifier_data(backbone, splits, progress)
    classifier = mlp.build(mlp_hyperparameters, backbone.n_features)
    mlp.train(classifier, training, validation, mlp_hyperparameters, histories["mlp"], progress)
    hybrid = Hybrid(backbone, standardizer, classifier)
    return hybrid, measure(backbone, classifier, splits, validation, test, with_head=not hyperparameters.frozen)


def measure(backbone, classifier, splits, validation, test, with_head=True):
    """Measure an MLP on features, and the backbone's own head, if it was trained, on images.

    Parameters
    ----------
    backbone : Backbone
    classifier : model_utils.mlp.MLP
    splits : Splits
    validation, test : tuple
        From `classifier_data`.
    with_head : bool

    Returns
    -------
    dict
        See `save`.
    """
    metrics = {"validation": mlp.evaluate(classifier, *validation), "test": mlp.evaluate(classifier, *test)}
    for part, split in (("head_validation", splits.validation), ("head_test", splits.test)) if with_head else ():
        metrics[part] = mlp.measure(predict_logits(backbone, split.images), split.labels)
    return metrics


# Saved pairs ---------------------------------------------------------------------------------------------------------


def save(folder, hybrid, hyperparameters, mlp_hyperparameters, histories, split, metrics):
    """Write a backbone and its MLP to `folder`, together, with all it takes to know them and to make them again.

    Parameters
    ----------
    folder : path
    hybrid : Hybrid
    hyperparameters : Hyperparameters
    mlp_hyperparameters : mlp.Hyperparameters
    histories : dict of str to list of dict
        {"backbone": from `train`, "mlp": from `mlp.train`}.
    split : dict
        The arguments of `load_splits`.
    metrics : dict
        {"validation": ..., "test": ...} of the pair, {"head_validation": ..., "head_test": ...} of the backbone's own
        head, if it was trained; each from `mlp.measure`.
    """
    backbone, standardizer, classifier = hybrid
    device = next(backbone.parameters()).device
    weights = (
        _as_arrays(backbone.state_dict(), "backbone.")
        | {f"standardizer.{name}": array for name, array in standardizer._asdict().items()}
        | {f"mlp.{name}": array for name, array in classifier.state().items()}
    )
    n_backbone = sum(parameter.numel() for parameter in backbone.parameters())
    is_in_bfloat16 = has_fast_bfloat16(device) and not hyperparameters.frozen
    description = {
        "model": "CNN backbone + NumPy MLP",
        "sizes": list(classifier.sizes),
        "n_parameters": n_backbone + classifier.n_parameters,
        "n_backbone_parameters": n_backbone,
        "hyperparameters": asdict(hyperparameters),
        "mlp_hyperparameters": asdict(mlp_hyperparameters),
        "split": split,
        "epochs_run": {part: len(history) for part, history in histories.items()},
        "best_epoch": {part: mlp.best_epoch(history)["epoch"] for part, history in histories.items() if history},
        "training_seconds": round(sum(row["seconds"] for history in histories.values() for row in history), 2),
        "trained_on": {"device": device.type, "precision": "bfloat16" if is_in_bfloat16 else "float32"},
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }
    history = [{"part": part} | row for part, rows in histories.items() for row in rows]
    save_model(folder, SavedModel(weights, description, history, metrics))


def load(folder, device=None):
    """Read what `save` wrote.

    Parameters
    ----------
    folder : path
    device : str, optional
        For the backbone, see `choose_device`.

    Returns
    -------
    hybrid : Hybrid
    saved : SavedModel

    Raises
    ------
    SavedModelError
        If the folder does not hold a whole pair.
    ValueError
        If the device is unknown or not here.
    ImportError
        If a package that the backbone needs is not installed.
    """
    saved = load_model(folder)
    device = choose_device(device)
    try:
        description = saved.description
        hyperparameters = command_line.from_json(Hyperparameters, description["hyperparameters"])
        backbone = build(replace(hyperparameters, weights="random"))  # those of ImageNet would be overwritten
        backbone.load_state_dict(_as_tensors(saved.weights, "backbone."))
        backbone.to(device).eval()
        standardizer = Standardizer(*(saved.weights[f"standardizer.{name}"] for name in Standardizer._fields))
        mlp_hyperparameters = command_line.from_json(mlp.Hyperparameters, description["mlp_hyperparameters"])
        classifier = mlp.build(mlp_hyperparameters, description["sizes"][0])
        prefix = "mlp."
        classifier.load_state(
            {name.removeprefix(prefix): w for name, w in saved.weights.items() if name.startswith(prefix)}
        )
        command_line.check_whole(saved, ("split", "trained_on", "training_seconds", "best_epoch"))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SavedModelError(f"{folder}: not a saved backbone with its MLP ({error!r})") from error
    return Hybrid(backbone, standardizer, classifier), saved


# The command line ---------------------------------------------------------------------------------------------------

# An MLP on features has no images to mirror or to move.
ONLY_FOR_IMAGES = ("flip", "shift")


def main(arguments=None):
    """Run the command line; return its exit status."""
    errors = (ValueError, DataError, SavedModelError, WeightsError, mlp.TrainingDiverged, OSError, ImportError)
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
    command_line.add_options(command, Hyperparameters())
    command_line.add_options(command, MLP_HYPERPARAMETERS, "mlp_", ONLY_FOR_IMAGES)
    command_line.add_training_options(command, "models/cnn")
    command.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    command.set_defaults(command=_train_command)
    readers = command_line.add_readers(commands, _evaluate_command, _inspect_command, _predict_command)
    evaluate, _, predict = readers
    for reader in (command, evaluate, predict):
        reader.add_argument("--device", choices=DEVICES, help="where the backbone runs; the fastest one if not given")
    text = "write a saved pair as one ONNX file, which runs without Python"
    export = commands.add_parser("export", help=text, description=text[0].upper() + text[1:] + ".")
    export.add_argument("folder", type=Path, help="a saved pair, such as models/cnn/NAME")
    export.add_argument("onnx_file", type=Path, help="the file to write, such as pair.onnx")
    export.set_defaults(command=_export_command)
    return parser


def _train_command(args):
    h = command_line.read_options(args, Hyperparameters())
    mlp_h = command_line.read_options(args, MLP_HYPERPARAMETERS, "mlp_", ONLY_FOR_IMAGES)
    split = command_line.read_split(args)
    splits = load_splits(**split)
    # What would be refused later is better heard of now.
    build(h), mlp.build(mlp_h), choose_device(args.device)
    mlp.check_batches(mlp_h.batch_norm, mlp_h.batch_size, len(splits.train.labels))
    folder = args.models_dir / model_name(h, mlp_h)
    # Of the backbone alone: whatever becomes of its MLP, the trained backbone is not lost.
    checkpoint = args.models_dir / f"{backbone_name(h)}.checkpoint.tmp"
    histories = {"backbone": [], "mlp": []}
    with command_line.reserved(checkpoint):
        command_line.check_folder_is_free(folder, args.overwrite)
        if args.resume and not is_saved(checkpoint):
            raise ValueError(f"{checkpoint}: no such folder, so there is no training to resume")
        if is_saved(checkpoint) and not args.resume:
            if not args.overwrite:
                raise ValueError(
                    f"{checkpoint} is of an interrupted training; --resume goes on, --overwrite starts anew"
                )
            remove_saved(checkpoint)
        try:
            hybrid, metrics = train_hybrid(splits, h, mlp_h, histories, checkpoint, args.device)
        except KeyboardInterrupt:
            if is_saved(checkpoint):
                print(f"cnn.py: {checkpoint} is kept; go on with --resume", file=sys.stderr)
            raise
        save(folder, hybrid, h, mlp_h, histories, split, metrics)
        remove_saved(checkpoint)
    print(f"saved in {folder}")
    _print_head(metrics)
    print(f"test accuracy {metrics['test']['accuracy']:.4f}")
    return 0


def _evaluate_command(args):
    hybrid, saved = load(args.folder, args.device)
    test = load_splits(**saved.description["split"]).test
    accuracy = mlp.measure(hybrid.predict_logits(test.images), test.labels)["accuracy"]
    return command_line.report_accuracy("cnn.py", accuracy, saved, len(test.labels))


def _inspect_command(args):
    hybrid, saved = load(args.folder, "cpu")
    description = saved.description
    print(f"{args.folder.name}\n")
    print(layers_text(hybrid.backbone), end="\n\n")
    print(hybrid.classifier, end="\n\n")
    for part in ("hyperparameters", "mlp_hyperparameters", "split", "trained_on"):
        print(markdown_table([part, "value"], description[part].items()), end="\n\n")
    for part in description["best_epoch"]:
        history = [row for row in saved.history if row["part"] == part]
        command_line.print_history(history, mlp.best_epoch(history), part)
        print()
    print(f"{description['training_seconds']} seconds of training\n")
    _print_head(saved.metrics)
    print()
    command_line.print_metrics(saved.metrics)
    return 0


def _print_head(metrics):
    if "head_test" in metrics:
        print(f"test accuracy of the backbone's own head {metrics['head_test']['accuracy']:.4f}")


def layers_text(backbone):
    """Lay out a backbone's layers as a Markdown table: output shapes, parameters, multiply-adds for one image."""
    rows = layer_table(backbone)
    cells = [
        (
            row["layer"],
            row["kind"],
            " x ".join(map(str, row["output_shape"])),
            f"{row['parameters']:,}",
            f"{row['multiply_adds']:,}",
        )
        for row in rows
    ]
    totals = (f"{sum(row[column] for row in rows):,}" for column in ("parameters", "multiply_adds"))
    header = ["layer", "kind", "output", "parameters", "multiply-adds"]
    return markdown_table(header, [*cells, ("all", "", "", *totals)])


def _predict_command(args):
    hybrid, _ = load(args.folder, args.device)
    for path in args.pictures:
        image = read_picture(path, args.invert)
        command_line.print_probabilities(path, hybrid.predict_proba(image[np.newaxis])[0], CLASS_NAMES)
    return 0


def _export_command(args):
    hybrid, _ = load(args.folder, "cpu")
    export_onnx(args.onnx_file, *hybrid)
    print(f"images, uint8 of shape (N, 28, 28), to logits: {args.onnx_file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
