"""The NumPy MLP as the head of a PyTorch backbone, which then learns from gradients that were computed by hand."""

import numpy as np
import torch
from torch import nn

from model_utils.losses import OBJECTIVES
from model_utils.mlp_training import optimizer_of
from model_utils.optimizers import SCHEDULES, clip_gradients


class _LossByHand(torch.autograd.Function):
    """From features to the loss in NumPy, and back: what autograd needs to know of the MLP."""

    @staticmethod
    def forward(ctx, features, labels, mlp, objective, label_smoothing):
        logits = mlp.forward(features.detach().cpu().numpy(), training=True)  # (N, K)
        loss, dlogits = objective(logits, labels.cpu().numpy(), label_smoothing)  # scalar and (N, K)
        ctx.mlp, ctx.dlogits = mlp, dlogits
        logits = torch.from_numpy(logits).to(features.device)
        ctx.mark_non_differentiable(logits)
        return features.new_tensor(loss), logits

    @staticmethod
    def backward(ctx, dloss, _):
        dfeatures = ctx.mlp.backward(ctx.dlogits * dloss.item(), return_dx=True)  # (N, F)
        return torch.from_numpy(dfeatures).to(dloss.device), None, None, None, None


class MLPHead(nn.Module):
    """Classify features by the MLP of `model_utils.mlp`, in training and out of it.

    A backbone's training is the same with this head and with a linear one: features go in, a loss comes out, and
    `backward` on the loss gives every parameter of both its gradient. PyTorch computes the backbone's, `MLP.backward`
    its own and what it hands to the backbone, d(loss)/d(features).

    The arrays of the MLP and of its optimizer are this module's buffers. They share their memory with NumPy, so that
    they are saved and restored with the backbone's weights.

    Parameters
    ----------
    mlp : MLP
    hyperparameters : ClassifierHyperparameters
        Of which objective, optimizer, learning rate, schedule, weight decay and clipping count here.
    """

    def __init__(self, mlp, hyperparameters):
        super().__init__()
        self.mlp, self.hyperparameters = mlp, hyperparameters
        self._optimizer = optimizer_of(mlp, hyperparameters)
        for name, array in mlp.state_views().items():
            self.register_buffer(name, torch.from_numpy(array))
        self.register_buffer("averages", torch.from_numpy(self._optimizer.averages))
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.int64))

    @np.errstate(over="ignore", invalid="ignore")  # on the way to NaN, which ends the training with an error
    def loss(self, features, labels, label_smoothing):
        """Return the loss of features, float of shape (N, F), and the logits, shape (N, K)."""
        return _LossByHand.apply(
            features, labels, self.mlp, OBJECTIVES[self.hyperparameters.objective], label_smoothing
        )

    def forward(self, features):
        """Return the logits, shape (N, K), of features, shape (N, F); nothing is learned from them."""
        logits = self.mlp.predict_logits(features.detach().cpu().numpy())
        return torch.from_numpy(logits).to(features.device)

    @np.errstate(over="ignore", invalid="ignore")
    def update(self, share_done):
        """Make a step of the MLP's own optimizer, by the gradients of the last backward pass.

        Parameters
        ----------
        share_done : float in [0, 1)
            Of the training, for the schedule of the learning rate.
        """
        h = self.hyperparameters
        if h.clip_norm:
            clip_gradients(self.mlp.gradients, h.clip_norm)
        self._optimizer.n_steps = self.n_steps.item()
        self._optimizer.step(h.learning_rate * SCHEDULES[h.schedule](share_done))
        self.n_steps += 1

    def _apply(self, function, recurse=True):
        """Stay where NumPy can reach it: `to`, `cuda` or `double` on the backbone do not move or convert the MLP."""
        return self
