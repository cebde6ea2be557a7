"""Files that are written whole or not at all."""

import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """Give a path to write to, which takes the place of `path` once the block has ended without an error.

    Parameters
    ----------
    path : path
        Its folder is made if it is missing.

    Yields
    ------
    Path
        In the same folder, ending in .tmp.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    yield unfinished
    os.replace(unfinished, path)


def write_text(path, text):
    """Write a text file; a stop in the middle leaves an old one as it was."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
