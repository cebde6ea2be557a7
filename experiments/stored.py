"""Tables in results/, and beside each comparison's, as JSON, what it was made with."""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from model_utils.files import write_text
from model_utils.tables import write_csv


def store_rows(path, rows, settings):
    """Write rows to a CSV file, and beside it, as JSON, what they were made with.

    Parameters
    ----------
    path : path
    rows : list of dict
    settings : dict of str to Hyperparameters
    """
    write_csv(path, rows)
    text = json.dumps({label: asdict(h) for label, h in settings.items()}, indent=2) + "\n"
    write_text(_settings_path(path), text)


def load_rows(path, settings):
    """Read what `store_rows` wrote, as a DataFrame.

    Raises
    ------
    ValueError
        If it was made with other settings.
    """
    stored = json.loads(_settings_path(path).read_text(encoding="utf-8"))
    try:
        # A hyperparameter that did not exist when they were stored has its default, which is what was done without it.
        made_with = {label: type(settings[label]).from_json(values) for label, values in stored.items()}
    except (KeyError, TypeError, ValueError):
        made_with = None
    if made_with != settings:
        raise ValueError(f"{path}: made with other hyperparameters, see {_settings_path(path)}; make it again")
    return read_rows(path)


def read_rows(path, converters=None):
    """Read a stored CSV file as a DataFrame: numbers to the last bit, labels as they were written.

    Parameters
    ----------
    path : path
    converters : dict of str to callable, optional
        For some columns, what makes their values of text.
    """
    converters = converters or {}
    # Some of these look like numbers.
    names = {column: str for column in ("setting", "version", "network", "commit") if column not in converters}
    return pd.read_csv(path, keep_default_na=False, na_values=["nan"], dtype=names, converters=converters)


def _settings_path(path):
    return Path(path).with_suffix(".json")
