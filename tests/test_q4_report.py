"""Question 4: what the documents say is what was measured, and what they point to exists."""

import json
import re
import statistics
from pathlib import Path

import pytest

import mlp
from model_utils.results import (
    EPOCH_TIMES,
    cnn_speed_sentence,
    models_table,
    seeds_sentence,
    speed_sentence,
    write_between_marks,
)
from model_utils.tables import read_csv, write_csv

ROOT = Path(mlp.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def cells_by_model(table):
    """The cells of each row of a table of models, by the model's name."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: cells for name, *cells in rows}


def test_q4_readme_shows_the_stored_results():
    shown = cells_by_model(re.search(r"<!-- models -->\n(.*)\n<!-- /models -->", README, re.DOTALL)[1])
    stored = cells_by_model(models_table(ROOT / "models"))
    assert len(shown) >= 4
    assert shown == {name: stored[name] for name in shown}, "run make notebooks"
    assert f"<!-- seeds -->\n{seeds_sentence()}\n<!-- /seeds -->" in README
    assert f"<!-- speed -->\n{speed_sentence()}\n\n{cnn_speed_sentence()}\n<!-- /speed -->" in README


def test_q4_numpy_mlp_was_at_least_as_fast_as_pytorch():
    seconds = {"NumPy": [], "PyTorch": []}
    for row in read_csv(EPOCH_TIMES, text_columns=("library", "version", "processor")):
        seconds[row["library"]].append(row["seconds"])
    ratios = [b / a for a, b in zip(seconds["NumPy"], seconds["PyTorch"], strict=True)]
    assert statistics.median(ratios) >= 1
    assert f"{statistics.median(ratios):.2f} times as fast" in speed_sentence()


def test_q4_results_table_shows_each_models_stored_accuracy():
    stored = cells_by_model(models_table(ROOT / "models"))
    folders = [path.parent for path in (ROOT / "models").glob("*/*/model.json") if path.parent.suffix != ".tmp"]
    assert stored.keys() == {folder.name for folder in folders}
    for folder in folders:
        accuracy = json.loads((folder / "metrics.json").read_text())["test"]["accuracy"]
        assert stored[folder.name][0] == f"{accuracy:.4f}"


def test_q4_readme_points_to_what_exists():
    for target, anchor in re.findall(r"\]\(([^)#:]+)(#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target
        if anchor:
            assert f"## {anchor[1:].replace('-', ' ')}" in (ROOT / target).read_text(encoding="utf-8").replace("-", " ")
    for file, tests in re.findall(r"\]\((tests/\w+\.py)\) `(\w+)\*`", README):
        assert f"def {tests}" in (ROOT / file).read_text(encoding="utf-8")


def test_q4_results_are_written_between_their_marks_only(tmp_path):
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- models -->\nold\nold\n<!-- /models -->\nafter\n")
    write_between_marks(document, "models", "new")
    assert document.read_text() == "before\n<!-- models -->\nnew\n<!-- /models -->\nafter\n"
    with pytest.raises(ValueError, match=r"<!-- speed -->.* found 0"):
        write_between_marks(document, "speed", "new")
    assert "after" in document.read_text()


def test_q4_tables_survive_storing(tmp_path):
    rows = [{"name": "a, b", "n": 3, "x": 0.1}, {"name": "c", "n": -1, "x": 1e-9}, {"name": "1e-4", "n": 0, "x": 2.0}]
    write_csv(tmp_path / "new" / "rows.csv", rows)
    assert read_csv(tmp_path / "new" / "rows.csv", text_columns=["name"]) == rows
    with pytest.raises(ValueError, match="a, b"):
        read_csv(tmp_path / "new" / "rows.csv")
