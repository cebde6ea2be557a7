"""The argument of question 3: what it compares is comparable, and its final pairs follow from it."""

import json
import math
import statistics
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

import cnn
import mlp
from data_preparation import Split
from experiments import MODELS, RESULTS, cnn_steps, steps
from experiments.stored import read_rows
from model_utils.layer_table import layer_table
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
def test_the_networks_of_question_3b_keep_to_their_plans():
    for plan, factor in (("equal numbers", 1), ("doubled numbers", 2), ("halved numbers", 0.5)):
        for by_kernels in cnn_steps.CHANNELS[plan].values():
            for channels in by_kernels.values():
                for one, other in pairwise(channels):
                    assert abs(other - factor * one) <= math.ceil(factor), (plan, channels)


@pytest.mark.q3d
def test_the_final_pairs_follow_every_decision():
    order, init, gains, large = (step.choices[step.decided] for step in cnn_steps.STEPS if step.decided)
    winner = max(cnn_steps.RANKING.accuracies().items(), key=lambda item: statistics.mean(item[1]))[0]
    longer = cnn_steps.RANKING.choices[winner]
    assert order == {}, "as in the default"
    first, second, third, other = map(asdict, cnn_steps.COMPARED.values())
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
@pytest.mark.acceptance
def test_what_is_said_of_larger_networks_holds():
    gains = {what: gain / error for what, (gain, error) in cnn_steps.large_gains().items()}  # in standard errors
    assert gains["growing instead of equal numbers, small maps"] > 2
    assert 0 < gains["growing instead of equal numbers, full-size maps"] < 2
    assert abs(gains["medium instead of small maps, equal numbers"]) < 2
    assert gains["5 x 5 kernels in the first two layers"] < -2
    assert gains["5 x 5 kernels in all layers"] < -2
    assert gains["full-size maps"] > 2
    assert gains["full-size maps to 1 x 1"] > 2
    assert gains["full-size maps instead of more kernels, at equal cost"] > 2
    assert 0 < gains["the same, with equal numbers on the full-size maps"] < 2
    assert 0 < gains["more kernels on full-size maps"] < 2
    runs = cnn_steps.LARGE.runs()
    first, *larger = (
        statistics.mean(run["train_accuracy"] for run in runs[f"16-32-64-128-256, small maps{kernels}"])
        for kernels in ("", ", 5 x 5", ", 5 x 5, then 3 x 3")
    )
    assert max(larger) <= first  # they do not overfit


@pytest.mark.q3b
def test_networks_that_are_compared_at_equal_cost_or_size_have_it():
    step = cnn_steps.LARGE
    networks = {name: replace(step.base, **changes) for name, changes in step.choices.items()}
    costs = map(cnn_steps.pair_multiply_adds, networks.values())
    first, equal, medium, _, _, same_size, larger_end, *most = costs
    assert [equal, medium] == pytest.approx([first] * 2, rel=0.04)
    assert most == pytest.approx(most[:1] * 3, rel=0.04)
    assert min(most) > 10 * first
    assert same_size == pytest.approx(larger_end, rel=0.03)
    small, large = (
        sum(parameter.numel() for parameter in cnn.build(networks[f"16-32-64-128-256, {maps}"]).parameters())
        for maps in ("small maps", "full-size maps to 1 x 1")
    )
    assert small == large


@pytest.mark.q3d
@pytest.mark.acceptance
@pytest.mark.parametrize("label", cnn_steps.FINALS)
def test_a_final_pair_costs_what_its_layers_cost_in_ten_views(label):
    h = cnn_steps.FINALS[label]
    of_one_view = sum(row["multiply_adds"] for row in layer_table(cnn.build(h)) if not row["layer"].startswith("head"))
    sizes = (h.n_features, *cnn.CLASSIFIER.hidden_sizes, 10)
    expected = 10 * of_one_view + sum(n_in * n_out for n_in, n_out in pairwise(sizes))
    assert cnn_steps.pair_multiply_adds(h) == expected
    saved = MODELS / "cnn" / cnn.pair_name(h, cnn.in_step(cnn.CLASSIFIER, h)) / "model.json"
    assert json.loads(saved.read_text(encoding="utf-8"))["multiply_adds"] == expected


