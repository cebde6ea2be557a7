"""The notebooks: that they run, and that their saved outputs are fit to be seen."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cnn
import mlp

ROOT = Path(__file__).parents[1]
MLP_NOTEBOOK, CNN_NOTEBOOK = ROOT / "mlp_implementation.ipynb", ROOT / "cnn_implementation.ipynb"
PATH_OF_A_MACHINE = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users|opt|usr|var|mnt)/|[A-Z]:\\\\")


def cells_of(path, kind):
    """Return the cells of one kind, "code" or "markdown"."""
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def run(notebook, output, parameters):
    """Run a notebook top to bottom in a fresh kernel, with some of its parameters changed."""
    command = [sys.executable, "-m", "papermill", str(notebook), str(output), "--no-progress-bar"]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def check_outputs(path):
    """Every cell was run, in order, and shows something, and nothing that it shows is an error or a warning."""
    for number, cell in enumerate(cells_of(path, "code"), start=1):
        source = "".join(cell["source"])
        assert cell["execution_count"] == number, source
        assert cell["outputs"] or {"parameters", "injected-parameters"} & set(cell["metadata"].get("tags", [])), source
        for output in cell["outputs"]:
            assert output["output_type"] != "error", source
            assert output.get("name") != "stderr", source
            assert "Warning" not in json.dumps(output.get("text", "")), source


@pytest.fixture(scope="module")
def small_mlp_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small_run")
    parameters = {
        "models_dir": folder / "models",
        "figures_dir": folder / "figures",
        "train_size": 2000,
        "validation_size": 500,
        "small_epochs": 1,
    }
    run(MLP_NOTEBOOK, folder / "run.ipynb", parameters)
    return folder


@pytest.fixture(scope="module")
def small_cnn_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small_run")
    parameters = {
        "models_dir": folder / "models",
        "train_size": 1000,
        "validation_size": 300,
        "epochs": 2,
        "map_images": 200,
    }
    run(CNN_NOTEBOOK, folder / "run.ipynb", parameters)
    return folder


@pytest.mark.q2f
def test_the_mlp_notebook_runs_from_top_to_bottom(small_mlp_run):
    check_outputs(small_mlp_run / "run.ipynb")
    assert (small_mlp_run / "figures" / "predictions.png").stat().st_size > 10_000


@pytest.mark.q2f
def test_the_mlp_notebook_saves_the_two_models_that_it_trains(small_mlp_run, capsys):
    folders = list((small_mlp_run / "models").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert mlp.main(["evaluate", str(folder)]) == 0
        assert re.search(r"test accuracy 0\.\d{4}\n$", capsys.readouterr().out)


@pytest.mark.q3d
def test_the_cnn_notebook_runs_from_top_to_bottom(small_cnn_run):
    check_outputs(small_cnn_run / "run.ipynb")


@pytest.mark.q3d
def test_the_cnn_notebook_saves_a_pair_that_evaluates(small_cnn_run, capsys):
    (folder,) = (small_cnn_run / "models").iterdir()
    assert cnn.main(["evaluate", str(folder)]) == 0
    assert re.search(r"test accuracy 0\.\d{4}\n$", capsys.readouterr().out)


@pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(MLP_NOTEBOOK, marks=pytest.mark.q2f, id="mlp"),
        pytest.param(CNN_NOTEBOOK, marks=pytest.mark.q3d, id="cnn"),
    ],
)
def test_a_tracked_notebook_was_run_once_from_top_to_bottom_and_shows_no_path_or_warning(notebook):
    check_outputs(notebook)
    for cell in cells_of(notebook, "code"):
        for output in cell["outputs"]:
            without_pictures = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image")}
            assert not PATH_OF_A_MACHINE.search(json.dumps([without_pictures, output.get("text", "")]))


@pytest.mark.parametrize(
    ("notebook", "questions"),
    [
        (MLP_NOTEBOOK, ["Q1", "Q2a", "Q2b", "Q2c", "Q2e", "Q2d", "Q2f"]),
        (CNN_NOTEBOOK, ["Q3a", "Q3b", "Q3c", "Q3d"]),
    ],
)
def test_a_notebook_has_a_section_for_each_question(notebook, questions):
    markdown = "\n".join("".join(cell["source"]) for cell in cells_of(notebook, "markdown"))
    assert re.findall(r"^## (Q\d\w?) ", markdown, re.MULTILINE) == questions
