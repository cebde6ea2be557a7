"""Optimizers, gradient clipping and learning-rate schedules.

An optimizer holds a network's flat parameter and gradient vectors, both of shape (P,), and updates all parameters at
once and in place. In the formulas, theta are the parameters, g the gradient and eta the learning rate. Definitions, and
the constants of RMSprop and Adam, are PyTorch's, so that the two can be compared step by step.

NumPy computes a formula one operation after another, each in a pass through its vectors. So a vector is updated in
blocks, which are short enough to stay in the CPU's cache from the first pass to the last.
"""

import math

import numpy as np

from model_utils.checks import check_count, check_number, check_positive, check_vector

BLOCK = 2**16  # parameters


class Optimizer:
    """What all optimizers share: the vectors and weight decay.

    Parameters
    ----------
    parameters, gradients : ndarray of float, shape (P,)
        Changed in place by `step`.
    n_decayed : int
        The first `n_decayed` parameters, the weight matrices, decay; biases and batch-norm scales do not.
    weight_decay : float
        Adds weight_decay * theta, the gradient of weight_decay / 2 * |theta|^2, to g.

    Attributes
    ----------
    averages : ndarray of float, shape (A, P)
        The running vectors of the update rule, such as a velocity; A is 0, 1 or 2.
    n_steps : int
        Number of steps so far.
    """

    n_averages = 0  # running vectors that the optimizer keeps, such as a velocity

    def __init__(self, parameters, gradients, n_decayed=0, weight_decay=0.0):
        check_vector("parameters", parameters)
        check_vector("gradients", gradients)
        if (gradients.shape, gradients.dtype) != (parameters.shape, parameters.dtype):
            raise ValueError(
                f"parameters, gradients: expected the same shape and dtype, got {parameters.dtype} of shape "
                f"{parameters.shape} and {gradients.dtype} of shape {gradients.shape}"
            )
        check_count("n_decayed", n_decayed, 0, len(parameters))
        check_number("weight_decay", weight_decay, 0)
        self.parameters = parameters
        self.gradients = gradients
        self.n_decayed = n_decayed
        self.weight_decay = weight_decay
        self.n_steps = 0
        self.averages = np.zeros((self.n_averages, len(parameters)), parameters.dtype)
        self._scratch = np.empty(min(BLOCK, len(parameters)), parameters.dtype)

    def step(self, learning_rate):
        """Update the parameters once."""
        check_number("learning_rate", learning_rate, 0)
        self.n_steps += 1
        for start in range(0, len(self.parameters), BLOCK):
            block = slice(start, start + BLOCK)
            theta, g = self.parameters[block], self.gradients[block]
            scratch = self._scratch[: len(theta)]
            n_decayed = min(self.n_decayed - start, len(theta))
            if self.weight_decay and n_decayed > 0:
                self._decay(theta[:n_decayed], g[:n_decayed], scratch[:n_decayed], learning_rate)
            self._update(theta, g, self.averages[:, block], scratch, learning_rate)

    def _decay(self, theta, g, scratch, learning_rate):
        g += np.multiply(theta, self.weight_decay, out=scratch)


class SGD(Optimizer):
    """theta -= eta g (Robbins and Monro, 1951)."""

    def _update(self, theta, g, averages, update, learning_rate):
        np.multiply(g, learning_rate, out=update)
        theta -= update


class Momentum(Optimizer):
    """v = 0.9 v + g; theta -= eta v (Polyak, 1964)."""

    n_averages = 1
    mu = 0.9

    def _update(self, theta, g, averages, update, learning_rate):
        (v,) = averages
        v *= self.mu
        v += g
        np.multiply(v, learning_rate, out=update)
        theta -= update


class Nesterov(Momentum):
    """v = 0.9 v + g; theta -= eta (g + 0.9 v), a gradient step from where v leads to (Sutskever et al., 2013)."""

    def _update(self, theta, g, averages, update, learning_rate):
        (v,) = averages
        v *= self.mu
        v += g
        np.multiply(v, self.mu, out=update)
        update += g
        update *= learning_rate
        theta -= update


class RMSprop(Optimizer):
    """s = 0.99 s + 0.01 g^2; theta -= eta g / (sqrt(s) + 1e-8) (after Hinton's lecture 6e, 2012)."""

    n_averages = 1
    alpha, epsilon = 0.99, 1e-8

    def _update(self, theta, g, averages, update, learning_rate):
        (s,) = averages
        np.multiply(g, g, out=update)
        update *= 1 - self.alpha
        s *= self.alpha
        s += update
        np.sqrt(s, out=update)
        update += self.epsilon
        np.divide(g, update, out=update)
        update *= learning_rate
        theta -= update


class Adam(Optimizer):
    """m = 0.9 m + 0.1 g; s = 0.999 s + 0.001 g^2; theta -= eta m' / (sqrt(s') + 1e-8), with the bias of
    starting at 0 corrected by m' = m / (1 - 0.9^t), s' = s / (1 - 0.999^t) after t steps (Kingma and Ba, 2015).
    """

    n_averages = 2
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def _update(self, theta, g, averages, update, learning_rate):
        m, s = averages
        np.multiply(g, 1 - self.beta1, out=update)
        m *= self.beta1
        m += update
        np.multiply(g, g, out=update)
        update *= 1 - self.beta2
        s *= self.beta2
        s += update
        # Numerator and denominator are multiplied by c, which saves separate passes to correct m and s.
        c = math.sqrt(1 - self.beta2**self.n_steps)
        np.sqrt(s, out=update)
        update += self.epsilon * c
        np.divide(m, update, out=update)
        update *= learning_rate * c / (1 - self.beta1**self.n_steps)
        theta -= update


class AdamW(Adam):
    """Adam whose weight decay acts on the weights themselves, not through the gradient (Loshchilov and Hutter, 2019):
    theta *= 1 - eta * weight_decay.
    """

    def _decay(self, theta, g, scratch, learning_rate):
        theta *= 1 - learning_rate * self.weight_decay


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}


def clip_gradients(gradients, max_norm):
    """Scale the flat gradient vector down, in place, to the Euclidean norm `max_norm` if it is longer.

    From R. Pascanu et al., "On the difficulty of training recurrent neural networks", 2013.
    """
    check_vector("gradients", gradients)
    check_positive("max_norm", max_norm)
    norm = math.sqrt(np.dot(gradients, gradients))
    if norm > max_norm:
        gradients *= max_norm / norm


# Schedules: the factor on the learning rate when the share tau of training, 0 <= tau < 1, is done.

WARM_UP = 0.1  # of the training


def constant(tau):
    """Return 1 throughout training."""
    return 1.0


def step(tau):
    """Return 1, then 0.1 after half of the training, then 0.01 after three quarters (He et al., 2016, for ResNet)."""
    return 0.1 ** ((tau >= 0.5) + (tau >= 0.75))


def inverse_time(tau):
    """Return 1 / (1 + 9 tau), which falls from 1 to 0.1 at a decreasing pace (Robbins and Monro, 1951)."""
    return 1 / (1 + 9 * tau)


def cosine(tau):
    """Return a factor that rises linearly from 0 to 1 during the first tenth (Goyal et al., 2017), then falls to 0
    along half a cosine (Loshchilov and Hutter, 2017).
    """
    if tau < WARM_UP:
        return tau / WARM_UP
    return (1 + math.cos(math.pi * (tau - WARM_UP) / (1 - WARM_UP))) / 2


SCHEDULES = {"constant": constant, "step": step, "inverse_time": inverse_time, "cosine": cosine}
