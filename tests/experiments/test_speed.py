"""What the report says of speed follows from the stored rounds."""

import csv
import statistics

import pytest

from experiments import speed
from experiments.benchmarks import cnn_epoch, mlp_race

pytestmark = pytest.mark.q4


def rounds_of(path, *columns):
    """The seconds of each round by machine, by the columns and by contestant, read without pandas."""
    seconds = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            cell = seconds.setdefault((row["processor"], row["threads"]), {}).setdefault(
                tuple(row[c] for c in columns), {}
            )
            cell.setdefault(row["contestant"], {})[row["round"]] = float(row["seconds"])
    return seconds


def test_race_is_summed_up_as_it_went():
    """Against PyTorch, on each processor that the race was run on, with each number of threads."""
    text = speed.race_text()
    for cells in rounds_of(mlp_race.STORED, "network", "batch_size").values():
        assert len(cells) == 9
        times = []
        for cell in cells.values():
            by_hand, pytorch = cell["numpy"], cell["pytorch"]
            times.append(statistics.median(pytorch[number] / by_hand[number] for number in by_hand))
        mean = statistics.geometric_mean(times)
        assert f"takes {mean:.2f} times as long as the hand-written MLP, in its best cell {min(times):.2f}" in text


def test_epochs_of_the_cnn_are_summed_up_as_they_went():
    text = speed.cnn_epoch_text()
    for cells in rounds_of(cnn_epoch.STORED).values():
        (cell,) = cells.values()
        times = [cell["usual"][number] / cell["ours"][number] for number in cell["ours"]]
        assert f"| {statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})" in text
