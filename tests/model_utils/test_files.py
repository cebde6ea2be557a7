"""Files that are written whole or not at all."""

import pytest

from model_utils.files import replacing, write_text

pytestmark = pytest.mark.q2f


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
