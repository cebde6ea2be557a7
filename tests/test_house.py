"""The house: what stands at the top, which way imports go, and that the course runs without its laboratory."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ("data_preparation", "mlp", "cnn")


def imported(path):
    """The modules that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


def tops(path):
    return {module.split(".")[0] for module in imported(path)}


def test_nothing_stands_at_the_top_that_the_course_does_not_need():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} == {
        *("README.md", "REPORT.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "requirements.txt"),
        *("mlp_implementation.ipynb", "cnn_implementation.ipynb", *(f"{script}.py" for script in SCRIPTS)),
        *("data", "models", "model_utils", "experiments", "results", "tests"),
    }


def test_imports_go_one_way():
    """From experiments to cnn to mlp to data_preparation to model_utils, and never back."""
    floors = ["model_utils", *SCRIPTS, "experiments", "tests"]
    files = {script: [ROOT / f"{script}.py"] for script in SCRIPTS}
    files |= {package: (ROOT / package).rglob("*.py") for package in ("model_utils", "experiments")}
    for floor, paths in files.items():
        above = set(floors[floors.index(floor) + 1 :])
        for path in paths:
            assert not tops(path) & above, path


def test_model_utils_knows_no_path_of_the_repository():
    for path in (ROOT / "model_utils").rglob("*.py"):
        assert "__file__" not in path.read_text(encoding="utf-8"), path


def test_every_module_fits_on_a_desk_and_has_a_name_of_its_own():
    modules = [*(ROOT / "model_utils").rglob("*.py"), *(ROOT / "experiments").rglob("*.py"), *ROOT.glob("*.py")]
    for path in modules:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 445, path
    names = [path.stem for path in modules if not path.stem.startswith("__")]
    # The one name that is there twice is the assignment's: the script mlp.py, and the MLP that it trains.
    assert sorted({name for name in names if names.count(name) > 1}) == ["mlp"]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the project without experiments, results and tests."""
    folder = tmp_path_factory.mktemp("course")
    for name in (*(f"{script}.py" for script in SCRIPTS), "model_utils", "data"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return folder


def run(course, *arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=course, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", ["mlp", "cnn"])
def test_the_course_trains_evaluates_and_inspects_with_the_laboratory_deleted(course, script):
    options = ["--train-size", "600", "--validation-size", "200", "--test-size", "200", "--epochs", "1"]
    if script == "cnn":
        options += ["--channels", "4", "4", "4", "4", "4", "--mlp-epochs", "1"]
    accuracy = run(course, f"{script}.py", "train", *options).splitlines()[-1]
    (folder,) = (course / "models" / script).iterdir()
    assert run(course, f"{script}.py", "evaluate", str(folder)).splitlines()[-1] == accuracy
    assert run(course, f"{script}.py", "inspect", str(folder)).splitlines()[-1] == accuracy


def test_model_utils_is_imported_whole_with_the_laboratory_deleted(course):
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "model_utils").rglob("*.py")
        if path.stem != "__init__"
    ]
    run(course, "-c", f"import data_preparation, {', '.join(modules)}")
