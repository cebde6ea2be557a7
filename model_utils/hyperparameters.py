"""Hyperparameters as frozen dataclasses whose fields say what they mean, what they allow and what their default is."""

import math
from dataclasses import field, fields
from functools import partial

from model_utils.checks import check_choice, check_count, check_counts, check_flag, check_number


class Hyperparameters:
    """Base of the dataclasses: checks every field that one of the functions below declares.

    Raises
    ------
    ValueError
        If a value is out of its range; it names the field.
    """

    def __post_init__(self):
        for f in fields(self):
            f.metadata["check"](f.name, getattr(self, f.name))

    def changed(self):
        """Return, as a dict, the fields whose values are not their defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    @classmethod
    def from_json(cls, values):
        """Make an instance from a dict that went through JSON, which knows lists only, no tuples."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def choice(default, text, choices):
    """Declare a field that is one of some names."""
    return _field(default, f"{text}: {', '.join(choices)}", partial(check_choice, choices=choices))


def count(default, text, minimum=1):
    """Declare a field that is an integer of at least `minimum`."""
    return _field(default, text, partial(check_count, minimum=minimum))


def counts(default, text):
    """Declare a field that is a tuple of integers of at least 1."""
    return _field(default, text, check_counts)


def number(default, text, high=math.inf):
    """Declare a field that is a number from 0 to below `high`."""
    return _field(default, text, partial(check_number, low=0, high=high))


def flag(default, text):
    """Declare a field that is True or False."""
    return _field(default, text, check_flag)


def _field(default, text, check):
    return field(default=default, metadata={"help": text, "check": check})
