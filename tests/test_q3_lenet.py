"""The other backbones: LeNet-5 and its modernisation, by the paper's sizes and through the command line."""

import pytest
import torch

import cnn
from model_utils.layer_table import layer_table

LENETS = ("lenet5", "modern_lenet")


def build(name, seed=0):
    return cnn.build(cnn.Hyperparameters(backbone=name, seed=seed)).eval()


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
    counts = [sum(parameter.numel() for parameter in build(name).parameters()) for name in LENETS]
    assert counts[1] - counts[0] == 2 * (6 + 16 + 120)


@pytest.mark.parametrize("name", LENETS)
def test_lenets_keep_the_contract(name):
    state = torch.random.get_rng_state()
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    first, again, other = build(name), build(name), build(name, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.inference_mode():
        assert first.features(images).shape == (5, first.n_features)
        assert torch.equal(first.features(images), again.features(images))
        assert not torch.equal(first.features(images), other.features(images))
        torch.testing.assert_close(first(images), first.head(first.features(images)))
        torch.testing.assert_close(first.mean_features(images), first.mean_features(images.flip(3)))


@pytest.mark.parametrize("name", LENETS)
def test_gradients_reach_every_parameter_of_a_lenet(name):
    backbone = cnn.build(cnn.Hyperparameters(backbone=name, dropout=0)).train()
    backbone(torch.rand(4, 1, 28, 28)).square().sum().backward()
    for parameter_name, parameter in backbone.named_parameters():
        if parameter_name.endswith("convolution.bias") and name == "modern_lenet":
            continue  # batch norm takes the mean away, and the bias with it
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "lenet6"}, "backbone: expected one of cnn5, lenet5, modern_lenet, got 'lenet6'"),
        ({"backbone": "lenet5", "channels": (6, 16)}, "channels: expected for the backbone cnn5 only, not for lenet5"),
        ({"backbone": "modern_lenet", "batch_norm": False}, "batch_norm: expected for the backbone cnn5 only"),
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
    assert cnn.main(["evaluate", str(folder)]) == 0
    assert 0.4 < float(capsys.readouterr().out.split()[-1]) < 1
