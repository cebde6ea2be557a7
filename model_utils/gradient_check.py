"""Check, by finite differences, that a hand-written backward pass computes the gradient of its forward pass."""

import numpy as np


def gradient_check(model, x, labels, objective, step=1e-5):
    """Compare `model.backward` with central differences of the loss, parameter by parameter.

    For each parameter, the derivative is close to (loss(theta + h) - loss(theta - h)) / 2h, with an error of order
    h^2. The dropout masks are drawn from the same random state each time, so the loss is one fixed function of the
    parameters.

    Parameters
    ----------
    model : MLP
        In float64; a float32 loss is too coarse to difference. Parameters and random state are left as they were;
        the running averages of batch normalisation move as in any training.
    x : ndarray of float64, shape (N, D)
    labels : ndarray of int, shape (N,)
    objective : callable
        (logits, labels) -> (loss, dlogits), such as `losses.cross_entropy`.
    step : float
        h.

    Returns
    -------
    dict of str to float
        For each weight matrix, bias and batch-norm scale the relative error |g - d| / (|g| + |d|) between gradient g
        and difference d, with Euclidean norms.

    Raises
    ------
    ValueError
        If the model is not in float64.
    """
    if model.dtype != np.float64:
        raise ValueError(f"model: expected dtype float64, got {model.dtype}")
    random_state = model.rng.bit_generator.state

    def loss_and_gradient():
        model.rng.bit_generator.state = random_state
        return objective(model.forward(x, training=True), labels)

    _, dlogits = loss_and_gradient()
    model.backward(dlogits)
    errors = {}
    for name, parameters in model.named_parameters.items():
        differences = np.empty_like(parameters)
        for index in np.ndindex(parameters.shape):
            value = parameters[index]
            parameters[index] = value + step
            loss_above, _ = loss_and_gradient()
            parameters[index] = value - step
            loss_below, _ = loss_and_gradient()
            parameters[index] = value
            differences[index] = (loss_above - loss_below) / (2 * step)
        gradients = model.named_gradients[name]
        distance = np.linalg.norm(gradients - differences)
        errors[name] = float(distance / (np.linalg.norm(gradients) + np.linalg.norm(differences)))
    model.rng.bit_generator.state = random_state
    return errors
