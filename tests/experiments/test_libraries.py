"""The same MLP in other libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import libraries
from experiments.stored import read_rows

pytestmark = pytest.mark.q4

ROOT = Path(__file__).parents[2]


def test_libraries_learn_the_same_and_a_missing_one_is_left_out(small_splits, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "keras", None)  # as if it were not installed
    libraries.compare(tmp_path / "libraries.csv", small_splits, ((784, 16, 10),), epochs=4)
    output = capsys.readouterr().out
    assert "left out: Keras" in output
    assert "pip install -r experiments/requirements.txt" in output
    rows = read_rows(tmp_path / "libraries.csv")
    assert rows["system"].tolist() == ["Perceptron", "MLPClassifier", "NumPy by hand", "PyTorch", "scikit-learn"]
    assert (rows["test_accuracy"] > 0.6).all()
    table, machine = libraries.libraries_table(tmp_path / "libraries.csv").split("\n\n")
    assert len(table.splitlines()) == 2 + len(rows)
    assert rows["processor"][0] in machine


def test_keras_learns_the_same(need):
    need("keras", "tensorflow")
    # In a process of its own: Keras keeps to the backend that it was first imported with.
    program = (
        "from data_preparation import load_splits\n"
        "from experiments import libraries\n"
        "row = libraries.learn('keras', (784, 16, 10), load_splits(train=3000, validation=1000), 4)\n"
        "print('accuracy', row['validation_accuracy'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0.6
