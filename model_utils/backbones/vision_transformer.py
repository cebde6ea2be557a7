"""A small Vision Transformer, as a backbone: images in, features out."""

from dataclasses import dataclass

import torch
from torch import nn

from model_utils.cnn_backbone import Backbone, BackboneHyperparameters
from model_utils.hyperparameters import choice


@dataclass(frozen=True)
class VisionTransformerHyperparameters(BackboneHyperparameters):
    """Hyperparameters of a `VisionTransformer` and its training."""

    backbone: str = choice("vit", "network that computes the features", ("vit",))


class VisionTransformer(Backbone):
    """Cuts an image into 49 patches of 4 x 4 pixels; in each of six blocks, every patch attends to all others.

    After A. Dosovitskiy et al., "An image is worth 16x16 words", 2021, with two changes that help with small data: the
    patches are embedded by two convolutions of stride 2 instead of one of stride 4 (T. Xiao et al., "Early
    convolutions help transformers see better", 2021), and their mean is the output, not a separate token.

    Parameters
    ----------
    hyperparameters : VisionTransformerHyperparameters
    """

    Hyperparameters = VisionTransformerHyperparameters
    WIDTH, DEPTH, N_HEADS = 64, 6, 4
    N_PATCHES = 49

    def __init__(self, hyperparameters):
        super().__init__(self.WIDTH, hyperparameters.dropout)
        self.embedding = nn.Sequential(
            nn.Conv2d(1, self.WIDTH // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(self.WIDTH // 2),
            nn.ReLU(),
            nn.Conv2d(self.WIDTH // 2, self.WIDTH, 3, stride=2, padding=1),
        )
        self.position = nn.Parameter(torch.empty(self.N_PATCHES, self.WIDTH))
        nn.init.normal_(self.position, std=0.02)
        self.blocks = nn.Sequential(*(TransformerBlock(self.WIDTH, self.N_HEADS) for _ in range(self.DEPTH)))
        self.norm = nn.LayerNorm(self.WIDTH)

    def features(self, x):
        """Turn inputs, shape (N, 1, 28, 28), into features, shape (N, 64)."""
        patches = self.embedding(x).flatten(start_dim=2).transpose(1, 2)  # (N, 49, 64)
        return self.norm(self.blocks(patches + self.position)).mean(dim=1)


class TransformerBlock(nn.Module):
    """Attention over all patches, then a small MLP on each; both add their output to their input.

    Parameters
    ----------
    width : int
        How many numbers describe each patch.
    n_heads : int
        Number of attention heads, each with its share of the width.
    """

    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.norm1 = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        """Turn patches, shape (N, P, width), into patches of the same shape."""
        x = x + self._attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attention(self, x):
        """Return softmax(Q K^T / sqrt(d)) V per head, after A. Vaswani et al., "Attention is all you need", 2017."""
        n, p, width = x.shape
        heads = self.queries_keys_values(x).view(n, p, 3, self.n_heads, width // self.n_heads)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)  # (N, heads, P, d) each
        scores = queries @ keys.transpose(2, 3) / (width // self.n_heads) ** 0.5
        mixed = scores.softmax(dim=3) @ values
        return self.projection(mixed.transpose(1, 2).reshape(n, p, width))
