"""The report and README: what they say is what was measured, and what they point to exists."""

import re
from pathlib import Path

import pytest
from sklearn.metrics import precision_recall_fscore_support

from data_preparation import CLASS_NAMES, N_OFFICIAL_TRAIN
from experiments import documents, report

pytestmark = pytest.mark.q4

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORT = (ROOT / "REPORT.md").read_text(encoding="utf-8")


@pytest.mark.acceptance
def test_readme_shows_the_stored_results():
    assert f"<!-- results -->\n{documents.results_table()}\n<!-- /results -->" in README, "run make report"
    assert f"<!-- headline -->\n{documents.headline()}\n<!-- /headline -->" in README, "run make report"


@pytest.mark.acceptance
def test_report_is_what_the_stored_results_make_it():
    assert report.build() == REPORT, "run make report"


def test_readme_fits_on_a_screen_or_two():
    assert len(README.splitlines()) <= 120


def test_readme_installs_the_versions_that_the_project_requires():
    required = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert set(re.findall(r"\b(?:torch|torchvision)==[\d.]+", README)) == {
        line for line in required if line.startswith("torch")
    }


@pytest.mark.acceptance
def test_readme_marks_what_is_best_on_validation(measured_networks):
    table = documents.results_table()
    accuracies = {}
    for network in measured_networks:
        if network.description["hyperparameters"].get("backbone", "cnn5") == "cnn5":
            accuracies.setdefault(network.description["kind"], {})[network.title] = network.metrics["validation"][
                "accuracy"
            ]
    best = {max(of_kind, key=of_kind.get) for of_kind in accuracies.values()}
    assert {name.removesuffix(" + MLP") for name in re.findall(r"\*\*(.*)\*\* \(chosen\)", table)} == best
    assert len(best) == 2


@pytest.mark.acceptance
def test_metrics_per_class_are_those_of_the_stored_predictions(measured_networks, official):
    """scikit-learn is the outside truth."""
    labels = official.labels[N_OFFICIAL_TRAIN:]
    for network in measured_networks:
        expected = precision_recall_fscore_support(labels, network.predictions)[:3]
        per_class = network.metrics["test"]["per_class"]
        for k, name in enumerate(CLASS_NAMES):
            scores = [per_class[name][score] for score in ("precision", "recall", "f1")]
            assert scores == pytest.approx([of_classes[k] for of_classes in expected], abs=0.002)


def test_reports_page_has_its_figures_in_it():
    page = report.to_html(REPORT)
    n_figures = len(re.findall(r"!\[", REPORT))
    assert len(re.findall(r'<img[^>]*src="data:image/png;base64,', page)) == n_figures > 5
    assert "<table>" in page


def test_every_figure_of_the_report_is_drawn():
    drawn = {f"results/figures/{name}.png" for name in report.draw_figures()}
    assert set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", REPORT)) == drawn


@pytest.mark.parametrize("document", ["README.md", "REPORT.md", "CONTRIBUTING.md"])
def test_documents_point_to_what_exists(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:]+)(#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target
        if anchor and target.endswith(".md"):
            titles = re.findall(r"^#+ (.*)", (ROOT / target).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor[1:] in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], anchor
        elif anchor:
            assert f"## {anchor[1:].replace('-', ' ')}" in (ROOT / target).read_text(encoding="utf-8").replace("-", " ")


def test_readmes_marks_are_those_of_the_tests(pytestconfig):
    declared = {line.split(":")[0] for line in pytestconfig.getini("markers")}
    asked_for = set(re.findall(r"`pytest -m (\w+)`", README))
    assert len(asked_for) == 12
    assert asked_for <= declared


def test_results_are_written_between_their_marks_only(tmp_path):
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- models -->\nold\nold\n<!-- /models -->\nafter\n")
    documents.write_between_marks(document, "models", "new")
    assert document.read_text() == "before\n<!-- models -->\nnew\n<!-- /models -->\nafter\n"
    with pytest.raises(ValueError, match=r"<!-- speed -->.* found 0"):
        documents.write_between_marks(document, "speed", "new")
    assert "after" in document.read_text()
