"""Convolutional backbones in PyTorch: images in, features out.

A backbone computes features; in training, its head classifies them. The head is a linear layer or the hand-written
MLP: see `mlp_head`.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from model_utils.checks import MAX_ERASE, MAX_SHIFT, MAX_UNITS, check_n_parameters
from model_utils.hyperparameters import Hyperparameters, choice, count, counts, flag, number, seed
from model_utils.layers import INITS, initial_std

IMAGE_SIZE, N_CLASSES = 28, 10
MAX_CHANNELS = 4096


@dataclass(frozen=True)
class BackboneHyperparameters(Hyperparameters):
    """Hyperparameters that every backbone has. Each kind of backbone adds its own."""

    backbone: str = choice("", "network that computes the features", ())  # each kind declares its names
    dropout: float = number(0.3, "share of features dropped before the backbone's own head, in training", high=1)
    label_smoothing: float = number(0.1, "share of each target spread evenly over all classes", high=1)
    learning_rate: float = number(0.005, "peak learning rate of AdamW, on a cosine schedule with warm-up")
    weight_decay: float = number(
        0.05, "weight decay: how strongly weights, but not biases or batch norm, are pulled towards 0"
    )
    batch_size: int = count(128, "images per step")
    epochs: int = count(24, "passes through the training split")
    patience: int = count(0, "stop after this many epochs without a better validation accuracy, 0 for never", minimum=0)
    flip: bool = flag(True, "mirror each training image with probability 1/2, differently in each epoch")
    shift: int = count(1, "shift training images by up to this many pixels, differently in each epoch", 0, MAX_SHIFT)
    erase: int = count(
        0,
        "blacken a square with sides of this many pixels, at random in each training image and each epoch",
        0,
        MAX_ERASE,
    )
    average: float = number(0.0, "share that a running average of the weights keeps at each step, 0 for none", high=1)
    end_to_end: bool = flag(False, "train through the hand-written MLP instead of a linear head")
    seed: int = seed("for initial weights, dropout, order of batches and augmentation")

    # Only networks made for ImageNet can change these.
    weights: ClassVar[str] = "random"
    frozen: ClassVar[bool] = False

    @property
    def name(self):
        """The backbone's name, as it is used in folder names."""
        return self.backbone


class LinearHead(nn.Linear):
    """Classify features by one linear layer."""

    def loss(self, features, labels, label_smoothing):
        """Return the cross-entropy (in nats) and the logits, shape (N, K), of features of shape (N, F)."""
        logits = self(features)
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing), logits


class Backbone(nn.Module):
    """Base class of every backbone: `features`, and a head that is only used in training.

    A subclass names its dataclass in `Hyperparameters`, defines `features` and calls `super().__init__` first.

    Parameters
    ----------
    n_features : int
        F.
    dropout : float in [0, 1)
        Share of features set to zero before the head, in training.

    Attributes
    ----------
    head : LinearHead, MLPHead, or nn.Identity once the MLP has been taken off
    trained_on : dict
        Device and precision of its training, set by `backbone_training.train`; empty before.
    views : tuple of (int, int)
        Shift of each view, in pixels down and right; `mean_features` averages the views and their mirror images.
    n_at_once : int
        Batch size outside training.
    """

    Hyperparameters = BackboneHyperparameters
    views = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    n_at_once = 250

    def __init__(self, n_features, dropout):
        super().__init__()
        self.n_features = n_features
        self.dropout = nn.Dropout(dropout)
        self.head = LinearHead(n_features, N_CLASSES)
        self.trained_on = {}

    def features(self, x):
        """Turn inputs, shape (N, 1, 28, 28), into features, shape (N, F)."""
        raise NotImplementedError

    def mean_features(self, x):
        """Return the features, shape (N, F), of inputs, shape (N, 1, 28, 28), averaged over several views of each.

        A garment that is shifted by a pixel, or mirrored, is still the same garment. The views are `views` and their
        mirror images.
        """
        views = self.shifted_and_mirrored(x)
        return sum(map(self.features, views)) / len(views)

    def shifted_and_mirrored(self, x):
        """Return the list of views, each with the shape of x, (N, 1, 28, 28)."""
        padded = F.pad(x, (1, 1, 1, 1))
        shifted = [padded[:, :, 1 + row : 29 + row, 1 + column : 29 + column] for row, column in self.views]
        return shifted + [view.flip(3) for view in shifted]

    def forward(self, x):
        """Return the head's logits, shape (N, K), of inputs, shape (N, 1, 28, 28)."""
        return self.head(self.dropout(self.features(x)))


