"""What an MLP needs besides matrix products: initialisation, activations, dropout, batch normalisation.

Each part has a forward pass and, beside it, the backward pass derived from it. All of them work in place on the
batch they are given, a float array of shape (N, H): N images, H units.
"""

import math

import numpy as np

from model_utils.checks import check_choice, check_count

LEAKY_SLOPE = 0.01

INITS = ("random", "Xavier", "He")


def initial_std(n_in, n_out, init):
    """Return the standard deviation of the normal distribution, with mean 0, for a layer's initial weights.

    Parameters
    ----------
    n_in, n_out : int
        Number of inputs of the layer, and number of its units.
    init : {"random", "Xavier", "He"}
        random: 0.01. Xavier: sqrt(2 / (n_in + n_out)), which keeps the variance of signals and gradients in a
        linear layer [1]_. He: sqrt(2 / n_in), which makes up for ReLU setting half of its inputs to zero [2]_.

    References
    ----------
    .. [1] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
    .. [2] K. He et al., "Delving Deep into Rectifiers", 2015.
    """
    check_count("n_in", n_in)
    check_count("n_out", n_out)
    check_choice("init", init, INITS)
    return {"random": 0.01, "Xavier": math.sqrt(2 / (n_in + n_out)), "He": math.sqrt(2 / n_in)}[init]


# Activations. The forward pass turns z into a = f(z). The backward pass turns dL/da into dL/dz = dL/da * f'(z).
# Every f'(z) here can be computed from a, so z need not be kept.


def relu(z):
    """a = max(z, 0)"""
    np.maximum(z, 0, out=z)


def relu_backward(da, a):
    """f' = 1 where a > 0, else 0"""
    da *= a > 0


def leaky_relu(z):
    """a = z where z > 0, else 0.01 z (Maas et al., 2013)"""
    np.multiply(z, LEAKY_SLOPE, out=z, where=z < 0)


def leaky_relu_backward(da, a):
    """f' = 0.01 where a < 0, else 1"""
    np.multiply(da, LEAKY_SLOPE, out=da, where=a < 0)


def elu(z):
    """a = z where z > 0, else exp(z) - 1 (Clevert et al., 2016)"""
    np.expm1(z, out=z, where=z < 0)


def elu_backward(da, a):
    """f' = 1 where a > 0, else exp(z) = a + 1"""
    da *= np.minimum(a, 0) + 1


def sigmoid(z):
    """a = 1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2, and tanh cannot overflow"""
    z *= 0.5
    np.tanh(z, out=z)
    z += 1
    z *= 0.5


def sigmoid_backward(da, a):
    """f' = a (1 - a)"""
    da *= a * (1 - a)


def tanh(z):
    """a = tanh(z)"""
    np.tanh(z, out=z)


def tanh_backward(da, a):
    """f' = 1 - a^2"""
    da *= 1 - a * a


ACTIVATIONS = {
    "relu": (relu, relu_backward),
    "leaky_relu": (leaky_relu, leaky_relu_backward),
    "elu": (elu, elu_backward),
    "sigmoid": (sigmoid, sigmoid_backward),
    "tanh": (tanh, tanh_backward),
}


def draw_dropout_mask(mask, dropout, rng):
    """Fill `mask`, shape (N, H), with 0, with probability `dropout`, or else with 1 / (1 - dropout).

    Inverted dropout (Srivastava et al., 2014): multiplying by the mask keeps the expected activation, so that nothing
    has to be rescaled when the trained network predicts. The backward pass is a multiplication by the same mask.
    """
    rng.random(out=mask, dtype=mask.dtype)
    np.greater_equal(mask, dropout, out=mask)
    mask *= 1 / (1 - dropout)


class BatchNorm:
    """Batch normalisation of a layer's pre-activations (Ioffe and Szegedy, 2015), without its shift.

    s = gamma * x_hat, where x_hat = (x - mean) / sqrt(var + 1e-5), with mean and var over the batch in training and
    their running averages otherwise. The shift (beta in the paper) is the layer's own bias, added afterwards.

    Parameters
    ----------
    gamma, dgamma : ndarray, shape (H,)
        The scale and its gradient: views into the network's flat vectors.
    """

    epsilon = 1e-5
    momentum = 0.1  # weight of the newest batch in the running averages, as in PyTorch

    def __init__(self, gamma, dgamma):
        self.gamma = gamma
        self.dgamma = dgamma
        self.running_mean = np.zeros_like(gamma)
        self.running_var = np.ones_like(gamma)
        self._x_hat = np.empty((0, len(gamma)), gamma.dtype)

    def forward(self, x, training):
        """Replace `x`, shape (N, H), by gamma * x_hat.

        Raises
        ------
        ValueError
            If there is only one image in training, since it has no variance.
        """
        n = len(x)
        if training and n == 1:
            raise ValueError("x: expected at least 2 images for batch normalisation to train on, got 1")
        if n > len(self._x_hat):
            self._x_hat = np.empty_like(x)
        x_hat = self._x_hat[:n]
        if training:
            mean = x.mean(axis=0)  # (H,)
            x -= mean
            var = np.einsum("nh,nh->h", x, x) / n  # (H,)
            self.running_mean += self.momentum * (mean - self.running_mean)
            # The running average is of the unbiased variance, with n - 1, as in the paper's algorithm 2.
            self.running_var += self.momentum * (var * (n / (n - 1)) - self.running_var)
        else:
            x -= self.running_mean
            var = self.running_var
        self._inverse_std = 1 / np.sqrt(var + self.epsilon)  # (H,)
        np.multiply(x, self._inverse_std, out=x_hat)
        np.multiply(x_hat, self.gamma, out=x)

    def backward(self, ds):
        """Replace dL/ds, shape (N, H), by dL/dx and store dL/dgamma.

        With g = ds * gamma, the gradient reaches x directly, through the mean and through the variance:
        dx = (g - mean(g) - x_hat * mean(g * x_hat)) / sqrt(var + epsilon).
        """
        n = len(ds)
        x_hat = self._x_hat[:n]
        np.einsum("nh,nh->h", ds, x_hat, out=self.dgamma)  # (H,)
        ds -= ds.mean(axis=0)
        ds -= x_hat * (self.dgamma / n)
        ds *= self.gamma * self._inverse_std
