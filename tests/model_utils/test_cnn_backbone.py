"""The convolutional backbone: its shapes, its arithmetic, its gradients and its initial weights."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from torch import nn

from model_utils.cnn_backbone import Backbone, CNNBackbone, CNNHyperparameters, preprocess


def build(**hyperparameters):
    return CNNBackbone(CNNHyperparameters(**hyperparameters))


def random_inputs(n=4, seed=0):
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


@pytest.mark.q3a
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("pool", [(2, 2), (3, 2), (3, 3), (3, 1)])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_layer_has_the_shape_that_pooling_alone_gives_it(kernel_size, pool, batch_norm):
    pool_size, stride = pool
    n_layers = 5 if stride == 1 else 3
    h = CNNHyperparameters(
        channels=(3, 5, 4, 2, 6)[:n_layers],
        kernel_sizes=(kernel_size,) * n_layers,
        pool_sizes=(pool_size,) * n_layers,
        pool_strides=(stride,) * n_layers,
        n_features=7,
        batch_norm=batch_norm,
    )
    backbone = CNNBackbone(h)
    expected = {1: [28] * 5, 2: [14, 7, 4], 3: [10, 4, 2]}[stride]
    maps = backbone.feature_maps(random_inputs())
    assert [tuple(m.shape) for m in maps] == [
        (4, c, size, size) for c, size in zip((3, 5, 4, 2, 6), expected, strict=False)
    ]
    assert list(h.map_sizes) == expected
    assert backbone.features(random_inputs()).shape == (4, 7)
    assert backbone(random_inputs()).shape == (4, 10)


@pytest.mark.q3a
@pytest.mark.parametrize(
    "channels", [(8, 8, 8, 8, 8), (2, 4, 8, 16, 32), (32, 16, 8, 4, 2), (1, 1, 1, 1, 1), (4, 8), (3, 3, 3, 3, 3, 3)]
)
def test_any_channels(channels):
    n = len(channels)
    backbone = build(channels=channels, kernel_sizes=(3,) * n, pool_sizes=(3,) * n, pool_strides=(1,) * n, n_features=5)
    assert [layer.convolution.out_channels for layer in backbone.layers] == list(channels)
    assert backbone(random_inputs(2)).shape == (2, 10)


@pytest.mark.q3a
def test_every_convolution_is_followed_by_relu_and_max_pooling():
    backbone = build()
    assert len(backbone.layers) == 5
    for layer in backbone.layers:
        kinds = [type(part) for part in layer]
        assert kinds == [nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(part) for part in build(batch_norm=False).layers[0]] == [nn.Conv2d, nn.MaxPool2d, nn.ReLU]
    last = [type(part) for part in build(pool_first=False).layers[0]]
    assert last == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]


@pytest.mark.q3a
@pytest.mark.parametrize("pool", [(2, 2), (3, 2), (3, 1), (5, 3)])
def test_pooling_before_relu_is_the_same_function_as_after_it(pool):
    """Without batch normalisation."""
    pool_sizes, pool_strides = ((value,) * 3 for value in pool)
    h = {"channels": (4, 6, 5), "kernel_sizes": (3, 3, 3), "pool_sizes": pool_sizes, "pool_strides": pool_strides}
    x = random_inputs()
    first, last = (build(**h, batch_norm=False, pool_first=pool_first) for pool_first in (True, False))
    with torch.inference_mode():
        for one, other in zip(first.feature_maps(x), last.feature_maps(x), strict=True):
            assert torch.equal(one, other)
            assert (one > 0).any()


@pytest.mark.q3a
def test_the_layers_compute_what_the_formulas_say():
    """Against convolution, ReLU and pooling written out with loops."""
    backbone = build(
        channels=(2, 3),
        kernel_sizes=(3, 2),
        pool_sizes=(2, 3),
        pool_strides=(2, 1),
        n_features=4,
        batch_norm=False,
        seed=3,
    ).eval()
    image = random_inputs(1)

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
                [[[window(a, i, j, 3, 1)[c].max() for j in range(n)] for i in range(n)] for c in range(len(w))]
            )
    with torch.inference_mode():
        np.testing.assert_allclose(backbone.feature_maps(image)[-1][0].numpy(), x, atol=1e-5)


@pytest.mark.q3a
def test_receptive_field_is_where_the_gradient_reaches():
    h = CNNHyperparameters(
        channels=(4, 4, 4),
        kernel_sizes=(3, 2, 5),
        pool_sizes=(2, 3, 2),
        pool_strides=(2, 1, 2),
        n_features=2,
        batch_norm=False,
    )
    backbone = CNNBackbone(h)
    # With positive weights nothing cancels, and averages in place of maxima let all inputs through.
    for layer, field in zip(range(3), h.receptive_fields, strict=True):
        net = nn.Sequential(*backbone.layers[: layer + 1])
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.ones_(module.weight)
        averaged = nn.Sequential()
        for block in net:
            for part in block:
                is_pool = isinstance(part, nn.MaxPool2d)
                sizes = (part.kernel_size, part.stride, part.padding, part.ceil_mode) if is_pool else ()
                averaged.append(nn.AvgPool2d(*sizes) if is_pool else part)
        image = torch.rand(1, 1, 28, 28).requires_grad_()
        output = averaged(image)
        middle = output.shape[-1] // 2
        output[0, 0, middle, middle].backward()
        reached = torch.nonzero(image.grad[0, 0].sum(dim=0)).flatten()
        assert reached.max() - reached.min() + 1 == min(field, 28)


@pytest.mark.q3a
def test_backbone_keeps_the_contract_of_features_and_head():
    backbone = build(n_features=32).eval()
    assert isinstance(backbone, Backbone)
    assert isinstance(CNNHyperparameters(), Backbone.Hyperparameters)
    assert backbone.trained_on == {}
    inputs = random_inputs(6)
    features = backbone.features(inputs)
    assert features.shape == (6, backbone.n_features) == (6, 32)
    assert torch.equal(features, backbone.features(inputs))
    # One image's features do not depend on its neighbours, and the head reads nothing but the features.
    torch.testing.assert_close(backbone.features(inputs[:2]), features[:2], atol=1e-5, rtol=1e-5)
    assert torch.equal(backbone(inputs), backbone.head(features))


@pytest.mark.q3a
def test_pixels_become_numbers_from_0_to_1():
    images = torch.arange(2 * 28 * 28).remainder(256).to(torch.uint8).view(2, 28, 28)
    inputs = preprocess(images)
    assert inputs.shape == (2, 1, 28, 28)
    assert inputs.dtype == torch.float32
    assert (inputs.min(), inputs.max()) == (0, 1)
    assert torch.equal((inputs[:, 0] * 255).round().to(torch.uint8), images)


@pytest.mark.q3a
def test_gradient_reaches_every_parameter_and_is_right():
    """A directional derivative in float64 against the difference of two losses."""
    torch.manual_seed(0)
    backbone = build(channels=(3, 4, 5, 4, 3), n_features=6, dropout=0.0).double()
    inputs, labels = random_inputs(8).double(), torch.arange(8)

    def loss():
        return nn.functional.cross_entropy(backbone(inputs), labels)

    loss().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad.abs().max() > 1e-9, name
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


@pytest.mark.q3c
@pytest.mark.parametrize("init", ["random", "Xavier", "He"])
def test_initial_weights_have_the_variance_they_promise(init):
    backbone = build(channels=(16, 32, 64, 64, 64), kernel_sizes=(3, 5, 3, 2, 3), init=init)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # PyTorch's own count of a layer's fans is the outside truth.
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            std = {"random": 0.01, "Xavier": math.sqrt(2 / (fan_in + fan_out)), "He": math.sqrt(2 / fan_in)}[init]
            n = module.weight.numel()
            assert abs(module.weight.mean()) < 4 * std / n**0.5
            assert module.weight.std().item() == pytest.approx(std, abs=4 * std / (2 * n) ** 0.5)
            assert module.bias is None or not module.bias.any()


@pytest.mark.q3c
def test_he_keeps_the_signal_and_small_random_weights_lose_it():
    inputs = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    spread = {}
    for init in ("random", "He"):
        backbone = build(channels=(32,) * 5, pool_sizes=(1,) * 5, pool_strides=(1,) * 5, init=init, batch_norm=False)
        with torch.inference_mode():
            spread[init] = [maps.square().mean().item() for maps in backbone.feature_maps(inputs)]
    assert 0.2 < spread["He"][-1] / spread["He"][0] < 5
    assert spread["random"][-1] < 1e-4 * spread["random"][0]


@pytest.mark.q3c
def test_the_seed_alone_decides_the_initial_weights():
    torch.manual_seed(1)
    a = build(seed=5).state_dict()
    torch.manual_seed(2)
    b, c = build(seed=5).state_dict(), build(seed=6).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["layers.0.convolution.weight"], c["layers.0.convolution.weight"])


@pytest.mark.q3a
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool_strides": (2, 2, 3, 2, 2)}, r"pool_sizes: expected at least the stride 3 in layer 3, got 2"),
        ({"pool_strides": (2, 1, 2, 1, 2)}, r"pool_sizes: expected an odd number at stride 1 in layer 2, got 2"),
        ({"kernel_sizes": (3, 3)}, r"kernel_sizes: expected 5, one for each of the channels, got \(3, 3\)"),
        ({"pool_sizes": (2, 2)}, r"pool_sizes: expected 5, one for each of the channels, got \(2, 2\)"),
        ({"pool_strides": (1,) * 6}, r"pool_strides: expected 5, one for each of the channels"),
        ({"channels": (16, 0, 1, 1, 1)}, r"channels: expected a tuple of up to 100 integers from 1 to 4,096"),
        ({"channels": ()}, r"channels: expected at least one layer, got none"),
        ({"channels": 16}, r"channels: expected a tuple"),
        ({"kernel_sizes": (3, 3, 3, 3, 6)}, r"kernel_sizes: expected at most 5 in layer 5, which sees maps of 2 x 2"),
        ({"kernel_sizes": (29, 3, 3, 3, 3)}, r"kernel_sizes: expected a tuple of up to 100 integers from 1 to 28"),
        (
            {"pool_sizes": (2, 2, 2, 2, 6)},
            r"pool_sizes: expected at most 5 in layer 5, which sees .*, got 6",
        ),
        ({"channels": (4096,) * 5}, r"channels: 1-4096-4096-4096-4096-4096-256 has 605,065,216 parameters, more than"),
        ({"init": "he"}, r"init: expected one of random, Xavier, He, got 'he'"),
        ({"dropout": 1.0}, r"dropout: expected a number from 0 to below 1, got 1.0"),
        ({"n_features": 0}, r"n_features: expected an integer from 1 to 100,000, got 0"),
        ({"batch_norm": 1}, r"batch_norm: expected True or False, got 1"),
        ({"backbone": "lenet5"}, r"backbone: expected one of cnn5, got 'lenet5'"),
        ({"seed": -1}, r"seed: expected an integer from 0 to 4,294,967,295, got -1"),
    ],
)
def test_impossible_architectures_are_refused_by_name_before_anything_is_built(changes, message):
    with pytest.raises(ValueError, match=message):
        CNNHyperparameters(**changes)


@pytest.mark.q3b
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": -1}, "learning_rate: expected a number from 0"),
        ({"label_smoothing": 1}, "label_smoothing: expected a number from 0 to below 1"),
        ({"weight_decay": -0.1}, "weight_decay: expected a number from 0"),
        ({"batch_size": 0}, "batch_size: expected an integer from 1"),
        ({"epochs": 0}, "epochs: expected an integer from 1"),
        ({"patience": -1}, "patience: expected an integer from 0"),
        ({"erase": -1}, "erase: expected an integer from 0 to 27"),
        ({"shift": 0.5}, "shift: expected an integer from 0 to 13"),
        ({"flip": "yes"}, "flip: expected True or False, got 'yes'"),
    ],
)
def test_wrong_hyperparameters_of_training_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CNNHyperparameters(**changes)


@pytest.mark.q3a
def test_hyperparameters_stay_as_they_were_checked():
    h = CNNHyperparameters()
    with pytest.raises(FrozenInstanceError):
        h.channels = ()
