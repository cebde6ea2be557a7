import errno
import importlib.util
import os
import re
import struct
import subprocess
import tempfile
from pathlib import Path

os.environ["SCIPY_ARRAY_API"] = "1"  # read at the first import of SciPy; one of scikit-learn's checks needs it

import pytest
from hypothesis import HealthCheck, settings

import data_preparation
import mlp
from experiments.networks import has_weights, load_networks
from model_utils.files import replace_folder
from model_utils.tables import markdown_table

README = Path(__file__).parents[1] / "README.md"


def pytest_terminal_summary(terminalreporter, config):
    """After all tests, or those of a question, print README's table of questions with how many tests passed."""
    if config.args != config.getini("testpaths"):
        return
    of_question = re.compile(r"^\| (Q.*?) \| (\d*) \| (.*?) \| .* \| `pytest -m (\w+)` \|$", re.MULTILINE)
    outcomes = ("passed", "failed", "error", "skipped")
    ran = [(kind, report) for kind in outcomes for report in terminalreporter.stats.get(kind, [])]
    rows = []
    for question, marks, where, mark in of_question.findall(README.read_text(encoding="utf-8")):
        kinds = [kind for kind, report in ran if mark in report.keywords]
        if kinds:
            places = ", ".join(re.findall(r"\(([^)]*)\)", where))
            rows.append((question, marks, places, f"{kinds.count('passed')} of {len(kinds)}"))
    if rows:
        terminalreporter.write_line("\n" + markdown_table(["question", "marks", "answered in", "tests passed"], rows))


# No example is kept between runs. The few examples are the same in each run, the many are different each time.
COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("few", max_examples=100, derandomize=True, **COMMON)
settings.register_profile("many", max_examples=10_000, derandomize=False, print_blob=True, **COMMON)
settings.load_profile("few")


@pytest.fixture(scope="session")
def official():
    return data_preparation.load_official()


@pytest.fixture(scope="session")
def measured_networks():
    """The networks that the documents show, without those that a user trained in models/."""
    return load_networks()


@pytest.fixture(scope="session")
def saved_models(measured_networks):
    """The folders, by name, of the measured networks whose weights are there."""
    return {network.folder.name: network.folder for network in measured_networks if has_weights(network.folder)}


@pytest.fixture(scope="session")
def small_splits():
    return data_preparation.load_splits(train=3000, validation=1000)


@pytest.fixture(scope="session")
def trained(small_splits):
    """A small trained MLP with its hyperparameters and history."""
    h = mlp.MLPHyperparameters(hidden_sizes=(32,), epochs=3, batch_norm=True, dropout=0.1)
    model = mlp.build(h)
    return model, h, mlp.train(model, *small_splits[:2], h)


class Disk:
    """A separate file system, in a file, on which a power cut can be simulated.

    Attributes
    ----------
    folder : Path
        Where it is mounted.
    """

    def __init__(self, path):
        self._image, self.folder = path / "image", path / "disk"
        self.folder.mkdir()
        with open(self._image, "wb") as file:
            file.truncate(2**26)
        self._run("mkfs.ext4", "-q", "-F", self._image)
        self._mount()

    def cut_power(self):
        """Make the file system lose whatever has not reached the disk."""
        import fcntl

        handle = os.open(self.folder, os.O_RDONLY)
        fcntl.ioctl(handle, 0x8004587D, struct.pack("I", 2))  # EXT4_IOC_SHUTDOWN, without writing the journal
        os.close(handle)

    def start_again(self):
        """Mount what is on the disk; no file from before may still be open."""
        self.unmount()
        self._mount()

    def unmount(self):
        self._run("umount", self.folder)

    def _mount(self):
        self._run("mount", "-o", "loop", self._image, self.folder)

    def _run(self, *command):
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path):
    """A `Disk`; a test that needs one is skipped if none can be mounted, even in CI."""
    try:
        disk = Disk(tmp_path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield disk
    disk.unmount()


@pytest.fixture
def full_disk(monkeypatch, tmp_path):
    """A function that simulates a full disk: nothing can be saved in the folders that it is given.

    Meanwhile, the system's temporary folder is `tmp_path / "elsewhere"`.
    """
    folders = []

    def replace_unless_full(folder, contents):
        if any(Path(folder).is_relative_to(full) for full in folders):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_folder(folder, contents)

    monkeypatch.setattr("model_utils.saved_models.replace_folder", replace_unless_full)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    return folders.append


@pytest.fixture
def need():
    """A function that skips a test and names the missing package; in CI, which installs all, the test fails."""

    def need(*packages):
        for package in packages:
            if importlib.util.find_spec(package) is None:
                message = f"{package} is not installed: pip install -r experiments/requirements.txt"
                (pytest.fail if "CI" in os.environ else pytest.skip)(message)

    return need
