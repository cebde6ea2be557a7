"""Question 3, a and c: the convolutional backbone, its shapes, its gradients and its first weights."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from model_utils.cnn_backbone import Backbone, CNNBackbone
from model_utils.layer_table import layer_table


def random_images(n=4, seed=0):
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("pool", [(2, 2), (3, 2), (3, 1), (2, 1)])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_q3a_a_layer_has_the_shape_that_pooling_alone_gives_it(kernel_size, pool, batch_norm):
    pool_size, stride = pool
    n_layers = 5 if stride == 1 else 3
    backbone = CNNBackbone(
        (3, 5, 4, 2, 6)[:n_layers],
        (kernel_size,) * n_layers,
        (pool_size,) * n_layers,
        (stride,) * n_layers,
        n_features=7,
        batch_norm=batch_norm,
    )
    expected = [28] * 5 if stride == 1 else {2: [14, 7, 3], 3: [13, 6, 2]}[pool_size]
    maps = backbone.feature_maps(random_images())
    assert [tuple(m.shape) for m in maps] == [
        (4, c, size, size) for c, size in zip((3, 5, 4, 2, 6), expected, strict=False)
    ]
    assert list(backbone.map_sizes) == expected
    assert backbone.features(random_images()).shape == (4, 7)
    assert backbone(random_images()).shape == (4, 10)


@pytest.mark.parametrize(
    "channels", [(8, 8, 8, 8, 8), (2, 4, 8, 16, 32), (32, 16, 8, 4, 2), (1, 1, 1, 1, 1), (4, 8), (3, 3, 3, 3, 3, 3)]
)
def test_q3a_any_channels(channels):
    n = len(channels)
    backbone = CNNBackbone(channels, (3,) * n, (3,) * n, (1,) * n, n_features=5)
    assert backbone(random_images(2)).shape == (2, 10)


def test_q3a_every_convolution_is_followed_by_relu_and_max_pooling():
    backbone = CNNBackbone()
    assert len(backbone.layers) == 5
    for layer in backbone.layers:
        kinds = [type(part) for part in layer]
        assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert [type(part) for part in CNNBackbone(batch_norm=False).layers[0]] == [nn.Conv2d, nn.ReLU, nn.MaxPool2d]


def test_q3a_the_layers_compute_what_the_formulas_say():
    """Against convolution, ReLU and pooling written out with loops."""
    backbone = CNNBackbone((2, 3), (3, 2), (2, 2), (2, 1), n_features=4, batch_norm=False, seed=3).eval()
    image = random_images(1)

    def window(x, i, j, size, before):
        padded = np.zeros((x.shape[0], x.shape[1] + size, x.shape[2] + size))
        padded[:, before : before + x.shape[1], before : before + x.shape[2]] = x
        return padded[:, i : i + size, j : j + size]

    x = image[0].double().numpy()
    for layer, k, before in ((backbone.layers[0], 3, 1), (backbone.layers[1], 2, 0)):
        w, b = (p.detach().double().numpy() for p in (layer.convolution.weight, layer.convolution.bias))
        n = x.shape[1]
        z = [
            [[(window(x, i, j, k, before) * w[c]).sum() + b[c] for j in range(n)] for i in range(n)]
            for c in range(len(w))
        ]
        a = np.maximum(z, 0)
        if layer is backbone.layers[0]:
            x = a.reshape(len(w), 14, 2, 14, 2).max(axis=(2, 4))
        else:
            x = np.array(
                [[[window(a, i, j, 2, 0)[c].max() for j in range(n)] for i in range(n)] for c in range(len(w))]
            )
    with torch.inference_mode():
        np.testing.assert_allclose(backbone.feature_maps(image)[-1][0].numpy(), x, atol=1e-5)


def test_q3a_layer_table_counts_what_a_hand_counts():
    rows = {row["layer"]: row for row in layer_table(CNNBackbone())}
    # Parameters: 3 x 3 weights for each pair of channels, and a bias a channel.
    sizes = {0: (1, 16, 28), 1: (16, 32, 14), 2: (32, 64, 7), 3: (64, 128, 3), 4: (128, 256, 3)}
    for l, (n_in, n_out, size) in sizes.items():
        row = rows[f"layers.{l}.convolution"]
        assert row["parameters"] == n_in * n_out * 9 + n_out
        assert row["multiply_adds"] == n_in * n_out * 9 * size**2
        assert row["output_shape"] == (n_out, size, size)
    assert rows["fully_connected"]["parameters"] == 256 * 256 + 256
    assert rows["head"]["multiply_adds"] == 2560
    assert sum(row["parameters"] for row in rows.values()) == sum(p.numel() for p in CNNBackbone().parameters())


def test_q3a_layer_table_leaves_the_network_as_it_was():
    backbone = CNNBackbone((2, 2), (3, 3), (2, 2), (2, 2), 4)
    backbone.train()
    layer_table(backbone)
    assert backbone.training
    assert not any(module._forward_hooks for module in backbone.modules())
    assert torch.equal(backbone.layers[0].norm.running_mean, torch.zeros(2))


def test_q3a_receptive_field_is_where_the_gradient_reaches():
    backbone = CNNBackbone((4, 4, 4), (3, 2, 5), (2, 3, 2), (2, 1, 2), n_features=2, batch_norm=False)
    # With positive weights nothing cancels, and averages in place of maxima let all inputs through.
    for layer, field in zip(range(3), backbone.receptive_fields, strict=True):
        net = nn.Sequential(*backbone.layers[: layer + 1])
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.ones_(module.weight)
        averaged = nn.Sequential()
        for block in net:
            for part in block:
                is_pool = isinstance(part, nn.MaxPool2d)
                averaged.append(nn.AvgPool2d(part.kernel_size, part.stride, part.padding) if is_pool else part)
        image = torch.rand(1, 1, 28, 28).requires_grad_()
        output = averaged(image)
        middle = output.shape[-1] // 2
        output[0, 0, middle, middle].backward()
        reached = torch.nonzero(image.grad[0, 0].sum(dim=0)).flatten()
        assert reached.max() - reached.min() + 1 == min(field, 28)


def test_q3a_backbone_keeps_the_contract_of_features_and_head():
    backbone = CNNBackbone(n_features=32).eval()
    assert isinstance(backbone, Backbone)
    images = random_images(6)
    features = backbone.features(images)
    assert features.shape == (6, backbone.n_features) == (6, 32)
    assert torch.equal(features, backbone.features(images))
    # One image's features do not depend on its neighbours, and the head reads nothing but the features.
    torch.testing.assert_close(backbone.features(images[:2]), features[:2], atol=1e-5, rtol=1e-5)
    assert torch.equal(backbone(images), backbone.head(features))


def test_q3a_gradient_reaches_every_parameter_and_is_right():
    """A directional derivative in float64 against the difference of two losses."""
    torch.manual_seed(0)
    backbone = CNNBackbone((3, 4, 5, 4, 3), n_features=6, dropout=0.0).double()
    images, labels = random_images(8).double(), torch.arange(8)

    def loss():
        return nn.functional.cross_entropy(backbone(images), labels)

    loss().backward()
    for name, parameter in backbone.named_parameters():
        # Batch norm takes the mean away, and with it whatever the convolution's bias adds.
        is_cancelled = name.endswith("convolution.bias")
        assert (parameter.grad.abs().max() > 1e-9) != is_cancelled, name
    parameters = list(backbone.parameters())
    directions = [torch.randn_like(p) for p in parameters]
    slope = sum((p.grad * d).sum() for p, d in zip(parameters, directions, strict=True)).item()
    h = 1e-7
    with torch.no_grad():
        losses = []
        for sign in (1, -2):
            for p, d in zip(parameters, directions, strict=True):
                p += sign * h * d
            losses.append(loss().item())
    assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("init", ["random", "Xavier", "He"])
def test_q3c_initial_weights_have_the_variance_they_promise(init):
    backbone = CNNBackbone((16, 32, 64, 64, 64), (3, 5, 3, 2, 3), init=init)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # PyTorch's own count of a layer's fans is the outside truth.
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            std = {"random": 0.01, "Xavier": math.sqrt(2 / (fan_in + fan_out)), "He": math.sqrt(2 / fan_in)}[init]
            n = module.weight.numel()
            assert abs(module.weight.mean()) < 4 * std / n**0.5
            assert module.weight.std().item() == pytest.approx(std, abs=4 * std / (2 * n) ** 0.5)
            assert not module.bias.any()


def test_q3c_he_keeps_the_signal_and_small_random_weights_lose_it():
    images = torch.randn(16, 1, 28, 28)
    spread = {}
    for init in ("random", "He"):
        backbone = CNNBackbone((32,) * 5, pool_sizes=(1,) * 5, pool_strides=(1,) * 5, init=init, batch_norm=False)
        with torch.inference_mode():
            spread[init] = [maps.square().mean().item() for maps in backbone.feature_maps(images)]
    assert 0.2 < spread["He"][-1] / spread["He"][0] < 5
    assert spread["random"][-1] < 1e-4 * spread["random"][0]


def test_q3c_the_seed_alone_decides_the_first_weights():
    torch.manual_seed(1)
    a = CNNBackbone(seed=5).state_dict()
    torch.manual_seed(2)
    b, c = CNNBackbone(seed=5).state_dict(), CNNBackbone(seed=6).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["layers.0.convolution.weight"], c["layers.0.convolution.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"pool_strides": (2, 2, 2, 2, 2), "pool_sizes": (2,) * 5},
            r"pool_sizes: layer 5 would pool 2 x 2 .* 1 x 1 map",
        ),
        ({"pool_sizes": (30, 2, 2, 2, 2)}, r"layer 1 would pool 30 x 30 values of a 28 x 28 map"),
        ({"kernel_sizes": (3, 3)}, r"kernel_sizes: expected 5, one for each of the channels, got \(3, 3\)"),
        ({"channels": (16, 0, 1, 1, 1)}, r"channels: expected a tuple of integers of at least 1"),
        ({"channels": ()}, r"number of channels: expected an integer of at least 1, got 0"),
        ({"channels": 16}, r"channels: expected a tuple"),
        ({"init": "he"}, r"init: expected one of random, Xavier, He, got 'he'"),
        ({"dropout": 1.0}, r"dropout: expected a number from 0 to below 1, got 1.0"),
        ({"n_features": 0}, r"n_features: expected an integer of at least 1, got 0"),
        ({"n_classes": 1}, r"n_classes: expected an integer of at least 2, got 1"),
        ({"seed": -1}, r"seed: expected an integer of at least 0, got -1"),
    ],
)
def test_q3a_impossible_architectures_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        CNNBackbone(**arguments)
