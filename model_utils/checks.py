"""Checks of arguments. Each raises a ValueError that names the argument, what was expected and what was found."""

import numbers
import sys

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


def check_finite(name, value):
    """Raise unless `value` is a number, and neither NaN nor infinite; an integer must not be too large for a float."""
    largest = sys.float_info.max
    if not isinstance(value, numbers.Real) or not -largest <= value <= largest:
        raise ValueError(f"{name}: expected a finite number, got {value!r}")


def check_share(name, value):
    """Raise unless `value` is a number from 0 to 1."""
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {value!r}")


def check_text(name, value):
    """Raise unless `value` is a text that can be printed."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{name}: expected printable text, got {value!r}")


def check_form(name, value, form):
    """Raise unless `value`, which was read from JSON, has the form that is expected.

    Parameters
    ----------
    name : str
    value : what json.loads returns
    form : callable, list or dict
        One of the checks above. Or [form], a list of any length whose items have the form. Or {key: form}, a dict that
        has at least these keys; what stands in the place of a key as ... holds for all others, and their names are
        texts that can be printed.
    """
    if callable(form):
        form(name, value)
    elif not isinstance(value, type(form)):
        raise ValueError(f"{name}: expected a {type(form).__name__}, got a {type(value).__name__}")
    elif isinstance(form, list):
        for i, item in enumerate(value):
            check_form(f"{name}[{i}]", item, form[0])
    else:
        if missing := form.keys() - value.keys() - {...}:
            raise ValueError(f"{name}: missing {', '.join(sorted(missing))}")
        for key, item in value.items():
            if key in form:
                check_form(f"{name}.{key}", item, form[key])
            elif ... in form:
                check_text(f"{name}: name", key)
                check_form(f"{name}.{key}", item, form[...])


def check_arrays(arrays, layout):
    """Raise unless arrays have the names, shapes and dtypes of a layout.

    Parameters
    ----------
    arrays : dict of str to ndarray
    layout : dict of str to (tuple of int, str)
        Shape and dtype by name.
    """
    if arrays.keys() != layout.keys():
        missing, unknown = sorted(layout.keys() - arrays.keys()), sorted(arrays.keys() - layout.keys())
        raise ValueError(f"arrays: {', '.join(missing) or 'none'} missing, {', '.join(unknown) or 'none'} not known")
    for name, expected in layout.items():
        found = arrays[name].shape, arrays[name].dtype.name
        if found != expected:
            raise ValueError("arrays: expected {} of shape {}, {}, got {}, {}".format(name, *expected, *found))


def check_weights(arrays, layout):
    """Raise unless arrays are as `check_arrays` asks, and can be weights: finite, and variances not below 0."""
    check_arrays(arrays, layout)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"arrays: expected finite numbers in {name}")
        if "running_var" in name and array.min() < 0:
            raise ValueError(f"arrays: expected variances of at least 0 in {name}")


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
