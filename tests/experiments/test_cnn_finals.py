"""The final pairs of question 3: they follow from every decision, and are measured and saved once."""

import json
import statistics
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

import cnn
import mlp
from data_preparation import Split
from experiments import MODELS, RESULTS, cnn_finals, cnn_steps
from experiments.stored import read_rows
from model_utils.layer_table import layer_table
from model_utils.pair import Pair


@pytest.mark.q3d
def test_the_final_pairs_follow_every_decision():
    order, init, gains, large = (step.choices[step.decided] for step in cnn_steps.STEPS if step.decided)
    winner = max(cnn_steps.RANKING.accuracies().items(), key=lambda item: statistics.mean(item[1]))[0]
    longer = cnn_steps.RANKING.choices[winner]
    assert order == {}, "as in the default"
    first, second, third, other = map(asdict, cnn_finals.COMPARED.values())
    assert cnn_steps.ARCHITECTURE.choices[cnn_steps.QUESTION_3A].items() <= first.items()
    assert {k: longer[k] for k in ("kernel_sizes", "pool_sizes", "pool_strides")}.items() <= second.items()
    assert large.items() <= third.items()
    assert third == other | {"shift": 2, "erase": 12}
    for final in (first, second, other):
        assert (init | gains | {"end_to_end": True}).items() <= final.items()


@pytest.mark.q3d
@pytest.mark.acceptance
def test_the_largest_final_pair_is_the_better_one_on_validation_with_ten_views():
    means = read_rows(RESULTS / "study_cnn_final.csv").groupby("model")["validation"].mean()
    assert means["24-48-96-160-224"] > means["24-48-96-160-224, weaker augmentation"]


@pytest.mark.q3d
@pytest.mark.acceptance
@pytest.mark.parametrize("label", cnn_finals.FINALS)
def test_a_final_pair_costs_what_its_layers_cost_in_ten_views(label):
    h = cnn_finals.FINALS[label]
    of_one_view = sum(row["multiply_adds"] for row in layer_table(cnn.build(h)) if not row["layer"].startswith("head"))
    sizes = (h.n_features, *cnn.CLASSIFIER.hidden_sizes, 10)
    expected = 10 * of_one_view + sum(n_in * n_out for n_in, n_out in pairwise(sizes))
    assert cnn_steps.pair_multiply_adds(h) == expected
    saved = MODELS / "cnn" / cnn.pair_name(h, cnn.in_step(cnn.CLASSIFIER, h)) / "model.json"
    assert json.loads(saved.read_text(encoding="utf-8"))["multiply_adds"] == expected


@pytest.mark.q3d
def test_the_smaller_final_pair_has_at_most_300_000_parameters():
    h = cnn_finals.FINALS["32-48-64-88-112"]
    n_backbone = sum(p.numel() for name, p in cnn.build(h).named_parameters() if not name.startswith("head"))
    assert n_backbone + mlp.build(cnn.CLASSIFIER, h.n_features).n_parameters <= 300_000


@pytest.mark.q3d
def test_a_final_pair_is_measured_and_saved_once(tmp_path, monkeypatch, small_splits):
    monkeypatch.setattr(cnn_finals, "MODELS", tmp_path)
    few = small_splits._replace(train=Split(*(part[:256] for part in small_splits.train)))
    h = replace(cnn_steps.RECIPE, channels=(4, 4, 4, 4, 4), n_features=8, epochs=1)
    monkeypatch.setattr(cnn_finals, "FINALS", {"small": h})
    for seed, n_saved in ((1, 0), (0, 1)):
        backbone = cnn.build(replace(h, seed=seed))
        history = cnn.train(backbone, *few[:2], replace(h, seed=seed))
        accuracies = cnn_finals.finish_final(backbone, replace(h, seed=seed), history, few)
        folders = list(tmp_path.glob("cnn/*"))
        assert len(folders) == n_saved
    pair, saved = cnn.load(folders[0], "cpu")
    assert isinstance(pair, Pair)
    assert accuracies == {part: saved.metrics[part]["accuracy"] for part in ("validation", "test")}
    assert saved.description["split"] == {"train": 256, "validation": 1000, "test": "official", "seed": 0}
