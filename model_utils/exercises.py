"""Check the answers to the exercises of mlp_implementation.ipynb: each check returns its verdict in words."""

import itertools

import numpy as np

from model_utils.gradient_check import numerical_gradient, relative_error

UNANSWERED = "Not answered yet."
TOLERANCE = 1e-6


def check_shuffled_pixels(answer):
    """Check what one fixed shuffling of all pixels does to the accuracy: "lower", "same" or "higher"."""
    return _verdict(
        answer,
        "same",
        {
            "lower": "Not quite: which line of the forward pass would notice that two inputs have changed places?",
            "higher": "Not quite: shuffling adds no information. Does it remove any that the network uses?",
        },
    )


def check_parameter_count(answer):
    """Check the number of parameters of a 784-256-128-10 network."""
    sizes = (784, 256, 128, 10)
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    biases = sum(sizes[1:])
    return _verdict(
        answer,
        weights + biases,
        {
            weights: "Not quite: those are the weights. Each unit has a bias as well.",
            weights + sum(sizes): "Not quite: inputs have no biases.",
            biases: "Not quite: those are the biases alone.",
        },
        "Not quite: each layer has inputs x outputs weights and one bias for each output.",
    )


def check_first_loss(answer):
    """Check the loss, in nats, of a network that gives ten classes the same probability."""
    return _verdict(
        answer,
        np.log(10),
        {
            -np.log(10): "Not quite: the loss is the negative logarithm.",
            np.log2(10): "Not quite: that is in bits. The loss uses the natural logarithm.",
            1.0: "Not quite: that is the logarithm to base 10. The loss uses the natural logarithm.",
            0.1: "Not quite: that is the probability of the right class. The loss is its negative logarithm.",
            0.9: "Not quite: that is the share of wrong answers. The loss is -log of the right class's probability.",
        },
        "Not quite: each class gets probability 1/10. The loss is -log of the right class's probability.",
    )


def check_softmax(function):
    """Check a softmax of logits, shape (N, K)."""
    logits = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p, problem = _call(function, logits)
    if problem:
        return problem
    if np.shape(p) != logits.shape:
        return f"Not quite: expected shape {logits.shape}, got {np.shape(p)}."
    if np.allclose(p, np.exp(logits) / np.exp(logits).sum(axis=0)):
        return "Not quite: divide by the sum over the classes of one image (axis 1), not over the images (axis 0)."
    if np.allclose(p, np.exp(logits) / np.exp(logits).sum()):
        return "Not quite: each row must sum to 1, so divide each row by its own sum."
    if not np.allclose(p, expected):
        return f"Not quite: for the logits {logits[0]} expected {expected[0].round(3)}, got {np.round(p[0], 3)}."
    large, problem = _call(function, logits + np.array([[1000.0], [-1000.0]]))
    if problem or not np.allclose(large, expected):
        return "Almost: it fails for logits near 1000 or -1000. Subtract each row's own largest logit first."
    return "Right."


def check_affine_backward(function):
    """Check the backward pass of z = a W + b: (dz, a, W) -> (da, dW, db)."""
    rng = np.random.default_rng(0)
    a, W, b, dz = (rng.normal(size=shape) for shape in ((4, 3), (3, 2), (2,), (4, 2)))
    answer, problem = _call(function, dz, a, W)
    if problem:
        return problem
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return "Not quite: return three arrays, da, dW and db."
    for name, array, gradient in zip(("da", "dW", "db"), (a, W, b), answer, strict=True):
        expected = numerical_gradient(lambda: float(np.sum(dz * (a @ W + b))), array)
        if np.shape(gradient) != expected.shape:
            return f"Not quite: {name} must have shape {expected.shape}, like {name[1:]}, got {np.shape(gradient)}."
        gradient = np.asarray(gradient, float)
        if relative_error(gradient * len(a), expected) < TOLERANCE:
            return f"Not quite: {name} is a sum over the images, not a mean. The loss has divided by N already."
        if relative_error(gradient, expected) > TOLERANCE:
            return f"Not quite: {name} differs from the numerical gradient."
    return "Right."


