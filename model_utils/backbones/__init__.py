"""The backbones by name: the five-layer CNN of `cnn_backbone`, and the other networks in this folder."""

import torch
from torch.overrides import TorchFunctionMode

from model_utils.backbones.imagenet import NETWORKS, ImageNetBackbone
from model_utils.backbones.lenet import LENETS, LeNet
from model_utils.backbones.vision_transformer import VisionTransformer
from model_utils.checks import check_choice, check_is
from model_utils.cnn_backbone import BackboneHyperparameters, CNNBackbone

BACKBONES = {
    "cnn5": CNNBackbone,
    **dict.fromkeys(LENETS, LeNet),
    **dict.fromkeys(NETWORKS, ImageNetBackbone),
    "vit": VisionTransformer,
}


def hyperparameters_from_json(values):
    """Make the hyperparameters from a dict that was read from JSON; its backbone decides their kind."""
    check_is("hyperparameters", values, dict)
    check_choice("backbone", values.get("backbone"), BACKBONES)
    return BACKBONES[values["backbone"]].Hyperparameters(**values)


def build(hyperparameters):
    """Make the backbone that the hyperparameters describe, with random weights drawn from their seed.

    Raises
    ------
    ImportError
        If a package that it needs is not installed.
    """
    check_is("hyperparameters", hyperparameters, BackboneHyperparameters)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(hyperparameters.seed)
        return BACKBONES[hyperparameters.backbone](hyperparameters)


def outline(hyperparameters):
    """Make the described backbone with shapes only, on the device "meta", where it takes no memory."""
    with torch.device("meta"), _Undrawn():
        return build(hyperparameters)


class _Undrawn(TorchFunctionMode):
    """Skips drawing weights: the device "meta" keeps none, but PyTorch would take a second to import its compiler."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(function, "__name__", None) == "normal_":  # of a tensor, or of torch.nn.init
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)