def preprocess(images):
    """Turn images, uint8 tensor of shape (N, 28, 28), into inputs, float32 of shape (N, 1, 28, 28) from 0 to 1."""
    return images.unsqueeze(1).float() / 255


@dataclass(frozen=True)
class CNNHyperparameters(BackboneHyperparameters):
    """Hyperparameters of a `CNNBackbone` and its training.

    Raises
    ------
    ValueError
        If a value is out of its range, a pooling would skip pixels or have no centre, a window would reach further
        beyond its map than the map is wide, or the network has too many parameters.
    """

    backbone: str = choice("cnn5", "network that computes the features", ("cnn5",))
    channels: tuple = counts((16, 32, 64, 128, 256), "kernels of each convolution layer", MAX_CHANNELS)
    kernel_sizes: tuple = counts((3, 3, 3, 3, 3), "height and width of the kernels of each layer", IMAGE_SIZE)
    pool_sizes: tuple = counts((2, 2, 2, 2, 2), "height and width of each layer's max pooling", IMAGE_SIZE)
    pool_strides: tuple = counts(
        (2, 2, 2, 2, 2), "step of each layer's max pooling; 1 keeps the size of the map", IMAGE_SIZE
    )
    n_features: int = count(256, "units of the fully connected layer, which give the features", maximum=MAX_UNITS)
    init: str = choice("Xavier", "initial weights", INITS)
    batch_norm: bool = flag(True, "use batch normalisation in every layer")
    pool_first: bool = flag(True, "pool before batch normalisation and ReLU, not after them")

    def __post_init__(self):
        super().__post_init__()
        if not self.channels:
            raise ValueError("channels: expected at least one layer, got none")
        for name in ("kernel_sizes", "pool_sizes", "pool_strides"):
            values = getattr(self, name)
            if len(values) != len(self.channels):
                raise ValueError(f"{name}: expected {len(self.channels)}, one for each of the channels, got {values!r}")
        for layer, (size, stride) in enumerate(zip(self.pool_sizes, self.pool_strides, strict=True), start=1):
            if size < stride:
                raise ValueError(f"pool_sizes: expected at least the stride {stride} in layer {layer}, got {size}")
            if stride == 1 and size % 2 == 0:
                raise ValueError(f"pool_sizes: expected an odd number at stride 1 in layer {layer}, got {size}")
        for name in ("kernel_sizes", "pool_sizes"):
            for layer, (size, map_size) in enumerate(zip(getattr(self, name), self._seen_sizes, strict=True), start=1):
                if size // 2 > map_size:
                    raise ValueError(
                        f"{name}: expected at most {2 * map_size + 1} in layer {layer}, which sees maps of "
                        f"{map_size} x {map_size}, got {size}"
                    )
        check_n_parameters("channels", (1, *self.channels, self.n_features), self._n_weights)

    @property
    def name(self):
        """The backbone's name, as it is used in folder names."""
        return f"CNN_{'_'.join(map(str, self.channels))}"

    @property
    def map_sizes(self):
        """Height (and width) of each layer's output: that of its input, divided by the stride and rounded up."""
        sizes = [IMAGE_SIZE]
        for stride in self.pool_strides:
            sizes.append(math.ceil(sizes[-1] / stride))
        return tuple(sizes[1:])

    @property
    def _seen_sizes(self):
        """Height (and width) of each layer's input."""
        return IMAGE_SIZE, *self.map_sizes[:-1]

    @property
    def _n_weights(self):
        """Number of weights in all layers, as a Python integer, which cannot overflow."""
        inputs = (1, *self.channels)
        kernels = zip(inputs, self.channels, self.kernel_sizes, strict=False)
        return (
            sum(n_in * n_out * size**2 for n_in, n_out, size in kernels)
            + self.channels[-1] * self.map_sizes[-1] ** 2 * self.n_features
        )

    @property
    def receptive_fields(self):
        """Pixels of the image, in each direction, that one value of each layer's output depends on.

        After V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016: a window of k values
        that lie `step` pixels apart reaches (k - 1) * step pixels further; a stride multiplies `step`.
        """
        field = step = 1
        fields = []
        for kernel_size, pool_size, stride in zip(self.kernel_sizes, self.pool_sizes, self.pool_strides, strict=True):
            field += (kernel_size - 1 + pool_size - 1) * step
            step *= stride
            fields.append(field)
        return tuple(fields)