def check_softplus_backward(function):
    """Check the backward pass of a = log(1 + exp(z)): (da, z) -> dz."""
    rng = np.random.default_rng(0)
    z, da = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    dz, problem = _call(function, da, z)
    if problem:
        return problem
    expected = numerical_gradient(lambda: float(np.sum(da * np.log1p(np.exp(z)))), z)
    if np.shape(dz) != expected.shape:
        return f"Not quite: expected shape {expected.shape}, got {np.shape(dz)}."
    dz = np.asarray(dz, float)
    if relative_error(dz, expected / da) < TOLERANCE:
        return "Not quite: that is f'(z). The chain rule multiplies it by da."
    if relative_error(dz, expected) > TOLERANCE:
        return "Not quite: it differs from the numerical gradient. What is the derivative of log(1 + exp(z))?"
    return "Right."


def check_equal_weights(answer):
    """Check the number of different hidden units after training from weights that are all the same."""
    return _verdict(
        answer,
        1,
        {128: "Not quite: what would make two units with the same weights receive different gradients?"},
        "Not quite: compare the gradients of two hidden units whose weights are the same.",
    )


def check_scaled_weights(answer):
    """Check the factor on a batch normalisation's outputs when the weights before it are multiplied by 10."""
    return _verdict(
        answer,
        1,
        {
            10: "Not quite: the pre-activations grow tenfold, and so do their mean and standard deviation.",
            0.1: "Not quite: the standard deviation grows tenfold, but so does what it divides.",
            0: "Not quite: a factor of 0 would make every output 0. No change is a factor of 1.",
        },
        "Not quite: batch normalisation subtracts the mean and divides by the standard deviation.",
    )


def check_momentum(function):
    """Check an update with momentum: (theta, v, g, learning_rate) -> (theta, v)."""
    theta, v, g = np.array([1.0, -2.0]), np.array([0.5, 1.0]), np.array([0.2, -0.4])
    answer, problem = _call(function, theta, v, g, 0.1)
    if problem:
        return problem
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return "Not quite: return two arrays, theta and v."
    new_theta, new_v = answer
    if not np.allclose(new_v, 0.9 * v + g):
        return "Not quite: the new velocity is 0.9 v + g."
    if np.allclose(new_theta, theta - 0.1 * v):
        return "Not quite: move with the new velocity, not with the old one."
    if np.allclose(new_theta, theta + 0.1 * new_v):
        return "Not quite: move against the gradient, with a minus sign."
    if not np.allclose(new_theta, theta - 0.1 * new_v):
        return "Not quite: the new theta is theta minus the learning rate times the new velocity."
    return "Right."


def _verdict(answer, right, hints, otherwise="Not quite."):
    """Compare an answer with the right one, and with the wrong ones that have a hint."""
    if answer is None or answer is ...:
        return UNANSWERED
    if isinstance(answer, tuple):
        return "Write the number without commas: Python takes 1,234 for two numbers."
    if isinstance(answer, str):
        answer = answer.strip().lower()
        if not isinstance(right, str):
            return "Write a number, without quotation marks."
    if _same(answer, right):
        return "Right."
    return next((hint for wrong, hint in hints.items() if _same(answer, wrong)), otherwise)


def _same(answer, expected):
    if isinstance(expected, str | int):
        return answer == expected
    return abs(answer - expected) <= 5e-3 * abs(expected)  # readers round


def _call(function, *arguments):
    """Call a reader's function; return its answer, and what is wrong if it raises or returns nothing."""
    try:
        with np.errstate(all="ignore"):
            # Pass copies: a reader may compute in place, as the layers do.
            answer = function(*(a.copy() if isinstance(a, np.ndarray) else a for a in arguments))
    except Exception as error:  # a reader's code may raise anything
        return None, f"Not quite: it raises {type(error).__name__}: {error}"
    return answer, UNANSWERED if answer is None else ""
