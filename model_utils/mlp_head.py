"""The NumPy MLP as the head of a PyTorch backbone, which then learns from the MLP's hand-written gradients."""

import numpy as np
import torch
from torch import nn

from model_utils.losses import OBJECTIVES
from model_utils.mlp_training import optimizer_of
from model_utils.optimizers import SCHEDULES, clip_gradients


class _LossByHand(torch.autograd.Function):
    """Let autograd use the hand-written loss and its gradient."""

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
    """Classify features with the MLP of `model_utils.mlp`, in training and afterwards.

    A backbone is trained in the same way with this head as with a linear one: features go in, a loss comes out, and
    `backward` on the loss computes the gradients of backbone and head. PyTorch computes those of the backbone.
    `MLP.backward` computes those of the MLP, and d(loss)/d(features), which it passes on to the backbone.

    The arrays of the MLP and of its optimizer are also buffers of this module, which share their memory. So they are
    saved and restored with the backbone's weights.

    Parameters
    ----------
    mlp : MLP
    hyperparameters : ClassifierHyperparameters
        Only objective, optimizer, learning rate, schedule, weight decay and clipping are used here.
    """

    def __init__(self, mlp, hyperparameters):
        super().__init__()
        self.mlp, self.hyperparameters = mlp, hyperparameters
        self._optimizer = optimizer_of(mlp, hyperparameters)
        for name, array in mlp.state_views().items():
            self.register_buffer(name, torch.from_numpy(array))
        self.register_buffer("averages", torch.from_numpy(self._optimizer.averages))
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.int64))

    @np.errstate(over="ignore", invalid="ignore")  # both lead to NaN, and training then stops with an error
    def loss(self, features, labels, label_smoothing):
        """Return the loss of features, float of shape (N, F), and the logits, shape (N, K)."""
        return _LossByHand.apply(
            features, labels, self.mlp, OBJECTIVES[self.hyperparameters.objective], label_smoothing
        )

    def forward(self, features):
        """Return the logits, shape (N, K), of features, shape (N, F), without gradients."""
        logits = self.mlp.predict_logits(features.detach().cpu().numpy())
        return torch.from_numpy(logits).to(features.device)

    @np.errstate(over="ignore", invalid="ignore")
    def update(self, share_done):
        """Take one step of the MLP's own optimizer, with the gradients of the last backward pass.

        Parameters
        ----------
        share_done : float in [0, 1)
            How much of the training is done, for the schedule of the learning rate.
        """
        h = self.hyperparameters
        if h.clip_norm:
            clip_gradients(self.mlp.gradients, h.clip_norm)
        self._optimizer.n_steps = self.n_steps.item()
        self._optimizer.step(h.learning_rate * SCHEDULES[h.schedule](share_done))
        self.n_steps += 1

    def _apply(self, function, recurse=True):
        """Do nothing, so that NumPy can always reach the MLP: `to`, `cuda` and `double` do not move or convert it."""
        return self
