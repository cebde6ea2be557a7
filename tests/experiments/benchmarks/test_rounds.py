"""Rounds of the benchmarks: contestants take turns, and what other processors took stays stored."""

import re

import pytest

from experiments.benchmarks import rounds
from experiments.stored import read_rows

pytestmark = pytest.mark.q4


def test_contestants_take_turns_and_are_held_against_the_stored_ones(tmp_path, capsys):
    turns = []
    contestants = {("a", "1"): lambda: turns.append("a"), ("b", "2"): lambda: turns.append("b")}
    rows = rounds.alternate(contestants, 2, network="8-4", batch_size=64)
    assert turns == ["a", "b"] * 3  # the first round only warms up
    assert [(row["contestant"], row["round"]) for row in rows] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    stored = [row | {"seconds": 1.0} for row in rows]
    rounds.store(tmp_path / "race.csv", stored, "network", "batch_size")
    assert read_rows(tmp_path / "race.csv").to_dict("records") == stored
    capsys.readouterr()
    rounds.store(tmp_path / "race.csv", [row | {"seconds": 1.5} for row in rows], "network", "batch_size")
    assert re.search(r"\| a +\| 8-4 +\| 64 +\| 1\.5000 +\| 1\.0000 +\| 1\.50", capsys.readouterr().out)


def test_what_other_processors_took_stays_stored(tmp_path, capsys):
    path = tmp_path / "race.csv"
    rows = rounds.alternate({("a", "1"): lambda: None}, 2)
    first, second, again = (
        [row | {"processor": processor, "seconds": seconds} for row in rows]
        for processor, seconds in (("first", 1.0), ("second", 2.0), ("first", 3.0))
    )
    rounds.store(path, first)
    rounds.store(path, second)
    assert read_rows(path).to_dict("records") == first + second
    assert "| a" not in capsys.readouterr().out  # times of different processors are not held against each other
    rounds.store(path, again)
    assert read_rows(path).to_dict("records") == second + again
    assert re.search(r"\| a +\| 3\.0000 +\| 1\.0000 +\| 3\.00", capsys.readouterr().out)
