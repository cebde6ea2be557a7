"""Softmax and the objectives that are minimised: cross-entropy and mean squared error."""

import numpy as np

from model_utils.checks import check_floats, check_labels, check_number, check_sample_weights


def softmax(logits):
    """Turn logits into class probabilities.

    p_k = exp(z_k) / sum_j exp(z_j). Subtracting a row's largest logit from the whole row does not change the
    quotient. No exponent is positive then, so nothing overflows.

    Parameters
    ----------
    logits : ndarray of float, shape (N, K)

    Returns
    -------
    ndarray of float, shape (N, K)
        No probability is negative, and each row sums to 1.
    """
    p = np.exp(_below_largest(check_floats("logits", logits, 2)))
    p /= p.sum(axis=1, keepdims=True)
    return p


def cross_entropy(logits, labels, label_smoothing=0.0, weights=None):
    """Return the softmax cross-entropy, the negative log-likelihood of the labels, and its gradient.

    L = -1/N sum_n w_n sum_k t_nk log p_nk, where p = softmax(logits), w are the weights, and t is 1 - s at the label
    plus s / K at every class, with s = label_smoothing (Szegedy et al., 2016). With z_max a row's largest logit,
    -log p_k = log sum_j exp(z_j - z_max) - (z_k - z_max), which stays finite as long as the logits do. Label smoothing
    adds s times the difference between z at the label and the mean of z over the classes.
    A row's logits occur only in the row's own term, so its weight is a factor of its gradient:
    dL/dlogits_n = w_n (p_n - t_n) / N.

    Parameters
    ----------
    logits : ndarray of float, shape (N, K)
    labels : ndarray of int, shape (N,)
        Classes 0 to K - 1.
    label_smoothing : float in [0, 1)
    weights : ndarray of float, shape (N,), optional
        Weight of each row; 1 by default.

    Returns
    -------
    loss : float
        In nats: the mean over the batch of each row's loss times its weight.
    dlogits : ndarray of float, shape (N, K)

    Raises
    ------
    ValueError
        If the logits are not floats, the labels not N integers from 0 to K - 1, label_smoothing is out of its range, or
        the weights are not N finite floats of at least 0.
    """
    logits, labels, weights = _checked(logits, labels, label_smoothing, weights)
    z = _below_largest(logits)  # (N, K)
    p = np.exp(z)
    sums = p.sum(axis=1, keepdims=True)  # (N, 1)
    p /= sums
    z_label = z[np.arange(len(z)), labels]  # (N,)
    losses = np.log(sums[:, 0]) - z_label  # (N,)
    if label_smoothing:
        losses += label_smoothing * (z_label - z.mean(axis=1))
    return _mean_over_rows(losses, _subtract_targets(p, labels, label_smoothing), weights)


def mean_squared_error(logits, labels, label_smoothing=0.0, weights=None):
    """Return the mean squared error between the softmax probabilities and the targets, and its gradient.

    L = 1/N sum_n w_n sum_k (p_nk - t_nk)^2, with p, t and w as in `cross_entropy`. Through the softmax, whose
    derivative is dp_k/dz_j = p_k (1[j = k] - p_j), and with g = 2 (p - t):
    dL/dlogits_n = w_n p_n (g_n - sum_k g_nk p_nk) / N.

    Parameters, returns and errors are those of `cross_entropy`.
    """
    logits, labels, weights = _checked(logits, labels, label_smoothing, weights)
    p = softmax(logits)  # (N, K)
    error = _subtract_targets(p.copy(), labels, label_smoothing)  # (N, K)  p - t
    g = 2 * error
    return _mean_over_rows(np.sum(error**2, axis=1), p * (g - np.sum(g * p, axis=1, keepdims=True)), weights)


OBJECTIVES = {"cross_entropy": cross_entropy, "mean_squared_error": mean_squared_error}


def _subtract_targets(p, labels, label_smoothing):
    """Turn p, shape (N, K), into p - t in place, by indexing the labels instead of building a one-hot array."""
    p[np.arange(len(labels)), labels] -= 1 - label_smoothing
    if label_smoothing:
        p -= label_smoothing / p.shape[1]
    return p


def _checked(logits, labels, label_smoothing, weights):
    """Return the arrays, with the weights in the precision of the logits."""
    logits = check_floats("logits", logits, 2)
    check_number("label_smoothing", label_smoothing, 0, 1)
    labels = check_labels(labels, *logits.shape)
    if weights is not None:
        weights = check_sample_weights("weights", weights, len(logits)).astype(logits.dtype, copy=False)
    return logits, labels, weights


def _mean_over_rows(losses, dlogits, weights):
    """Return the mean of the rows' losses, shape (N,), and its gradient from theirs, shape (N, K), in place."""
    if weights is not None:
        losses = losses * weights
        dlogits *= weights[:, np.newaxis]
    dlogits /= len(losses)
    return float(losses.mean()), dlogits


def _below_largest(logits):
    """Subtract each row's largest logit from the whole row; the logits have shape (N, K). Finite logits stay finite: a
    lower bound on the differences keeps them and their sum from overflowing.
    """
    with np.errstate(over="ignore"):
        z = logits - logits.max(axis=1, keepdims=True)
    return np.maximum(z, np.finfo(z.dtype).min / (2 * z.size), out=z, where=np.isfinite(logits))
