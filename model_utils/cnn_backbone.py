"""Convolutional backbones in PyTorch: images in, features out.

A backbone finds the features; what classifies them is not its business. For its own training it has a linear head.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from model_utils.checks import check_choice, check_count, check_counts, check_number
from model_utils.layers import INITS, initial_std

IMAGE_SIZE = 28


class Backbone(nn.Module):
    """What every backbone is: `features`, and a linear head that only its training uses.

    A subclass defines `features` and calls `super().__init__` first.

    Parameters
    ----------
    n_features : int
        F.
    n_classes : int
        K.
    dropout : float in [0, 1)
        Share of features set to zero before the head, in training.

    Attributes
    ----------
    views : tuple of (int, int)
        The steps, in pixels down and right, by which the window on an image is moved for its mean features.
    n_at_once : int
        Images to compute features of at a time, where nothing is trained.
    """

    views = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    n_at_once = 250

    def __init__(self, n_features, n_classes=10, dropout=0.0):
        check_count("n_features", n_features)
        check_count("n_classes", n_classes, minimum=2)
        check_number("dropout", dropout, 0, 1)
        super().__init__()
        self.n_features = n_features
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_features, n_classes)

    def features(self, images):
        """Turn images, float tensor of shape (N, 1, 28, 28) in [0, 1], into features, shape (N, F)."""
        raise NotImplementedError

    def mean_features(self, images):
        """Turn images, shape (N, 1, 28, 28), into the mean of the features of several views of each, shape (N, F).

        A garment moved by a pixel, or mirrored, is the same garment: the views are `views` and their mirror images.
        """
        padded = F.pad(images, (1, 1, 1, 1))
        moved = [padded[:, :, 1 + row : 29 + row, 1 + column : 29 + column] for row, column in self.views]
        views = moved + [x.flip(3) for x in moved]
        return sum(map(self.features, views)) / len(views)

    def forward(self, images):
        """Return the head's logits, shape (N, K), of images, shape (N, 1, 28, 28)."""
        return self.head(self.dropout(self.features(images)))