@pytest.mark.q3b
def test_the_longer_ranking_has_the_first_four_and_the_last_two_of_the_shorter_one():
    accuracies = cnn_steps.ARCHITECTURE.accuracies()
    ranking = sorted(accuracies, key=lambda name: -statistics.mean(accuracies[name]))
    assert set(cnn_steps.RANKING.choices) == {*ranking[:4], *ranking[-2:]}


@pytest.mark.q3b
@pytest.mark.acceptance
def test_what_is_said_of_the_three_rankings_holds():
    """3 x 3 kernels lead and halved numbers are last; after six epochs the network of question 3a is level."""
    for step in (cnn_steps.ARCHITECTURE, cnn_steps.REPEATED, cnn_steps.RANKING):
        accuracies = {name: step.accuracies()[name] for name in cnn_steps.RANKING.choices}
        ranking = sorted(accuracies, key=lambda name: -statistics.mean(accuracies[name]))
        assert all(name.endswith(", 3 x 3") for name in ranking[:3])
        assert all(name.startswith("halved") for name in ranking[-2:])
        best, network = (accuracies[name] for name in (ranking[0], cnn_steps.QUESTION_3A))
        lead = statistics.mean(best) - statistics.mean(network)
        assert (lead <= 2 * steps.standard_error(best, network)) == (step is not cnn_steps.RANKING)


@pytest.mark.q3b
@pytest.mark.acceptance
def test_on_small_maps_the_initial_weights_decide_whether_equal_or_growing_numbers_lead():
    equal = cnn_steps.architecture("equal numbers", "small maps", "3 x 3")
    for step, sign in ((cnn_steps.ARCHITECTURE, 1), (cnn_steps.RANKING, 1), (cnn_steps.REPEATED, -1)):
        accuracies = step.accuracies()
        assert sign * (statistics.mean(accuracies[equal]) - statistics.mean(accuracies[cnn_steps.QUESTION_3A])) > 0


@pytest.mark.q3c
@pytest.mark.acceptance
def test_the_initial_weights_were_trained_for_longer_at_their_best_rates():
    best = {
        f"{choice.removesuffix(', batch norm')}, rate {max(rates, key=lambda rate: statistics.mean(rates[rate])):g}"
        for choice, rates in cnn_steps.INIT.by_rate().items()
        if "batch norm" in choice
    }
    assert set(cnn_steps.INIT_LONGER.choices) == best


@pytest.mark.q3d
def test_the_smaller_final_pair_has_at_most_300_000_parameters():
    h = cnn_steps.FINALS["32-48-64-88-112"]
    n_backbone = sum(p.numel() for name, p in cnn.build(h).named_parameters() if not name.startswith("head"))
    assert n_backbone + mlp.build(cnn.CLASSIFIER, h.n_features).n_parameters <= 300_000


@pytest.mark.q3d
@pytest.mark.acceptance
def test_what_is_said_of_the_trainings_holds():
    """Training end to end is level with the best, MLPs with a linear layer, and the MLP for pixels is no better."""
    accuracies = cnn_steps.training_accuracies()
    for one, other in (
        (max(accuracies.values(), key=statistics.mean), accuracies["end to end"]),
        (accuracies["linear head, then the MLP on its features"], accuracies["linear head alone"]),
        (accuracies["linear head, then an MLP with one hidden layer"], accuracies["linear head alone"]),
        (accuracies["end to end, one hidden layer"], accuracies["end to end"]),
    ):
        assert abs(statistics.mean(one) - statistics.mean(other)) <= 2 * steps.standard_error(one, other)
    for_pixels = accuracies["end to end, 512-256 as in question 2f"]
    assert statistics.mean(for_pixels) < statistics.mean(accuracies["end to end"])


@pytest.mark.q3d
def test_a_final_pair_is_measured_and_saved_once(tmp_path, monkeypatch, small_splits):
    monkeypatch.setattr(cnn_steps, "MODELS", tmp_path)
    few = small_splits._replace(train=Split(*(part[:256] for part in small_splits.train)))
    h = replace(cnn_steps.RECIPE, channels=(4, 4, 4, 4, 4), n_features=8, epochs=1)
    monkeypatch.setattr(cnn_steps, "FINALS", {"small": h})
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
