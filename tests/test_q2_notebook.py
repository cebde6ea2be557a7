"""The notebook of questions 1 and 2: that it runs, and that its saved outputs are fit to be seen."""

import re

import pytest

import mlp
from tests import notebooks

NOTEBOOK = notebooks.ROOT / "mlp_implementation.ipynb"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small_run")
    parameters = {
        "models_dir": folder / "models",
        "figures_dir": folder / "figures",
        "candidates_file": folder / "candidates.csv",
        "rerun_candidates": True,
        "train_size": 2000,
        "validation_size": 500,
        "comparison_epochs": 1,
        "comparison_seeds": 2,
        "small_epochs": 1,
        "deep_epochs": 1,
        "best_epochs": 2,
        "candidate_epochs": 1,
    }
    notebooks.run(NOTEBOOK, folder / "run.ipynb", parameters)
    return folder


def test_q2f_notebook_runs_from_top_to_bottom(small_run):
    notebooks.check_outputs(small_run / "run.ipynb")
    assert (small_run / "figures" / "predictions.png").stat().st_size > 10_000


def test_q2f_notebook_saves_three_models_that_evaluate(small_run, capsys):
    folders = list((small_run / "models").iterdir())
    assert len(folders) == 3
    for folder in folders:
        assert mlp.main(["evaluate", str(folder)]) == 0
        assert re.search(r"test accuracy 0\.\d{4}\n$", capsys.readouterr().out)


def test_q2f_tracked_notebook_was_run_once_from_top_to_bottom_and_shows_no_path_or_warning():
    notebooks.check_outputs(NOTEBOOK)
    notebooks.check_no_path_of_a_machine(NOTEBOOK)


def test_q2_notebook_has_a_section_for_each_question():
    assert notebooks.sections(NOTEBOOK) == ["Q1", "Q2a", "Q2b", "Q2c", "Q2d", "Q2e", "Q2f"]
