"""Rounds of the benchmarks: contestants take turns, and what other processors took stays stored."""

import importlib
import os
import re
import time
from functools import partial

import pytest

from experiments.benchmarks import rounds
from experiments.stored import read_rows

pytestmark = pytest.mark.q4


def doing(function, *arguments):
    """A contestant whose work is to call a function of the standard library, which any process can import."""
    return ("numpy", partial(partial, function, *arguments))


def test_contestants_take_turns_each_in_a_process_of_its_own():
    seen = []
    contestants = {"first": doing(os.getpid), "second": doing(os.getpid)}
    rows = rounds.alternate(contestants, 2, check=seen.append, network="8-4", batch_size=64)
    assert [(row["contestant"], row["round"]) for row in rows] == [
        *(("first", 1), ("second", 1)),
        *(("first", 2), ("second", 2)),
    ]
    assert {(row["network"], row["batch_size"], row["threads"]) for row in rows} == {("8-4", 64, 2)}
    (processes,) = seen  # the first round only warms up, and is checked
    assert len({os.getpid(), *processes.values()}) == 3
    rounds.alternate({"first": doing(time.monotonic), "second": doing(time.monotonic)}, 0, check=seen.append)
    assert seen[1]["first"] < seen[1]["second"]


def test_contestants_have_their_threads_and_the_kernels_of_their_processor(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    seen = []
    variables = ("OPENBLAS_CORETYPE", "OMP_NUM_THREADS")
    rounds.alternate({name: doing(os.getenv, name) for name in variables}, 0, n_threads=1, check=seen.append)
    assert seen == [{"OPENBLAS_CORETYPE": None, "OMP_NUM_THREADS": "1"}]
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"


def test_who_lacks_a_package_is_left_out_by_name_and_a_failure_is_not_hidden(capfd):
    missing = ("numpy", partial(importlib.import_module, "no_such_package"))
    rows = rounds.alternate({"missing": missing, "present": doing(os.getpid)}, 1)
    assert [row["contestant"] for row in rows] == ["present"]
    assert "left out: missing (No module named 'no_such_package')" in capfd.readouterr().out
    with pytest.raises(EOFError):
        rounds.alternate({"fails": doing(os.stat, "no_such_file")}, 1)
    assert "FileNotFoundError" in capfd.readouterr().err


def test_what_other_processors_took_stays_stored(tmp_path, capsys):
    path = tmp_path / "race.csv"
    row = {"network": "8-4", "contestant": "a", "version": "1", "round": 1, "seconds": 1.0, "threads": 2}
    first, second, again = (
        [row | {"processor": processor, "seconds": seconds}]
        for processor, seconds in (("first", 1.0), ("second", 2.0), ("first", 3.0))
    )
    rounds.store(path, first, "network")
    rounds.store(path, second, "network")
    assert read_rows(path).to_dict("records") == first + second
    assert "| a" not in capsys.readouterr().out  # times of different processors are not held against each other
    rounds.store(path, again, "network")
    assert read_rows(path).to_dict("records") == second + again
    assert re.search(r"\| a +\| 2 +\| 8-4 +\| 3\.0000 +\| 1\.0000 +\| 3\.00", capsys.readouterr().out)
