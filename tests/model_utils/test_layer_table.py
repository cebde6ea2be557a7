"""The table of a network's layers: shapes, parameters and multiply-adds."""

import pytest

from model_utils import backbones
from model_utils.backbones import BACKBONES
from model_utils.cnn_backbone import CNNBackbone, CNNHyperparameters
from model_utils.layer_table import layer_table, layers_text, multiply_adds

pytestmark = pytest.mark.q3a


def build(name):
    return backbones.build(BACKBONES[name].Hyperparameters(backbone=name))


def n_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_layer_table_counts_what_a_hand_counts():
    backbone = build("cnn5")
    rows = {row["layer"]: row for row in layer_table(backbone)}
    # Parameters: 3 x 3 weights for each pair of channels; the biases are batch norm's.
    sizes = {0: (1, 16, 28), 1: (16, 32, 14), 2: (32, 64, 7), 3: (64, 128, 4), 4: (128, 256, 2)}
    for l, (n_in, n_out, size) in sizes.items():
        row = rows[f"layers.{l}.convolution"]
        assert row["parameters"] == n_in * n_out * 9
        assert row["multiply_adds"] == n_in * n_out * 9 * size**2
        assert row["output_shape"] == (n_out, size, size)
    assert rows["fully_connected"]["parameters"] == 256 * 256
    assert rows["head"]["multiply_adds"] == 2560
    assert sum(row["parameters"] for row in rows.values()) == n_parameters(backbone)


def test_layer_table_leaves_the_network_as_it_was():
    h = CNNHyperparameters(channels=(2, 2), kernel_sizes=(3, 3), pool_sizes=(2, 2), pool_strides=(2, 2), n_features=4)
    backbone = CNNBackbone(h)
    backbone.train()
    layer_table(backbone)
    assert backbone.training
    assert not any(module._forward_hooks for module in backbone.modules())
    assert not backbone.layers[0].norm.running_mean.any()


@pytest.mark.parametrize("name", ["cnn5", "lenet5", "vit"])
def test_layer_table_has_all_parameters_and_multiply_adds(name):
    backbone = build(name)
    rows = layer_table(backbone)
    assert sum(row["parameters"] for row in rows) == n_parameters(backbone)
    without_head = sum(row["multiply_adds"] for row in rows if row["layer"] != "head")
    # Five views and their mirror images.
    assert multiply_adds(backbone) == 10 * without_head


def test_layer_table_counts_what_a_transformer_does_besides_its_layers():
    rows = {row["layer"]: row for row in layer_table(build("vit"))}
    # 49 patches of 64 numbers; each of two products compares, or mixes, all of them with all.
    assert rows["blocks.0"]["multiply_adds"] == 2 * 49 * 49 * 64
    assert rows["blocks.0.projection"]["multiply_adds"] == 49 * 64 * 64
    assert rows["network"]["parameters"] == 49 * 64


def test_layers_as_text_end_with_their_sums():
    backbone = build("lenet5")
    header, _, *lines, totals = layers_text(backbone).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *lines, totals)]
    assert cells[0] == ["layer", "kind", "output", "parameters", "multiply-adds"]
    assert cells[1] == ["layers.0.convolution", "Conv2d", "6 x 28 x 28", "156", "117,600"]
    assert len(lines) == len(layer_table(backbone))
    without_head = multiply_adds(backbone) // 10
    assert cells[-1] == ["all", "", "", f"{n_parameters(backbone):,}", f"{without_head + 840:,}"]
