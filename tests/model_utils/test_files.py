"""Files and folders that are written whole or not at all."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from model_utils import files
from model_utils.files import find_folder, remove_folder, replace_folder, replacing, write_text

pytestmark = pytest.mark.q2f

OLD, NEW = {"a": b"old", "b": b"old"}, {"a": b"new", "b": b"new"}


def test_a_new_file_takes_the_old_ones_place_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new folder" / "file.txt"
    write_text(path, "old")
    with replacing(path) as unfinished:
        unfinished.write_text("né", encoding="utf-8")
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "né"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def write_half_and_fail(path):
    with replacing(path) as unfinished:
        unfinished.write_text("half of the n")
        raise OSError("no space left")


def test_an_error_on_the_way_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="no space left"):
        write_half_and_fail(path)
    assert path.read_text() == "old"
    write_text(path, "new")  # what the failed one left is no hindrance
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# Folders -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mlp" / "name"
    replace_folder(folder, OLD)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in find_folder(folder).iterdir()}


def put_aside(folder):
    """Leave things as `replace_folder` does when it is cut off between its two renames."""
    return folder.rename(files._beside(folder, "old"))


def copy_aside(folder):
    """Leave things as `replace_folder` does when it is cut off in its last step."""
    shutil.copytree(folder, files._beside(folder, "old"))


def names_beside(folder):
    return [path.name for path in folder.parent.iterdir()]


@pytest.mark.parametrize("leave", [lambda folder: None, put_aside, copy_aside])
def test_a_new_folder_takes_the_place_of_the_old_one_wherever_that_is(folder, leave):
    leave(folder)
    replace_folder(folder, NEW)
    assert contents(folder) == NEW
    assert names_beside(folder) == [folder.name]


def test_a_folder_that_was_put_aside_is_found_and_stays_where_it_is(folder):
    aside = put_aside(folder)
    assert contents(folder) == OLD
    assert names_beside(folder) == [aside.name]


def test_what_was_put_aside_does_not_stand_before_the_new_one(folder):
    copy_aside(folder)
    (folder / "a").write_bytes(b"newer")
    assert contents(folder)["a"] == b"newer"


@pytest.mark.parametrize("leave", [lambda folder: None, put_aside, copy_aside])
def test_removed_is_removed_wherever_it_is(folder, leave):
    leave(folder)
    remove_folder(folder)
    assert find_folder(folder) is None
    assert names_beside(folder) == []
    remove_folder(folder)  # nothing there, nothing to do


def test_temporary_folders_make_no_path_longer_than_it_is_in_the_end(tmp_path, monkeypatch):
    """Windows allows a path 260 characters."""
    folder = tmp_path / ("mlp__layers__" + "_".join(["1024"] * 20))
    lengths = []
    monkeypatch.setattr(files, "flush", lambda path: lengths.append(len(str(path))))
    replace_folder(folder, OLD)
    replace_folder(folder, NEW)
    assert max(lengths) < len(str(folder / "a"))


@pytest.fixture
def calls(monkeypatch):
    """The calls that the order of what reaches the disk depends on, as they are made."""
    calls, names = [], {}

    def note_open(path, *arguments, call=os.open, **named):
        handle = call(path, *arguments, **named)
        names[handle] = Path(path).name
        return handle

    def note_flush(handle, call=os.fsync):
        call(handle)
        calls.append(f"flush {names[handle]}")

    def note_rename(path, target, call=Path.rename):
        calls.append(f"rename {path.name} to {Path(target).name}")
        return call(path, target)

    def note_replace(path, target, call=os.replace):
        calls.append(f"replace {Path(target).name}")
        call(path, target)

    def note_remove(path, call=shutil.rmtree, **named):
        if Path(path).exists():
            calls.append(f"remove {Path(path).name}")
        call(path, **named)

    monkeypatch.setattr(os, "open", note_open)
    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(Path, "rename", note_rename)
    monkeypatch.setattr(shutil, "rmtree", note_remove)
    return calls


needs_flush_of_folders = pytest.mark.skipif(os.name == "nt", reason="Windows has no means to flush a folder")


@needs_flush_of_folders
def test_a_file_is_on_the_disk_before_it_takes_the_old_ones_place(tmp_path, calls):
    write_text(tmp_path / "new folder" / "file.txt", "new")
    assert calls == [f"flush {tmp_path.name}", "flush file.txt.tmp", "replace file.txt", "flush new folder"]


@needs_flush_of_folders
def test_a_folder_is_on_the_disk_before_it_takes_the_old_ones_place_and_only_then_is_that_removed(folder, calls):
    replace_folder(folder, NEW)
    new, old = (files._beside(folder, ending).name for ending in ("new", "old"))
    assert sorted(calls[:2]) == ["flush a", "flush b"]
    assert calls[2:] == [
        *(f"flush {new}", f"rename name to {old}", f"rename {new} to name", "flush mlp"),
        f"remove {old}",
    ]


def test_a_full_disk_costs_neither_the_old_folder_nor_room(folder, monkeypatch):
    def write_some(path, content, call=Path.write_bytes):
        if path.name == "b":
            call(path, content[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        return call(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_some)
    with pytest.raises(OSError, match="No space left"):
        replace_folder(folder, NEW)
    assert contents(folder) == OLD
    assert names_beside(folder) == [folder.name]


def test_a_power_cut_takes_back_nothing_that_was_written(disk):
    (disk.folder / "not flushed").write_bytes(b"new")
    write_text(disk.folder / "mlp" / "file.txt", "old")
    write_text(disk.folder / "mlp" / "file.txt", "new")
    replace_folder(disk.folder / "new" / "folder", OLD)
    replace_folder(disk.folder / "new" / "folder", NEW)
    (disk.folder / "new" / "folder" / "not flushed").write_bytes(b"new")
    disk.cut_power()
    disk.start_again()
    assert (disk.folder / "mlp" / "file.txt").read_text() == "new"
    assert contents(disk.folder / "new" / "folder") == NEW, "and what was not flushed is gone, so the power was cut"