class CNNBackbone(Backbone):
    """Convolution layers, each followed by ReLU and max pooling, then a fully connected layer that gives the features.

    A convolution keeps the size of its map: zeros, the black of the background, surround it. So does a max pooling of
    stride 1. One of stride s and size p makes a map of n x n one of floor((n - p) / s) + 1 in each direction.

    Parameters
    ----------
    channels : tuple of int
        Kernels of each convolution layer; its length is the number of layers.
    kernel_sizes, pool_sizes, pool_strides : tuple of int
        One for each convolution layer.
    n_features : int
        F, the units of the fully connected layer.
    init : {"random", "Xavier", "He"}
        How the weights are drawn, see `layers.initial_std`. Biases start at 0.
    dropout : float in [0, 1)
        Share of features set to zero before the head, in training.
    batch_norm : bool
        Normalise each convolution's output over the batch, before ReLU (Ioffe and Szegedy, 2015).
    n_classes : int
        K.
    seed : int
        For the initial weights.

    Attributes
    ----------
    map_sizes : tuple of int
        The height, and width, of the map that leaves each layer.

    Raises
    ------
    ValueError
        If an argument is out of its range, or a map has become too small for the next pooling.
    """

    def __init__(
        self,
        channels=(16, 32, 64, 128, 256),
        kernel_sizes=(3, 3, 3, 3, 3),
        pool_sizes=(2, 2, 2, 3, 3),
        pool_strides=(2, 2, 2, 1, 3),
        n_features=256,
        init="He",
        dropout=0.0,
        batch_norm=True,
        n_classes=10,
        seed=0,
    ):
        super().__init__(n_features, n_classes, dropout)
        check_counts("channels", channels)
        check_count("number of channels", len(channels))
        per_layer = {"kernel_sizes": kernel_sizes, "pool_sizes": pool_sizes, "pool_strides": pool_strides}
        for name, values in per_layer.items():
            check_counts(name, values)
            if len(values) != len(channels):
                raise ValueError(f"{name}: expected {len(channels)}, one for each of the channels, got {values!r}")
        check_choice("init", init, INITS)
        check_count("seed", seed, minimum=0)
        self.kernel_sizes, self.pool_sizes, self.pool_strides = kernel_sizes, pool_sizes, pool_strides
        self.map_sizes = _map_sizes(pool_sizes, pool_strides)

        self.layers = nn.ModuleList(
            _convolution_layer(*arguments, batch_norm)
            for arguments in zip((1, *channels), channels, kernel_sizes, pool_sizes, pool_strides, strict=False)
        )
        self.fully_connected = nn.Linear(channels[-1] * self.map_sizes[-1] ** 2, n_features)
        self._initialise(init, seed)
        # The layout that the fast convolution routines of processors and graphics cards read: the channels of a pixel
        # side by side.
        self.to(memory_format=torch.channels_last)

    def features(self, images):
        """Turn images, float tensor of shape (N, 1, 28, 28) in [0, 1], into features, shape (N, F), all >= 0."""
        last_map = self.feature_maps(images)[-1]
        return torch.relu(self.fully_connected(last_map.flatten(start_dim=1)))

    def feature_maps(self, images):
        """Return what leaves each convolution layer: a list of tensors, shape (N, C, H, H)."""
        maps = []
        x = images.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps

    @property
    def receptive_fields(self):
        """Pixels of the image, in each direction, that one value of each layer's output depends on.

        After F. Dumoulin, V. Visin, "A guide to convolution arithmetic for deep learning", 2016: a window of k values
        that lie `step` pixels apart reaches (k - 1) * step pixels further; a stride multiplies `step`.
        """
        field = step = 1
        fields = []
        for kernel_size, pool_size, stride in zip(self.kernel_sizes, self.pool_sizes, self.pool_strides, strict=True):
            field += (kernel_size - 1 + pool_size - 1) * step
            step *= stride
            fields.append(field)
        return tuple(fields)

    def _initialise(self, init, seed):
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # A unit reads a window of all input channels; an input is read by a window of all output channels.
                window = math.prod(module.weight.shape[2:])
                n_out, n_in = module.weight.shape[:2]
                std = initial_std(n_in * window, n_out * window, init)
                nn.init.normal_(module.weight, 0, std, generator=generator)
                nn.init.zeros_(module.bias)


def _map_sizes(pool_sizes, pool_strides):
    size = IMAGE_SIZE
    sizes = []
    for layer, (pool, stride) in enumerate(zip(pool_sizes, pool_strides, strict=True), start=1):
        if stride > 1:
            if pool > size:
                raise ValueError(
                    f"pool_sizes: layer {layer} would pool {pool} x {pool} values of a {size} x {size} map, leaving "
                    "less than 1 x 1; a pool_stride of 1, there or earlier, keeps the map"
                )
            size = (size - pool) // stride + 1
        sizes.append(size)
    return tuple(sizes)


def _convolution_layer(n_in, n_out, kernel_size, pool_size, pool_stride, batch_norm):
    """Convolution, ReLU and max pooling, as a Sequential whose parts have these names."""
    parts = OrderedDict()
    if kernel_size % 2 == 0:
        parts["padding"] = _even_padding(kernel_size)
    parts["convolution"] = nn.Conv2d(n_in, n_out, kernel_size, padding=kernel_size // 2 if kernel_size % 2 else 0)
    if batch_norm:
        parts["norm"] = nn.BatchNorm2d(n_out)
    parts["relu"] = nn.ReLU(inplace=True)
    if pool_stride > 1:
        parts["pool"] = nn.MaxPool2d(pool_size, pool_stride)
    else:
        if pool_size % 2 == 0:
            parts["pool_padding"] = _even_padding(pool_size)
        parts["pool"] = nn.MaxPool2d(pool_size, 1, padding=pool_size // 2 if pool_size % 2 else 0)
    return nn.Sequential(parts)


def _even_padding(size):
    """Surround a map so that a window of even size keeps it. After ReLU, a zero never exceeds a map's maximum."""
    before, after = size // 2 - 1, size // 2
    return nn.ZeroPad2d((before, after, before, after))
