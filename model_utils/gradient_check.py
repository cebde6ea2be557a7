"""Check, by finite differences, that a hand-written backward pass computes the gradient of its forward pass."""

import numpy as np

from model_utils.checks import as_array, check_callable, check_inputs, check_is, check_labels, check_positive
from model_utils.mlp import MLP


def numerical_gradient(function, x, step=1e-5):
    """Compute the gradient of a function by central differences.

    The derivative with respect to one entry is close to (f(x + h) - f(x - h)) / 2h, with an error of order h^2.

    Parameters
    ----------
    function : callable
        () -> float, of the current values of `x`.
    x : ndarray of float64
        Each entry is changed in turn and set back.
    step : float
        h.

    Returns
    -------
    ndarray, of the shape of `x`
    """
    check_callable("function", function)
    check_positive("step", step)
    if not isinstance(x, np.ndarray) or x.dtype != np.float64:
        raise ValueError(f"x: expected an array of float64, got {type(x).__name__}")
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + step
        above = function()
        x[index] = value - step
        below = function()
        x[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient


def relative_error(gradient, differences):
    """Return |g - d| / (|g| + |d|), with Euclidean norms: 0 where both agree, 1 where they have nothing in common."""
    gradient, differences = as_array("gradient", gradient), as_array("differences", differences)
    if gradient.shape != differences.shape or gradient.dtype.kind != "f" or differences.dtype.kind != "f":
        raise ValueError(
            "gradient, differences: expected floats of one shape, got "
            f"{gradient.dtype} of shape {gradient.shape} and {differences.dtype} of shape {differences.shape}"
        )
    distance = np.linalg.norm(gradient - differences)
    total = np.linalg.norm(gradient) + np.linalg.norm(differences)
    return float(distance / total) if total else 0.0


def gradient_check(model, x, labels, objective):
    """Compare `model.backward` with central differences of the loss, for each parameter and each input.

    The dropout masks are drawn from the same random state each time, so the loss is one fixed function of the
    parameters.

    Parameters
    ----------
    model : MLP
        In float64; a float32 loss is too coarse for differences. Parameters and random state are left as they were;
        the running averages of batch normalisation are updated as in training.
    x : ndarray of float64, shape (N, D)
    labels : ndarray of int, shape (N,)
    objective : callable
        (logits, labels) -> (loss, dlogits), such as `losses.cross_entropy`.

    Returns
    -------
    dict of str to float
        For each weight matrix, bias and batch-norm scale, and for x, the relative error between gradient and
        differences.

    Raises
    ------
    ValueError
        If the model is not in float64, or another argument is invalid.
    """
    check_is("model", model, MLP)
    if model.dtype != np.float64:
        raise ValueError(f"model: expected dtype float64, got {model.dtype}")
    check_inputs(x, model.sizes[0])
    check_labels(labels, len(x), model.sizes[-1])
    check_callable("objective", objective)
    random_state = model.rng.bit_generator.state

    def loss_and_gradient():
        model.rng.bit_generator.state = random_state
        return objective(model.forward(x, training=True), labels)

    x = np.array(x, np.float64)
    _, dlogits = loss_and_gradient()
    dx = model.backward(dlogits, return_dx=True)
    errors = {
        name: relative_error(gradient, numerical_gradient(lambda: loss_and_gradient()[0], array))
        for name, array, gradient in [
            *((name, array, model.named_gradients[name].copy()) for name, array in model.named_parameters.items()),
            ("x", x, dx),
        ]
    }
    model.rng.bit_generator.state = random_state
    return errors
