"""What both command lines have in common: the lock on what is trained."""

import multiprocessing
import os

import pytest

from model_utils.command_line import reserved

pytestmark = pytest.mark.q2f


def enter_often(path, n, started, results):
    """Enter `reserved` n times, and count the times that another process is there, too; put both into results."""
    entered = shared = 0
    started.wait()
    while entered < n:
        try:
            with reserved(path):
                entered += 1
                try:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    shared += 1
                else:
                    os.unlink(path)
        except ValueError:
            pass
    results.put((entered, shared))


def test_what_is_reserved_is_never_reserved_twice(tmp_path):
    context = multiprocessing.get_context("spawn")
    started, results = context.Barrier(4), context.SimpleQueue()
    processes = [context.Process(target=enter_often, args=(tmp_path / "name", 300, started, results)) for _ in range(4)]
    for process in processes:
        process.start()
    counts = [results.get() for _ in processes]
    for process in processes:
        process.join()
    assert counts == [(300, 0)] * 4
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_is_told_what_is_trained_there(tmp_path):
    with reserved(tmp_path / "name", "a backbone"), pytest.raises(ValueError, match="is training a backbone; choose"):
        reserved(tmp_path / "name", "a backbone").__enter__()
    with reserved(tmp_path / "name"):
        pass
