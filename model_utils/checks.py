"""Checks of arguments. Each raises a ValueError that names the argument, what was expected and what was found."""

import numbers

import numpy as np


def check_choice(name, value, choices):
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def check_flag(name, value):
    """Raise unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {value!r}")


def check_count(name, value, minimum=1):
    """Raise unless `value` is an integer of at least `minimum`."""
    if not _is_count(value, minimum):
        raise ValueError(f"{name}: expected an integer of at least {minimum}, got {value!r}")


def check_counts(name, values):
    """Raise unless `values` is a list or tuple of integers of at least 1."""
    if not isinstance(values, list | tuple) or not all(_is_count(value, 1) for value in values):
        raise ValueError(f"{name}: expected a tuple of integers of at least 1, such as (128, 64), got {values!r}")


def _is_count(value, minimum):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= minimum


def check_number(name, value, low, high=float("inf")):
    """Raise unless `value` is a number with low <= value < high."""
    if not isinstance(value, numbers.Real) or not low <= value < high:
        raise ValueError(f"{name}: expected a number from {low} to below {high}, got {value!r}")


def check_images(images, name="images"):
    """Return `images` as an array, or raise unless they are uint8 of shape (N, 28, 28) with N at least 1."""
    images = np.asarray(images)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise ValueError(f"{name}: expected shape (N, 28, 28) with N at least 1, got {images.shape}")
    if images.dtype != np.uint8:
        raise ValueError(f"{name}: expected pixels as uint8, 0 to 255, got {images.dtype}")
    return images


def check_inputs(x, n_inputs, finite=True, name="x"):
    """Return `x` as an array, or raise unless it holds floats, has shape (N, n_inputs) with N at least 1, and, if
    `finite`, neither NaN nor infinity.
    """
    x = np.asarray(x)
    if x.dtype.kind != "f":
        raise ValueError(f"{name}: expected floats, for images from preprocess, got {x.dtype}")
    if x.ndim != 2 or x.shape[1] != n_inputs or len(x) == 0:
        raise ValueError(f"{name}: expected shape (N, {n_inputs}) with N at least 1, got {x.shape}")
    if finite and not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"{name}: expected finite numbers, got {x[row, column]} in column {column}")
    return x


def check_labels(labels, n, k, name="labels"):
    """Return `labels` as an array, or raise unless they are `n` integers, at least one, from 0 to `k` - 1."""
    labels = np.asarray(labels)
    if labels.shape != (n,) or n == 0:
        raise ValueError(f"{name}: expected shape ({max(n, 1)},), one for each row, got {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got {labels.dtype}")
    if labels.min() < 0 or labels.max() >= k:
        wrong = labels[(labels < 0) | (labels >= k)][0]
        raise ValueError(f"{name}: expected classes from 0 to {k - 1}, got {wrong}")
    return labels
