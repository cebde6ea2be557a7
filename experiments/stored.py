"""Read the tables in results/."""

import pandas as pd


def read_rows(path, converters=None):
    """Read a stored CSV file as a DataFrame, with exact numbers, and labels as they were written.

    Parameters
    ----------
    path : path
    converters : dict of str to callable, optional
        For some columns, functions that turn text into values.
    """
    converters = converters or {}
    # Some of these labels look like numbers.
    names = {column: str for column in ("setting", "version", "network", "commit") if column not in converters}
    return pd.read_csv(path, keep_default_na=False, na_values=["nan"], dtype=names, converters=converters)
