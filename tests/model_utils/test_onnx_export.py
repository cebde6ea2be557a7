"""A pair as one ONNX file says the same as the pair itself."""

import sys

import numpy as np
import pytest
import torch

import cnn
import mlp
from data_preparation import Split, load_official
from model_utils.cnn_backbone import CNNHyperparameters
from model_utils.layers import ACTIVATIONS
from model_utils.onnx_export import _Pair, as_pytorch, export_onnx
from model_utils.pair import Pair, standardized_features

pytestmark = pytest.mark.q3d

# Real garments, and enough epochs: features that hardly vary are divided by a tiny spread, which blows rounding up.
IMAGES, LABELS = (array[:200] for array in load_official())

# The parts of a convolution layer, and what they are called in ONNX.
PARTS = [("convolution", "Conv"), ("pool", "MaxPool"), ("norm", "BatchNormalization"), ("relu", "Relu")]


@pytest.fixture(scope="module")
def backbone():
    """A backbone in which nothing has the value that it started from."""
    few = Split(IMAGES, LABELS)
    h = CNNHyperparameters(channels=(4, 8, 8, 8, 8), n_features=16, epochs=8, batch_size=20)
    backbone = cnn.build(h)
    cnn.train(backbone, few, few, h)
    return backbone


def make_pair(backbone, **changes):
    """A pair whose MLP, too, is trained."""
    standardizer, (features,) = standardized_features(backbone, [Split(IMAGES, LABELS)], progress=False)
    mlp_h = mlp.MLPHyperparameters(hidden_sizes=(12, 8), epochs=2, batch_size=20, **changes)
    classifier = mlp.build(mlp_h, backbone.n_features)
    mlp.train(classifier, features, features, mlp_h)
    return Pair(backbone, standardizer, classifier)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_pair_in_pytorch_gives_the_logits_of_the_pair(backbone, activation, batch_norm):
    pair = make_pair(backbone, activation=activation, batch_norm=batch_norm)
    with torch.inference_mode():
        logits = _Pair(*pair).eval()(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(logits, pair.predict_logits(IMAGES), atol=1e-4)


def test_an_mlp_in_pytorch_has_as_many_layers_as_it_had(backbone):
    layers = as_pytorch(make_pair(backbone, batch_norm=True).classifier)
    assert [type(layer).__name__ for layer in layers] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert [layer.out_features for layer in layers[::2]] == [12, 8, 10]


def test_onnx_file_gives_the_logits_of_the_pair(need, backbone, tmp_path):
    need("onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    pair = make_pair(backbone)
    export_onnx(tmp_path / "pair.onnx", *pair)
    session = onnxruntime.InferenceSession(tmp_path / "pair.onnx")
    for n in (1, 3, 200):
        (logits,) = session.run(None, {"images": IMAGES[:n]})
        np.testing.assert_allclose(logits, pair.predict_logits(IMAGES[:n]), atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["pair.onnx"]


def test_onnx_file_has_each_layer_once_by_the_name_of_its_module(need, backbone, tmp_path):
    need("onnx", "onnxscript")
    import onnx

    export_onnx(tmp_path / "pair.onnx", *make_pair(backbone))
    nodes = [(node.name, node.op_type) for node in onnx.load(tmp_path / "pair.onnx").graph.node]
    assert len({name for name, _ in nodes}) == len(nodes)
    layers = [(f"backbone.layers.{l}.{name}", kind) for l in range(5) for name, kind in PARTS]
    named = [node for node in nodes if node[0].startswith("backbone.layers.")]
    assert named == layers
    assert [kind for name, kind in nodes if name.startswith("classifier.")] == ["Gemm", "Relu", "Gemm", "Relu", "Gemm"]


def test_export_names_the_packages_that_it_needs(backbone, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match="pip install onnx onnxscript"):
        export_onnx(tmp_path / "pair.onnx", *make_pair(backbone))
    assert not list(tmp_path.iterdir())
