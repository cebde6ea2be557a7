"""Files and folders that are written whole or not at all, and that a power cut does not take back."""

import contextlib
import errno
import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from model_utils.checks import check_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def replacing(path):
    """Give a path to write to, which takes the place of `path` once the block has ended without an error.

    Parameters
    ----------
    path : path
        Its folder is made if it is missing. Whatever ends the block early leaves nothing behind.

    Yields
    ------
    Path
        In the same folder, ending in .tmp.

    Raises
    ------
    ValueError
        If something else than a file, such as a folder or a device, has this name.
    """
    path = check_regular(path)
    make_folder(path.parent)
    unfinished = path.with_name(path.name + ".tmp")
    try:
        yield unfinished
        flush(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            unfinished.unlink(missing_ok=True)
        raise
    flush(path.parent)


def check_regular(path):
    """Return the path of the file that a file of this name would replace: links are followed.

    Raises
    ------
    ValueError
        If something else than a file, such as a folder or a device, has this name.
    """
    check_path("path", path)
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a file, or a name that is free, not a folder or a device")
    return path


def write_text(path, text):
    """Write a text file; a stop in the middle leaves an old one as it was."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def make_folder(folder):
    """Make a folder, and those that it is in, where they are missing."""
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        flush(path.parent)


def flush(path):
    """Wait until a file, or the list of the names in a folder, is on the disk and not only in memory."""
    is_windows = os.name == "nt"
    if is_windows and os.path.isdir(path):  # it has no means for that
        return
    handle = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)
    try:
        os.fsync(handle)
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS, where fsync does not reach further than the drive's own memory
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # which say that the file system cannot do this
            raise
    finally:
        os.close(handle)


# Folders -------------------------------------------------------------------------------------------------------------


def replace_folder(folder, contents):
    """Write a folder of files, in place of one that is there already.

    It appears under its name only when all of it is on the disk. The old one is put aside meanwhile, and removed last:
    whenever this is cut off, be it by a power cut, a whole folder is there, and `find_folder` finds it.

    Parameters
    ----------
    folder : path
        Nobody else may be writing it.
    contents : dict of str to bytes
        Of the files, by name.
    """
    folder = Path(folder)
    unfinished, aside = _beside(folder, "new"), _beside(folder, "old")
    make_folder(folder.parent)
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        for name, content in contents.items():
            (unfinished / name).write_bytes(content)
        with ThreadPoolExecutor() as threads:  # what is asked for at once reaches the disk in one go
            list(threads.map(flush, [unfinished / name for name in contents]))
        flush(unfinished)
        if folder.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
            _rename(folder, aside)
        _rename(unfinished, folder)
        flush(folder.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # its room may be needed
        raise
    shutil.rmtree(aside, ignore_errors=True)


def find_folder(folder):
    """Return where a folder of `replace_folder` is: under its name, or put aside; None if it is in neither place."""
    folder = Path(folder)
    # Between a look at one place and a look at the other, it may have moved.
    for place in (folder, _beside(folder, "old")) * 3:
        if place.is_dir():
            return place
    return None


def remove_folder(folder):
    """Remove a folder of `replace_folder`, if there is one, wherever it is; no part of it is found at any time."""
    folder = Path(folder)
    unfinished = _beside(folder, "new")
    for place in (_beside(folder, "old"), folder):
        if place.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
            _rename(place, unfinished)
            shutil.rmtree(unfinished, ignore_errors=True)


def _beside(folder, ending):
    """Name a temporary folder; not by the whole name, for Windows allows a path 260 characters."""
    digest = hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:8]
    return folder.with_name(f"{folder.name[:16]}_{digest}.{ending}.tmp")


def _rename(folder, target):
    """Rename a folder; on Windows, wait for those who have a file open in it."""
    for attempt in range(1, 501):
        try:
            return folder.rename(target)
        except PermissionError:
            if os.name != "nt" or attempt == 500:
                raise
            time.sleep(0.01)
