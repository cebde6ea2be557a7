"""A pair: a backbone that computes features, and the NumPy MLP that classifies them. Images are uint8 (N, 28, 28)."""

import sys
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from model_utils.checks import check_all_finite, check_floats, check_images, check_is, check_weights
from model_utils.cnn_backbone import Backbone, preprocess
from model_utils.layer_table import multiply_adds
from model_utils.losses import softmax
from model_utils.mlp import MLP
from model_utils.tensors import as_tensor, state_from_arrays, state_layout, state_to_arrays


def head_logits(backbone, images):
    """Return the logits of a backbone's own head, float32 of shape (N, K), in evaluation mode."""
    check_is("backbone", backbone, Backbone)
    return _in_batches(backbone, backbone, images)


def extract_features(backbone, images, progress=False):
    """Compute the features of images, in evaluation mode: see `Backbone.mean_features`.

    Parameters
    ----------
    backbone : Backbone
    images : ndarray of uint8, shape (N, 28, 28)
    progress : bool
        Show a progress bar.

    Returns
    -------
    ndarray of float32, shape (N, F)
    """
    check_is("backbone", backbone, Backbone)
    return _in_batches(backbone, backbone.mean_features, images, progress)


@torch.inference_mode()
def _in_batches(backbone, function, images, progress=False):
    """Apply a function of a backbone, in evaluation mode, to any number of images; return an array."""
    backbone.eval()
    device = next(backbone.parameters()).device
    batches = as_tensor(check_images(images)).split(backbone.n_at_once)
    bar = tqdm(batches, desc="features", unit="batch", file=sys.stdout, mininterval=1, disable=not progress)
    return torch.cat([function(preprocess(batch.to(device))).cpu() for batch in bar]).numpy()


class Standardizer(NamedTuple):
    """Brings each feature to mean 0 and standard deviation 1 on the training images.

    Attributes
    ----------
    mean, std : ndarray of float32, shape (F,)
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, features):
        """Measure the statistics of features, shape (N, F). A feature that never varies gets std 1 and so becomes 0."""
        features = check_floats("features", features, 2)
        check_all_finite("features", features)
        varies = features.max(axis=0) > features.min(axis=0)  # rounding can give a constant feature a tiny std
        return cls(features.mean(axis=0), np.where(varies, features.std(axis=0), np.float32(1)))

    @classmethod
    def identity(cls, n_features):
        """Return a Standardizer that leaves features as they are."""
        return cls(np.zeros(n_features, np.float32), np.ones(n_features, np.float32))

    def __call__(self, features):
        """Standardise features, shape (N, F)."""
        return (features - self.mean) / self.std


class Pair(NamedTuple):
    """From images to classes: a backbone, the statistics of its features, and the NumPy MLP that classifies them.

    Attributes
    ----------
    backbone : Backbone
    standardizer : Standardizer
    classifier : model_utils.mlp.MLP
    """

    backbone: Backbone
    standardizer: Standardizer
    classifier: MLP

    @property
    def multiply_adds(self):
        """How many multiply-adds one prediction takes, with all its views."""
        return multiply_adds(self.backbone) + self.classifier.n_weights

    @property
    def n_parameters(self):
        """How many parameters the backbone and the MLP have together."""
        return sum(parameter.numel() for parameter in self.backbone.parameters()) + self.classifier.n_parameters

    def state(self):
        """Return the arrays of the backbone, the standardizer and the MLP by name, to be saved."""
        return (
            state_to_arrays(self.backbone.state_dict(), "backbone.")
            | {f"standardizer.{name}": array for name, array in self.standardizer._asdict().items()}
            | {f"mlp.{name}": array for name, array in self.classifier.state().items()}
        )

    @staticmethod
    def check_state(state, backbone, mlp_layout):
        """Raise a ValueError unless these arrays can be the `state` of a pair.

        Parameters
        ----------
        state : dict of str to ndarray
        backbone : Backbone
            Only its shapes matter, so it may be on PyTorch's device "meta", where it takes no memory.
        mlp_layout : dict of str to (tuple of int, str)
            See `model_utils.mlp.state_layout`.
        """
        features = (backbone.n_features,), "float32"
        check_weights(
            state,
            state_layout(backbone.state_dict(), "backbone.")
            | {f"standardizer.{name}": features for name in Standardizer._fields}
            | {f"mlp.{name}": layout for name, layout in mlp_layout.items()},
        )
        if state["standardizer.std"].min() <= 0:
            raise ValueError("arrays: expected numbers above 0 in standardizer.std")

    @classmethod
    def from_state(cls, state, backbone, classifier):
        """Make a pair from its `state`: load the arrays into an untrained backbone and MLP.

        Raises
        ------
        KeyError, RuntimeError, ValueError
            If an array is missing or of another shape.
        """
        backbone.load_state_dict(state_from_arrays(state, "backbone."))
        prefix = "mlp."
        classifier.load_state({name.removeprefix(prefix): w for name, w in state.items() if name.startswith(prefix)})
        standardizer = Standardizer(*(state[f"standardizer.{name}"] for name in Standardizer._fields))
        return cls(backbone.eval(), standardizer, classifier)

    def predict_logits(self, images):
        """Return the MLP's logits, shape (N, K), of images, uint8 of shape (N, 28, 28)."""
        return self.classifier.predict_logits(self.standardizer(extract_features(self.backbone, images)))

    def predict_proba(self, images):
        """Return the class probabilities, shape (N, K), of images, uint8 of shape (N, 28, 28)."""
        return softmax(self.predict_logits(images))


def standardized_features(backbone, splits, progress=True):
    """Extract the features of all splits once; standardise them by the statistics of the first, the training split.

    Returns
    -------
    standardizer : Standardizer
    splits : list of Split
        Features, float32 of shape (N, F), in place of the images.
    """
    features = [extract_features(backbone, part.images, progress) for part in splits]
    standardizer = Standardizer.fit(features[0])
    return standardizer, [part._replace(images=standardizer(f)) for f, part in zip(features, splits, strict=True)]