class CNNBackbone(Backbone):
    """Convolution layers, each with max pooling and ReLU, then a fully connected layer that gives the features.

    By default, pooling comes before batch normalisation (S. Ioffe, C. Szegedy, 2015) and ReLU, so that they work on
    fewer values: the number is divided by the square of the stride. Without batch normalisation, pooling last gives
    the same result, because ReLU keeps the order of numbers: the largest of several values after ReLU is the ReLU of
    the largest. With it, the result depends on the order, because its mean and variance are those of another map.

    A convolution keeps the size of its map, which is surrounded by zeros, the black of the background. Pooling with
    stride s divides the size by s and rounds up; windows at the border are cut off where the map ends.

    Parameters
    ----------
    hyperparameters : CNNHyperparameters
    """

    Hyperparameters = CNNHyperparameters

    def __init__(self, hyperparameters):
        h = hyperparameters
        super().__init__(h.n_features, h.dropout)
        self.layers = nn.ModuleList(
            _convolution_layer(*sizes, h.batch_norm, h.pool_first)
            for sizes in zip(
                (1, *h.channels),
                h.channels,
                h.kernel_sizes,
                h.pool_sizes,
                h.pool_strides,
                h._seen_sizes,
                strict=False,
            )
        )
        n_inputs = h.channels[-1] * h.map_sizes[-1] ** 2
        self.fully_connected = nn.Linear(n_inputs, h.n_features, bias=not h.batch_norm)
        self.norm = nn.BatchNorm1d(h.n_features) if h.batch_norm else nn.Identity()
        self._initialise(h.init, h.seed)
        # The memory layout that fast convolution routines on CPUs and GPUs read: the channels of a
        # pixel lie side by side.
        self.to(memory_format=torch.channels_last)

    def features(self, x):
        """Turn inputs, shape (N, 1, 28, 28), into features, shape (N, F), all >= 0."""
        last_map = self.feature_maps(x)[-1]
        return torch.relu(self.norm(self.fully_connected(last_map.flatten(start_dim=1))))

    def feature_maps(self, x):
        """Return the output of each convolution layer: a list of tensors, shape (N, C, H, H)."""
        maps = []
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps

    def _initialise(self, init, seed):
        """Draw all weights from one generator; biases start at 0. See `layers.initial_std`."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # A unit reads a window of all input channels; an input is read by a window of all output channels.
                window = math.prod(module.weight.shape[2:])
                n_out, n_in = module.weight.shape[:2]
                std = initial_std(n_in * window, n_out * window, init)
                nn.init.normal_(module.weight, 0, std, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _convolution_layer(n_in, n_out, kernel_size, pool_size, pool_stride, map_size, batch_norm, pool_first):
    """Convolution, max pooling, batch normalisation and ReLU, as a Sequential whose parts have names."""
    parts = OrderedDict()
    if kernel_size % 2 == 0:  # zeros around a map, so that an even kernel keeps its size
        before, after = kernel_size // 2 - 1, kernel_size // 2
        parts["padding"] = nn.ZeroPad2d((before, after, before, after))
    padding = kernel_size // 2 if kernel_size % 2 else 0
    # Batch norm subtracts the mean, and so cancels any bias before it. It adds a bias of its own.
    parts["convolution"] = nn.Conv2d(n_in, n_out, kernel_size, padding=padding, bias=not batch_norm)
    # The windows reach beyond the map. Divide the excess between the two sides, with the larger half at the end.
    beyond = (math.ceil(map_size / pool_stride) - 1) * pool_stride + pool_size - map_size
    pool = nn.MaxPool2d(pool_size, pool_stride, padding=max(0, beyond) // 2, ceil_mode=True)
    if pool_first:
        parts["pool"] = pool
    if batch_norm:
        parts["norm"] = nn.BatchNorm2d(n_out)
    parts["relu"] = nn.ReLU(inplace=True)
    if not pool_first:
        parts["pool"] = pool
    return nn.Sequential(parts)
