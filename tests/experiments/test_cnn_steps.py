"""The argument of question 3: what it compares is comparable, and its final pairs follow from it."""

import math
import re
import statistics
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

import cnn
import mlp
from data_preparation import Split
from experiments import RESULTS, cnn_steps, steps
from experiments.stored import read_rows
from model_utils.layer_table import layer_table, multiply_adds
from model_utils.pair import Pair


@pytest.mark.q3b
def test_the_networks_of_question_3b_cost_the_same():
    def cost(h):
        return sum(row["multiply_adds"] for row in layer_table(cnn.build(h)))

    step = cnn_steps.ARCHITECTURE
    first = cost(step.base)
    costs = {name: cost(replace(step.base, **changes)) / first for name, changes in step.choices.items()}
    assert len(costs) == 18
    assert 0.96 <= min(costs.values()) <= max(costs.values()) <= 1.04
    assert cnn_steps.FIRST.channels == (16, 32, 64, 128, 256)


@pytest.mark.q3b
@pytest.mark.acceptance
def test_the_longer_ranking_names_every_network_that_overtakes_another():
    rows = read_rows(RESULTS / "study_cnn_ranking.csv").groupby("setting")["value"].mean()
    before = read_rows(RESULTS / "study_cnn_architecture.csv").groupby("setting")["value"].mean()
    expected = {(a, b) for a in rows.index for b in rows.index if rows[a] > rows[b] and before[a] < before[b]}
    told = re.findall(r"except that (.*?)\.", cnn_steps.describe_ranking())
    assert {tuple(change.split(" overtakes ")) for change in ";".join(told).split("; ") if change} == expected


@pytest.mark.q3b
def test_the_networks_of_question_3b_keep_to_their_plans():
    for plan, factor in (("equal numbers", 1), ("doubled numbers", 2), ("halved numbers", 0.5)):
        for by_kernels in cnn_steps.CHANNELS[plan].values():
            for channels in by_kernels.values():
                for one, other in pairwise(channels):
                    assert abs(other - factor * one) <= math.ceil(factor), (plan, channels)


@pytest.mark.q3d
def test_the_final_pairs_follow_every_decision():
    network, longer, _, init, gains, large, augmented = (step.choices[step.decided] for step in cnn_steps.STEPS)
    first, second, third = map(asdict, cnn_steps.FINALS.values())
    assert network.items() <= first.items()
    assert {k: longer[k] for k in ("kernel_sizes", "pool_sizes", "pool_strides")}.items() <= second.items()
    assert (large | augmented).items() <= third.items()
    for final in (first, second, third):
        assert (init | {"end_to_end": True, "flip": True, "epochs": gains["epochs"]}).items() <= final.items()
        assert final["shift"] >= gains["shift"]
        assert final["erase"] >= gains["erase"]


@pytest.mark.q3b
@pytest.mark.acceptance
def test_what_is_said_of_larger_maps_holds():
    """They lose where the number of kernels doubles, and only there by more than two standard errors."""
    accuracies = cnn_steps.ARCHITECTURE.accuracies()
    small, large = cnn_steps.POOLINGS
    for plan in cnn_steps.CHANNELS:
        for kernels in cnn_steps.KERNELS:
            one, other = (accuracies[cnn_steps.architecture(plan, maps, kernels)] for maps in (small, large))
            gain = statistics.mean(other) - statistics.mean(one)
            assert (gain < -2 * steps.standard_error(one, other)) == (plan == "doubled numbers"), (plan, kernels)


@pytest.mark.q3b
def test_the_larger_networks_cost_the_same():
    step = cnn_steps.LARGE
    costs = [multiply_adds(cnn.build(replace(step.base, **changes))) for changes in step.choices.values()]
    first, second, _, one, other = costs
    assert first == pytest.approx(second, rel=0.04)
    assert one == pytest.approx(other, rel=0.04)
    assert min(one, other) > 10 * first


@pytest.mark.q3b
def test_the_longer_ranking_has_the_first_four_and_the_last_two_of_the_shorter_one():
    accuracies = cnn_steps.ARCHITECTURE.accuracies()
    ranking = sorted(accuracies, key=lambda name: -statistics.mean(accuracies[name]))
    assert set(cnn_steps.RANKING.choices) == {*ranking[:4], *ranking[-2:]}


@pytest.mark.q3c
@pytest.mark.acceptance
def test_the_initial_weights_that_were_trained_for_longer_were_the_best_before():
    by_rate = {
        f"{choice.removesuffix(', batch norm')}, rate {rate:g}": (rate, statistics.mean(accuracies))
        for choice, rates in cnn_steps.INIT.by_rate().items()
        for rate, accuracies in rates.items()
        if "batch norm" in choice
    }
    lowest = min(rate for rate, _ in by_rate.values())
    best = max(by_rate, key=lambda name: by_rate[name][1])
    best_at_lowest = max((name for name in by_rate if by_rate[name][0] == lowest), key=lambda name: by_rate[name][1])
    assert set(cnn_steps.INIT_LONGER.choices) == {best, best_at_lowest}


@pytest.mark.q3d
def test_the_smaller_final_pair_has_at_most_300_000_parameters():
    h = cnn_steps.FINALS["32-48-64-88-112"]
    n_backbone = sum(p.numel() for name, p in cnn.build(h).named_parameters() if not name.startswith("head"))
    assert n_backbone + mlp.build(cnn.CLASSIFIER, h.n_features).n_parameters <= 300_000


@pytest.mark.q3d
@pytest.mark.acceptance
def test_what_is_said_of_the_trainings_holds():
    """Training end to end is no worse than the best, and MLPs read features about as well as a linear layer."""
    accuracies = cnn_steps.training_accuracies()
    for one, other in (
        (max(accuracies.values(), key=statistics.mean), accuracies["end to end"]),
        (accuracies["linear head, then the MLP on its features"], accuracies["linear head alone"]),
        (accuracies["linear head, then an MLP with one hidden layer"], accuracies["linear head alone"]),
    ):
        assert abs(statistics.mean(one) - statistics.mean(other)) <= 2 * steps.standard_error(one, other)


@pytest.mark.q3d
def test_a_final_pair_is_measured_and_saved_once(tmp_path, monkeypatch, small_splits):
    monkeypatch.setattr(cnn_steps, "MODELS", tmp_path)
    few = small_splits._replace(train=Split(*(part[:256] for part in small_splits.train)))
    h = replace(cnn_steps.RECIPE, channels=(4, 4, 4, 4, 4), n_features=8, epochs=1)
    for seed, n_saved in ((1, 0), (0, 1)):
        backbone = cnn.build(replace(h, seed=seed))
        history = cnn.train(backbone, *few[:2], replace(h, seed=seed))
        accuracies = cnn_steps.finish_final(backbone, replace(h, seed=seed), history, few)
        folders = list(tmp_path.glob("cnn/*"))
        assert len(folders) == n_saved
    pair, saved = cnn.load(folders[0], "cpu")
    assert isinstance(pair, Pair)
    assert accuracies == {part: saved.metrics[part]["accuracy"] for part in ("validation", "test")}
    assert saved.description["split"] == {"train": 256, "validation": 1000, "test": "official", "seed": 0}
