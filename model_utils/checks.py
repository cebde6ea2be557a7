"""Checks of arguments. Each raises a ValueError that names the argument, what was expected and what was found."""

import numbers
import os
import sys

import numpy as np

# Far more than anything here needs, but not too much for a laptop: 0.4 GB of weights, and as much again for the
# gradient, for each of the optimizer's running vectors and for the best weights so far.
MAX_PARAMETERS = 100_000_000
MAX_UNITS = 100_000  # of a layer: its output for a batch has to fit into memory, too
MAX_LAYERS = 100
MAX_SEED = 2**32 - 1  # scikit-learn's limit; NumPy and PyTorch allow more
MAX_NUMBER = 1e38  # close to the largest float32
MAX_SHIFT = 13  # pixels, of 28: at least half of the garment stays in the image
MAX_ERASE = 27  # pixels, of 28: a larger square could blacken a whole image


def check_is(name, value, kind):
    """Raise unless `value` is an instance of the class `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name}: expected {kind.__name__}, got {_what(value)}")


def check_callable(name, value):
    """Raise unless `value` can be called."""
    if not callable(value):
        raise ValueError(f"{name}: expected a function, got {_what(value)}")


def check_path(name, value):
    """Raise unless `value` is a path: a string or a path object."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{name}: expected a path, got {_what(value)}")


def check_rng(name, value):
    """Raise unless `value` is a numpy.random.Generator."""
    if not isinstance(value, np.random.Generator):
        raise ValueError(f"{name}: expected a generator, such as numpy.random.default_rng(0), got {_what(value)}")


def check_choice(name, value, choices):
    """Raise unless `value` is one of `choices`, which are strings."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def check_flag(name, value):
    """Raise unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}: expected True or False, got {value!r}")


def check_count(name, value, minimum=1, maximum=None):
    """Raise unless `value` is an integer of at least `minimum`, and at most `maximum` if that is given."""
    if not _is_count(value, minimum, maximum):
        allowed = f"of at least {minimum:,}" if maximum is None else f"from {minimum:,} to {maximum:,}"
        raise ValueError(f"{name}: expected an integer {allowed}, got {value!r}")


def check_counts(name, values, maximum=MAX_UNITS):
    """Raise unless `values` is a list or tuple of up to `MAX_LAYERS` integers from 1 to `maximum`."""
    if (
        not isinstance(values, list | tuple)
        or len(values) > MAX_LAYERS
        or not all(_is_count(value, 1, maximum) for value in values)
    ):
        raise ValueError(
            f"{name}: expected a tuple of up to {MAX_LAYERS} integers from 1 to {maximum:,}, such as (128, 64), "
            f"got {values!r}"
        )


def _is_count(value, minimum, maximum):
    return (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and minimum <= value
        and (maximum is None or value <= maximum)
    )


def check_number(name, value, low, high=MAX_NUMBER):
    """Raise unless `value` is a number with low <= value < high."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not low <= value < high:
        raise ValueError(f"{name}: expected a number from {low} to below {high:g}, got {value!r}")


def check_positive(name, value):
    """Raise unless `value` is a number above 0."""
    check_number(name, value, 0)
    if value == 0:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")


def check_n_parameters(name, sizes, n_parameters):
    """Raise if layers of these sizes have too many parameters; call it before any memory is allocated."""
    if n_parameters > MAX_PARAMETERS:
        raise ValueError(
            f"{name}: {'-'.join(map(str, sizes))} has {n_parameters:,} parameters, more than {MAX_PARAMETERS:,}"
        )


def as_array(name, value):
    """Return `value` as an array, or raise if it cannot be made into one."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # tensors raise the last one
        raise ValueError(f"{name}: expected an array, got {_what(value)} ({error})") from error


def check_floats(name, value, ndim=None):
    """Return `value` as an array; raise unless it holds at least one float and has `ndim` dimensions, if given."""
    array = as_array(name, value)
    if array.dtype.kind != "f":
        raise ValueError(f"{name}: expected floats, got {array.dtype}")
    if array.size == 0 or ndim not in (None, array.ndim):
        dimensions = "" if ndim is None else f" in {ndim} dimension{'s' * (ndim > 1)}"
        raise ValueError(f"{name}: expected at least one number{dimensions}, got shape {array.shape}")
    return array


def check_finite(name, value):
    """Raise unless `value` is a finite number; an integer must not be too large for a float."""
    largest = sys.float_info.max
    if not isinstance(value, numbers.Real) or not -largest <= value <= largest:
        raise ValueError(f"{name}: expected a finite number, got {value!r}")


