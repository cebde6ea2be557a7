"""A backbone and its MLP as one ONNX file, which runs without Python, NumPy or PyTorch."""

import ast
from collections import Counter
from functools import partial

import torch
from torch import nn

from model_utils.cnn_backbone import preprocess
from model_utils.files import check_regular, replacing
from model_utils.layers import LEAKY_SLOPE, BatchNorm

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, LEAKY_SLOPE),
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def as_pytorch(model):
    """Make the PyTorch module that maps inputs, float32 of shape (N, D), to the logits of a trained NumPy MLP."""
    layers = []
    for l, (W, b) in enumerate(zip(model.W, model.b, strict=True)):
        if l < len(model.norms):  # z = gamma (a W - mean) / std + b is a layer with other weights
            norm = model.norms[l]
            factor = norm.gamma / (norm.running_var + BatchNorm.epsilon) ** 0.5
            W, b = W * factor, b - norm.running_mean * factor
        layer = nn.Linear(*W.shape)
        layer.weight.data, layer.bias.data = torch.from_numpy(W.T.copy()), torch.from_numpy(b.copy())
        layers += [layer, ACTIVATIONS[model.activation]()]
    return nn.Sequential(*layers[:-1]).eval()


class _Pair(nn.Module):
    """Map pixels, uint8 of shape (N, 28, 28), to the MLP's logits in PyTorch, which the exporter can read."""

    def __init__(self, backbone, standardizer, classifier):
        super().__init__()
        self.backbone = backbone
        self.mean, self.std = map(torch.from_numpy, standardizer)
        self.classifier = as_pytorch(classifier)

    def forward(self, images):
        views = self.backbone.shifted_and_mirrored(preprocess(images))
        # All views at once, so that the file holds the backbone once, and not once for each view.
        features = self.backbone.features(torch.cat(views)).unflatten(0, (len(views), -1)).mean(0)
        return self.classifier((features - self.mean) / self.std)


def export_onnx(path, backbone, standardizer, classifier):
    """Write a pair as an ONNX file: images, uint8 of shape (N, 28, 28), in; logits, float32 of shape (N, K), out.

    Parameters
    ----------
    path : path
        If writing is interrupted, an existing file is left unchanged.
    backbone : Backbone
        On the CPU.
    standardizer : tuple of ndarrays
        The features' mean and standard deviation, shape (F,) each.
    classifier : model_utils.mlp.MLP

    Raises
    ------
    ImportError
        If the packages onnx and onnxscript are missing.
    ValueError
        If something other than a file, such as a folder or a device, has this name.
    """
    check_regular(path)
    try:
        import onnxscript  # noqa: F401  without it, PyTorch's exporter fails later and says less
    except ImportError as error:
        raise ImportError("an ONNX file needs two more packages: pip install onnx onnxscript") from error
    pair = _Pair(backbone, standardizer, classifier).eval()
    program = torch.onnx.export(
        pair,
        (torch.zeros(2, 28, 28, dtype=torch.uint8),),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        dynamo=True,
        verbose=False,
    )
    _name_after_modules(program.model.graph)
    with replacing(path) as unfinished:
        program.save(unfinished, external_data=False)


def _name_after_modules(graph):
    """Name each node of an exported graph after the module that it comes from, such as backbone.layers.0.norm."""
    graph.name = "pair"
    n_of = Counter()
    for node in graph:
        *modules, _ = ast.literal_eval(node.metadata_props["pkg.torch.onnx.name_scopes"])
        name = modules[-1] or node.op_type.lower()
        n_of[name] += 1
        node.name = name if n_of[name] == 1 else f"{name} {n_of[name]}"
        for value in node.outputs:
            if not value.is_graph_output():
                value.name = f"{node.name} output {value.index()}"
