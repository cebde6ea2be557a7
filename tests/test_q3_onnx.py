"""Question 3d: a pair as one ONNX file says the same as the pair itself."""

import sys

import numpy as np
import pytest
import torch

import cnn
import mlp
from data_preparation import Split
from model_utils.layers import ACTIVATIONS
from model_utils.onnx_export import _Pair, export_onnx

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
LABELS = np.arange(40) % 10


def make_pair(**mlp_changes):
    """A pair in which nothing has the value that it started from."""
    few = Split(IMAGES, LABELS)
    h = cnn.Hyperparameters(channels=(4, 8, 8, 8, 8), n_features=16, epochs=1, batch_size=20)
    backbone = cnn.build(h)
    cnn.train(backbone, few, few, h, progress=False)
    standardizer, (data, *_) = cnn.classifier_data(backbone, [few], progress=False)
    mlp_h = mlp.Hyperparameters(hidden_sizes=(12, 8), epochs=2, batch_size=20, **mlp_changes)
    classifier = mlp.build(mlp_h, backbone.n_features)
    mlp.train(classifier, data, data, mlp_h, progress=False)
    return cnn.Hybrid(backbone, standardizer, classifier)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_q3d_pair_in_pytorch_gives_the_logits_of_the_hybrid(activation, batch_norm):
    hybrid = make_pair(activation=activation, batch_norm=batch_norm)
    with torch.inference_mode():
        logits = _Pair(*hybrid).eval()(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(logits, hybrid.predict_logits(IMAGES), atol=1e-4)


def test_q3d_onnx_file_gives_the_logits_of_the_hybrid(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    hybrid = make_pair()
    export_onnx(tmp_path / "pair.onnx", *hybrid)
    session = onnxruntime.InferenceSession(tmp_path / "pair.onnx")
    for n in (1, 3, 40):
        (logits,) = session.run(None, {"images": IMAGES[:n]})
        np.testing.assert_allclose(logits, hybrid.predict_logits(IMAGES[:n]), atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["pair.onnx"]


def test_q3d_export_names_the_packages_that_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match="pip install onnx onnxscript"):
        export_onnx(tmp_path / "pair.onnx", *make_pair())
    assert not list(tmp_path.iterdir())
