"""The notebook of questions 1 and 2: that it runs, and that its saved outputs are fit to be seen."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mlp

ROOT = Path(mlp.__file__).parent
NOTEBOOK = ROOT / "mlp_implementation.ipynb"
PATH_OF_A_MACHINE = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users|opt|usr|var|mnt)/|[A-Z]:\\\\")


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def check_outputs(cells):
    """Every cell was run, in order, and shows something, and nothing that it shows is an error or a warning."""
    for number, cell in enumerate(cells, start=1):
        source = "".join(cell["source"])
        assert cell["execution_count"] == number, source
        assert cell["outputs"] or {"parameters", "injected-parameters"} & set(cell["metadata"].get("tags", [])), source
        for output in cell["outputs"]:
            assert output["output_type"] != "error", source
            assert output.get("name") != "stderr", source
            assert "Warning" not in json.dumps(output.get("text", "")), source


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
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(folder / "run.ipynb"), "--no-progress-bar"]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_q2f_notebook_runs_from_top_to_bottom(small_run):
    check_outputs(code_cells(small_run / "run.ipynb"))
    assert (small_run / "figures" / "predictions.png").stat().st_size > 10_000


def test_q2f_notebook_saves_three_models_that_evaluate(small_run, capsys):
    folders = list((small_run / "models").iterdir())
    assert len(folders) == 3
    for folder in folders:
        assert mlp.main(["evaluate", str(folder)]) == 0
        assert re.search(r"test accuracy 0\.\d{4}\n$", capsys.readouterr().out)


def test_q2f_tracked_notebook_was_run_once_from_top_to_bottom_and_shows_no_path_or_warning():
    cells = code_cells(NOTEBOOK)
    check_outputs(cells)
    for cell in cells:
        for output in cell["outputs"]:
            without_pictures = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image")}
            assert not PATH_OF_A_MACHINE.search(json.dumps([without_pictures, output.get("text", "")]))


def test_q2_notebook_has_a_section_for_each_question():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    markdown = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert re.findall(r"^## (Q\d\w?) ", markdown, re.MULTILINE) == ["Q1", "Q2a", "Q2b", "Q2c", "Q2d", "Q2e", "Q2f"]
