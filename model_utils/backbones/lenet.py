"""LeNet-5 and its modernised versions, as backbones: images in, features out."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from model_utils.cnn_backbone import Backbone, BackboneHyperparameters
from model_utils.hyperparameters import choice

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
POOLINGS = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}

# From 1998 to today in three steps: activation, pooling, batch_norm.
LENETS = {
    "lenet5": ("tanh", "average", False),
    "lenet5_relu": ("relu", "average", False),
    "lenet5_relu_max": ("relu", "max", False),
    "modern_lenet": ("relu", "max", True),
}


@dataclass(frozen=True)
class LeNetHyperparameters(BackboneHyperparameters):
    """Hyperparameters of a `LeNet` and its training."""

    backbone: str = choice("lenet5", "network that computes the features", LENETS)


class LeNet(Backbone):
    """LeNet-5 of Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998, and its successors.

    A black frame enlarges images to 32 x 32. The layers are 6 kernels of 5 x 5, pooling by 2, 16 kernels of 5 x 5,
    pooling by 2, 120 kernels of 5 x 5, which leave one pixel, and a fully connected layer of 84 units, the features.
    The paper's network has tanh, average pooling and no normalisation. This one departs from it where libraries do:
    each kernel of the second layer sees all maps of the first, the pooling learns nothing, and the head is linear.

    Parameters
    ----------
    hyperparameters : LeNetHyperparameters
    """

    Hyperparameters = LeNetHyperparameters

    def __init__(self, hyperparameters):
        super().__init__(84, hyperparameters.dropout)
        activation, pooling, batch_norm = LENETS[hyperparameters.backbone]
        self.layers = nn.Sequential()
        for l, (n_in, n_out) in enumerate(((1, 6), (6, 16), (16, 120)), start=1):
            parts = OrderedDict(convolution=nn.Conv2d(n_in, n_out, 5))
            if batch_norm:
                parts["norm"] = nn.BatchNorm2d(n_out)
            parts["activation"] = ACTIVATIONS[activation]()
            if l < 3:
                parts["pool"] = POOLINGS[pooling](2)
            self.layers.append(nn.Sequential(parts))
        self.fully_connected = nn.Linear(120, 84)
        self.activation = ACTIVATIONS[activation]()
        self.to(memory_format=torch.channels_last)

    def features(self, x):
        """Turn inputs, shape (N, 1, 28, 28), into features, shape (N, 84)."""
        x = F.pad(x, (2, 2, 2, 2)).contiguous(memory_format=torch.channels_last)
        return self.activation(self.fully_connected(self.layers(x).flatten(start_dim=1)))