def check_share(name, value):
    """Raise unless `value` is a number from 0 to 1."""
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {value!r}")


def check_text(name, value):
    """Raise unless `value` is printable text."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{name}: expected printable text, got {value!r}")


def check_form(name, value, form):
    """Raise unless `value`, which was read from JSON, has the expected form.

    Parameters
    ----------
    name : str
    value : what json.loads returns
    form : callable, list or dict
        One of the checks above; or [form], for a list of any length whose items have this form; or {key: form}, for a
        dict with at least these keys. The key ... gives the form of all other entries, whose keys must be printable
        text.
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
    """Raise unless arrays pass `check_arrays` and can be weights: finite, and without negative variances."""
    check_arrays(arrays, layout)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"arrays: expected finite numbers in {name}")
        if "running_var" in name and array.min() < 0:
            raise ValueError(f"arrays: expected variances of at least 0 in {name}")


def check_images(images, name="images"):
    """Return `images` as an array; raise unless they are uint8 of shape (N, 28, 28) with N at least 1."""
    images = as_array(name, images)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise ValueError(f"{name}: expected shape (N, 28, 28) with N at least 1, got {images.shape}")
    if images.dtype != np.uint8:
        raise ValueError(f"{name}: expected pixels as uint8, 0 to 255, got {images.dtype}")
    return images


def check_inputs(x, n_inputs, finite=True, name="x"):
    """Return `x` as an array; raise unless it holds floats and has shape (N, n_inputs) with N at least 1. With
    `finite`, also raise for NaN and infinity.
    """
    x = as_array(name, x)
    if x.dtype.kind != "f":
        raise ValueError(f"{name}: expected floats, for images from preprocess, got {x.dtype}")
    if x.ndim != 2 or x.shape[1] != n_inputs or len(x) == 0:
        raise ValueError(f"{name}: expected shape (N, {n_inputs}) with N at least 1, got {x.shape}")
    if finite:
        check_all_finite(name, x)
    return x


def check_all_finite(name, x):
    """Raise if there is a NaN or an infinity in `x`, an array of shape (N, D)."""
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"{name}: expected finite numbers, got {x[row, column]} in column {column}")


def check_labels(labels, n, k, name="labels"):
    """Return `labels` as an array; raise unless they are `n` integers from 0 to `k` - 1, with `n` at least 1."""
    labels = as_array(name, labels)
    if labels.shape != (n,) or n == 0:
        raise ValueError(f"{name}: expected shape ({max(n, 1)},), one for each row, got {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got {labels.dtype}")
    if labels.min() < 0 or labels.max() >= k:
        wrong = labels[(labels < 0) | (labels >= k)][0]
        raise ValueError(f"{name}: expected classes from 0 to {k - 1}, got {wrong}")
    return labels


def check_sample_weights(name, value, n):
    """Return `value` as an array; raise unless it holds `n` finite floats of at least 0."""
    weights = check_floats(name, value, 1)
    if weights.shape != (n,):
        raise ValueError(f"{name}: expected shape ({n},), one for each row, got {weights.shape}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"{name}: expected finite numbers of at least 0")
    return weights


def check_vector(name, value):
    """Raise unless `value` is an array of floats of shape (P,), to be changed in place."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim != 1:
        raise ValueError(f"{name}: expected a vector of floats, got {_what(value)}")


def check_rows(x, labels):
    """Return both as arrays; raise unless x has at least one row and there is one label for each row."""
    x, labels = as_array("x", x), as_array("labels", labels)
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"x: expected at least one row, got shape {x.shape}")
    if labels.shape != x.shape[:1]:
        raise ValueError(f"labels: expected shape {x.shape[:1]}, one for each row, got {labels.shape}")
    return x, labels


def check_out(out, shape):
    """Raise unless `out` is a float32 array of this shape, to be written to."""
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != np.float32:
        raise ValueError(f"out: expected a float32 array of shape {shape}, got {_what(out)}")


def check_dtype(name, dtype):
    """Return `dtype` as a NumPy dtype; raise unless it is float32 or float64."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise ValueError(f"{name}: expected float32 or float64, got {_what(dtype)}")
    return found


def check_split(name, split):
    """Return a split's images (or features) and labels as arrays; raise unless the split is a pair."""
    if not isinstance(split, tuple | list) or len(split) != 2:
        raise ValueError(f"{name}: expected a Split, images and labels, got {_what(split)}")
    return as_array(f"{name} images", split[0]), as_array(f"{name} labels", split[1])


def _what(value):
    """Return a short text for a value in an error message: its type if the value is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__}"
