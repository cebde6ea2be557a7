"""A wider and deeper convolutional backbone of our own: images in, features out."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from model_utils.cnn_backbone import Backbone, BackboneHyperparameters
from model_utils.hyperparameters import choice


@dataclass(frozen=True)
class WideCNNHyperparameters(BackboneHyperparameters):
    """Hyperparameters of a `WideCNN` and its training."""

    backbone: str = choice("wide_cnn", "network that computes the features", ("wide_cnn",))


class WideCNN(Backbone):
    """Four stages of two convolutions each. The channels double from stage to stage; about 1.8 million parameters.

    Two kernels of 3 x 3 in a row see 5 x 5 pixels, with fewer weights than one of 5 x 5 and one more ReLU, between them
    (K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015). Batch
    normalisation follows each convolution, max pooling by 2 follows each stage but the last, and dropout the features.

    Parameters
    ----------
    hyperparameters : WideCNNHyperparameters
    """

    Hyperparameters = WideCNNHyperparameters
    CHANNELS = (32, 64, 128, 256)

    def __init__(self, hyperparameters):
        super().__init__(256, hyperparameters.dropout)
        self.stages = nn.Sequential()
        n_in = 1
        for n_out in self.CHANNELS:
            parts = OrderedDict()
            for i, inputs in enumerate((n_in, n_out), start=1):
                parts[f"convolution{i}"] = nn.Conv2d(inputs, n_out, 3, padding=1, bias=False)  # batch norm has a bias
                parts[f"norm{i}"] = nn.BatchNorm2d(n_out)
                parts[f"relu{i}"] = nn.ReLU(inplace=True)
            if n_out != self.CHANNELS[-1]:
                parts["pool"] = nn.MaxPool2d(2)
            self.stages.append(nn.Sequential(parts))
            n_in = n_out
        self.fully_connected = nn.Linear(self.CHANNELS[-1] * 3 * 3, self.n_features)
        self.to(memory_format=torch.channels_last)

    def features(self, x):
        """Turn inputs, shape (N, 1, 28, 28), into features, shape (N, 256), all >= 0."""
        x = self.stages(x.contiguous(memory_format=torch.channels_last))
        return torch.relu(self.fully_connected(x.flatten(start_dim=1)))
