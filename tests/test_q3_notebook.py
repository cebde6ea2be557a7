"""The notebook of question 3: that it runs, and that its saved outputs are fit to be seen."""

import re

import pytest

import cnn
from tests import notebooks

NOTEBOOK = notebooks.ROOT / "cnn_implementation.ipynb"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small_run")
    parameters = {
        "models_dir": folder / "models",
        "results_dir": folder / "results",
        "checkpoints_dir": folder / "checkpoints",
        "rerun_architectures": True,
        "rerun_finalists": True,
        "rerun_inits": True,
        "rerun_seeds": True,
        "rerun_lenets": True,
        "train_size": 1000,
        "validation_size": 300,
        "backbone_epochs": 2,
        "classifier_epochs": 2,
        "map_images": 200,
        "study_size": 60,
        "study_epochs": 1,
        "finalist_epochs": 1,
        "seeds_epochs": 1,
        "lenet_epochs": 1,
        "comparison_seeds": 2,
    }
    notebooks.run(NOTEBOOK, folder / "run.ipynb", parameters)
    return folder


def test_q3d_notebook_runs_from_top_to_bottom(small_run):
    notebooks.check_outputs(small_run / "run.ipynb")
    names = {path.name for path in (small_run / "results").iterdir()}
    studies = ("cnn_architectures", "cnn_finalists", "cnn_inits", "cnn_seeds", "lenet_steps")
    assert names == {f"{study}.{kind}" for study in studies for kind in ("csv", "json")}


def test_q3d_notebook_saves_a_pair_that_evaluates(small_run, capsys):
    (folder,) = (small_run / "models").iterdir()
    assert cnn.main(["evaluate", str(folder)]) == 0
    assert re.search(r"test accuracy 0\.\d{4}\n$", capsys.readouterr().out)


def test_q3d_tracked_notebook_was_run_once_from_top_to_bottom_and_shows_no_path_or_warning():
    notebooks.check_outputs(NOTEBOOK)
    notebooks.check_no_path_of_a_machine(NOTEBOOK)


def test_q3_notebook_has_a_section_for_each_question():
    assert notebooks.sections(NOTEBOOK) == ["Q3a", "Q3b", "Q3c", "Q3d"]
