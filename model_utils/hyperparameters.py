"""Hyperparameters as frozen dataclasses; each field has a description, a check of its values and a default."""

from dataclasses import field, fields
from functools import partial

from model_utils.checks import (
    MAX_NUMBER,
    MAX_SEED,
    MAX_UNITS,
    check_choice,
    check_count,
    check_counts,
    check_flag,
    check_number,
)


class Hyperparameters:
    """Base class of the dataclasses; it checks every field that one of the functions below declares.

    NumPy's numbers become Python's and lists become tuples, so that JSON can store them and equal values compare equal.

    Raises
    ------
    ValueError
        If a value is out of its range; the message names the field.
    """

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            f.metadata["check"](f.name, value)
            object.__setattr__(self, f.name, f.metadata["convert"](value))

    def changed(self):
        """Return, as a dict, the fields whose values are not their defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def choice(default, text, choices):
    """Declare a field that is one of the given names."""
    return _field(default, f"{text}: {', '.join(choices)}", partial(check_choice, choices=choices), str)


def count(default, text, minimum=1, maximum=1_000_000):
    """Declare a field that is an integer from `minimum` to `maximum`."""
    return _field(default, text, partial(check_count, minimum=minimum, maximum=maximum), int)


def counts(default, text, maximum=MAX_UNITS):
    """Declare a field that is a tuple of integers from 1 to `maximum`."""
    return _field(default, text, partial(check_counts, maximum=maximum), lambda values: tuple(map(int, values)))


def number(default, text, high=MAX_NUMBER):
    """Declare a field that is a number from 0 to below `high`."""
    return _field(default, text, partial(check_number, low=0, high=high), float)


def flag(default, text):
    """Declare a field that is True or False."""
    return _field(default, text, check_flag, bool)


def seed(text):
    """Declare a field that is the seed of all random numbers."""
    return count(0, text, minimum=0, maximum=MAX_SEED)


def _field(default, text, check, convert):
    return field(default=default, metadata={"help": text, "check": check, "convert": convert})
