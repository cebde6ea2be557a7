"""Running notebooks, and checking that their saved outputs are fit to be seen."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATH_OF_A_MACHINE = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users|opt|usr|var|mnt)/|[A-Z]:\\\\")


def cells_of(path, kind):
    """Return the cells of one kind, "code" or "markdown"."""
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def run(notebook, output, parameters):
    """Run a notebook top to bottom in a fresh kernel, with some of its parameters changed."""
    command = [sys.executable, "-m", "papermill", str(ROOT / notebook), str(output), "--no-progress-bar"]
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


def check_no_path_of_a_machine(path):
    """Nothing that the cells show, pictures apart, has a path of the machine in it that they ran on."""
    for cell in cells_of(path, "code"):
        for output in cell["outputs"]:
            without_pictures = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image")}
            assert not PATH_OF_A_MACHINE.search(json.dumps([without_pictures, output.get("text", "")]))


def sections(path):
    """Return the names of the sections that are titled with a question's number."""
    markdown = "\n".join("".join(cell["source"]) for cell in cells_of(path, "markdown"))
    return re.findall(r"^## (Q\d\w?) ", markdown, re.MULTILINE)
