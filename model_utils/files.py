"""Write files and folders completely or not at all, and so that they survive a power cut."""

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
    """Yield a temporary path to write to; it replaces `path` when the block ends without an error.

    Parameters
    ----------
    path : path
        Its folder is created if it is missing. If the block ends early, nothing is left behind.

    Yields
    ------
    Path
        In the same folder, ending in .tmp.

    Raises
    ------
    ValueError
        If something other than a file, such as a folder or a device, has this name.
    """
    path = check_regular(path)
    make_folder(path.parent)
    unfinished = path.with_name(path.name + ".tmp")
    try:
        yield unfinished
        flush(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):  # report the first error
            unfinished.unlink(missing_ok=True)
        raise
    flush(path.parent)


def check_regular(path):
    """Return the path that a file of this name would be written to, with links followed.

    Raises
    ------
    ValueError
        If something other than a file, such as a folder or a device, has this name.
    """
    check_path("path", path)
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a file or an unused name, got a folder or a device")
    return path


def write_text(path, text):
    """Write a text file; if that is interrupted, an existing file is left unchanged."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def make_folder(folder):
    """Create a folder and its parent folders where they are missing."""
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        flush(path.parent)


def flush(path):
    """Wait until a file, or a folder's list of names, is on the disk and not only in memory."""
    is_windows = os.name == "nt"
    if is_windows and os.path.isdir(path):  # Windows cannot flush a folder
        return
    handle = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)
    try:
        os.fsync(handle)
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS, where fsync only reaches the drive's own memory
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # these say that the file system cannot do this
            raise
    finally:
        os.close(handle)


# Folders -------------------------------------------------------------------------------------------------------------


def replace_folder(folder, contents):
    """Write a folder of files, replacing one that is already there.

    The new folder gets its name only when all of it is on the disk. Just before, the old one is moved aside; it is
    removed last. Whenever this is interrupted, even by a power cut, `find_folder` finds a complete folder.

    Parameters
    ----------
    folder : path
        No other process may write to it at the same time.
    contents : dict of str to bytes
        The content of each file, by name.
    """
    folder = Path(folder).absolute()
    unfinished, aside = _beside(folder, "new"), _beside(folder, "old")
    make_folder(folder.parent)
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        for name, content in contents.items():
            (unfinished / name).write_bytes(content)
        with ThreadPoolExecutor() as threads:  # requests made together reach the disk in one go
            list(threads.map(flush, [unfinished / name for name in contents]))
        flush(unfinished)
        if folder.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
            _rename(folder, aside)
        _rename(unfinished, folder)
        flush(folder.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # its space may be needed
        raise
    shutil.rmtree(aside, ignore_errors=True)


def find_folder(folder):
    """Return where a folder of `replace_folder` is: under its name or moved aside; None if it is in neither place."""
    folder = Path(folder).absolute()  # so that "." has a name
    # It may move between the look at one place and the look at the other, so look several times.
    for place in (folder, _beside(folder, "old")) * 3:
        if place.is_dir():
            return place
    return None


def remove_folder(folder):
    """Remove a folder of `replace_folder`, if there is one; no reader ever finds only a part of it."""
    folder = Path(folder).absolute()
    unfinished = _beside(folder, "new")
    for place in (_beside(folder, "old"), folder):
        if place.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
            _rename(place, unfinished)
            shutil.rmtree(unfinished, ignore_errors=True)


def _beside(folder, ending):
    """Return the path of a temporary folder; its name is short, since Windows allows only 260 characters in a path."""
    digest = hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:8]
    return folder.with_name(f"{folder.name[:16]}_{digest}.{ending}.tmp")


def _rename(folder, target):
    """Rename a folder; on Windows, wait while another process has one of its files open."""
    for attempt in range(1, 501):
        try:
            return folder.rename(target)
        except PermissionError:
            if os.name != "nt" or attempt == 500:
                raise
            time.sleep(0.01)
