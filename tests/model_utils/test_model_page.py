"""The pages of saved models: their commands, their code, their checksums and their pictures are those of the models."""

import hashlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image

import cnn
import mlp
from data_preparation import N_OFFICIAL_TRAIN
from experiments import MODELS
from model_utils import backbones, command_line
from model_utils.model_page import CONFUSION, CURVES, PAGE
from model_utils.saved_models import WEIGHTS, load_facts

pytestmark = pytest.mark.q4

FOLDERS = sorted(path.parent for path in MODELS.glob("*/*/model.json"))
KEPT = [folder for folder in FOLDERS if (folder / WEIGHTS).exists()]


def page_of(folder):
    return (folder / PAGE).read_text(encoding="utf-8")


def block(page, language=""):
    """The first block of code in a language."""
    return re.search(rf"^```{language}\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name.split("_mlp")[0])
def test_the_command_on_the_page_trains_such_a_model(folder):
    facts = load_facts(folder)
    _, program, *words = shlex.split(re.search(r"^python .*$", page_of(folder), re.MULTILINE)[0])
    if facts.description["kind"] == "mlp":
        args = mlp._parser().parse_args(words)
        h = command_line.read_options(args, mlp.MLPHyperparameters())
        assert h == mlp.MLPHyperparameters(**facts.description["hyperparameters"])
        name = h.name
    else:
        args = cnn._parser().parse_args(words)
        h = command_line.read_backbone_options(args, backbones.BACKBONES)
        mlp_h = command_line.read_options(args, cnn.CLASSIFIER, "mlp_")
        mlp_h = cnn.in_step(mlp_h, h) if h.end_to_end else mlp_h
        assert h == backbones.hyperparameters_from_json(facts.description["hyperparameters"])
        assert mlp_h == mlp.ClassifierHyperparameters(**facts.description["mlp_hyperparameters"])
        name = cnn.pair_name(h, mlp_h)
    assert (program, name) == ("mlp.py" if facts.description["kind"] == "mlp" else "cnn.py", folder.name)
    assert command_line.read_split(args) == facts.description["split"]


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_code_on_the_page_loads_a_model_that_is_as_good_as_the_page_says(kind, official):
    """The smallest of its kind; a thousand test images are enough to tell it from another model."""
    folder = min((f for f in KEPT if f.parent.name == kind), key=lambda f: (f / WEIGHTS).stat().st_size)
    images, labels = (part[N_OFFICIAL_TRAIN : N_OFFICIAL_TRAIN + 1000] for part in official)
    names = {"images": images, "folder": folder}
    exec(block(page_of(folder), "python"), names)
    answers = names["logits" if kind == "mlp" else "probabilities"]
    stated = float(re.search(r"Test accuracy \*\*(.*)\*\*", page_of(folder))[1])
    assert np.mean(answers.argmax(axis=1) == labels) == pytest.approx(stated, abs=0.02)


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name.split("_mlp")[0])
def test_the_page_has_the_checksum_and_the_pictures(folder):
    page = page_of(folder)
    assert hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() in page
    for name in (CURVES, CONFUSION):
        assert f"]({name})" in page
        with Image.open(folder / name) as picture:
            assert picture.width == 800


@pytest.mark.parametrize(("kind", "main"), [("mlp", mlp.main), ("cnn", cnn.main)])
def test_inspect_prints_what_the_page_says(kind, main, capsys):
    folder = next(f for f in KEPT if f.parent.name == kind)
    assert main(["inspect", str(folder)]) == 0
    title, text = capsys.readouterr().out.split("\n\n", 1)
    assert page_of(folder).startswith(f"{title}\n\n")
    assert page_of(folder).endswith(text)
