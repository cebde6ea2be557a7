"""The argument of question 3: what it compares is comparable, and what is said of it holds."""

import math
import statistics
from dataclasses import replace
from itertools import pairwise

import pytest

import cnn
from experiments import cnn_steps, steps
from model_utils.layer_table import layer_table


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
    assert gains["growing instead of equal numbers, medium maps"] < -2
    assert abs(gains["medium instead of small maps, equal numbers"]) < 2
    assert gains["medium instead of small maps, growing numbers"] < -2
    assert gains["16-32-64-128-256 instead of equal numbers on medium maps"] > 2
    assert gains["5 x 5 kernels in the first two layers"] < -2
    assert gains["5 x 5 kernels in all layers"] < -2
    assert gains["full-size maps"] > 2
    assert gains["full-size maps to 1 x 1"] > 2
    assert gains["full-size maps instead of more kernels, at equal cost"] > 2
    assert 0 < gains["full-size maps with equal numbers instead of more kernels, at equal cost"] < 2
    assert 0 < gains["more kernels on full-size maps"] < 2
    runs = cnn_steps.LARGE.runs()
    first, *larger = (
        statistics.mean(run["train_accuracy"] for run in runs[f"16-32-64-128-256, small maps{kernels}"])
        for kernels in ("", ", 5 x 5", ", 5 x 5, then 3 x 3")
    )
    assert max(larger) <= first  # they do not overfit


@pytest.mark.q3b
@pytest.mark.acceptance
def test_augmentation_changes_the_ranking_of_two_networks_of_equal_cost():
    growing, equal = cnn_steps.UNAUGMENTED.choices
    plain, augmented = cnn_steps.UNAUGMENTED.accuracies(), cnn_steps.LARGE.accuracies()
    assert statistics.mean(plain[equal]) > statistics.mean(plain[growing])
    gain, error = steps.gain(plain[growing], augmented[growing])
    other, error_of_other = steps.gain(plain[equal], augmented[equal])
    assert gain > 2 * error
    assert other < 0
    assert gain - other > 2 * math.hypot(error, error_of_other)


@pytest.mark.q3b
def test_networks_that_are_compared_at_equal_cost_or_size_have_it():
    step = cnn_steps.LARGE
    networks = {name: replace(step.base, **changes) for name, changes in step.choices.items()}
    costs = map(cnn_steps.pair_multiply_adds, networks.values())
    first, equal, equal_medium, growing_medium, _, _, same_size, larger_end, *most = costs
    assert [equal, equal_medium, growing_medium] == pytest.approx([first] * 3, rel=0.04)
    assert most == pytest.approx(most[:1] * 3, rel=0.04)
    assert min(most) > 10 * first
    assert same_size == pytest.approx(larger_end, rel=0.03)
    small, large = (
        sum(parameter.numel() for parameter in cnn.build(networks[f"16-32-64-128-256, {maps}"]).parameters())
        for maps in ("small maps", "full-size maps to 1 x 1")
    )
    assert small == large


@pytest.mark.q3b
def test_the_longer_ranking_has_the_first_four_and_the_last_two_of_the_shorter_one():
    accuracies = cnn_steps.ARCHITECTURE.accuracies()
    ranking = sorted(accuracies, key=lambda name: -statistics.mean(accuracies[name]))
    assert set(cnn_steps.RANKING.choices) == {*ranking[:4], *ranking[-2:]}
    of_best, of_second, *_, of_fifth = (accuracies[name] for name in ranking[:5])
    for better, is_clear in ((of_best, False), (of_second, True)):
        gain, error = steps.gain(of_fifth, better)
        assert (gain > 2 * error) == is_clear


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


@pytest.mark.q3c
@pytest.mark.acceptance
def test_the_initial_weights_were_trained_for_longer_at_their_best_rates():
    best = {
        f"{choice.removesuffix(', batch norm')}, rate {max(rates, key=lambda rate: statistics.mean(rates[rate])):g}"
        for choice, rates in cnn_steps.INIT.by_rate().items()
        if "batch norm" in choice
    }
    assert set(cnn_steps.INIT_LONGER.choices) == best


@pytest.mark.q3c
@pytest.mark.acceptance
def test_what_is_said_of_the_rates_of_initial_weights_holds():
    """Where the best rate is at an edge, the curve is flat there; and He weights do worse at the rate of all steps."""
    by_rate = cnn_steps.INIT.by_rate()
    means = {choice: [statistics.mean(runs) for runs in rates.values()] for choice, rates in by_rate.items()}
    edges = {choice: values for choice, values in means.items() if max(values) in (values[0], values[-1])}
    assert edges
    for values in edges.values():
        inner = values[1] if max(values) == values[0] else values[-2]
        assert max(values) - inner < 0.001
    rate = cnn_steps.TRAINING_BASE.learning_rate
    one, other = (by_rate[f"{init}, batch norm"][rate] for init in ("random", "He"))
    assert statistics.mean(one) - statistics.mean(other) > 2 * steps.standard_error(one, other)


@pytest.mark.q3b
@pytest.mark.acceptance
def test_the_number_format_of_the_convolutions_makes_no_clear_difference():
    float32 = cnn_steps.ORDER.accuracies()[cnn_steps.ORDER.decided]
    bfloat16 = cnn_steps.INIT.by_rate()["random, batch norm"][cnn_steps.ORDER.base.learning_rate]
    difference = abs(statistics.mean(float32) - statistics.mean(bfloat16))
    assert difference < min(map(statistics.stdev, (float32, bfloat16)))


@pytest.mark.q3d
@pytest.mark.acceptance
def test_what_is_said_of_the_trainings_holds():
    """Training end to end is level with the best, MLPs with a linear layer; the MLP of 2f and two stages are worse."""
    accuracies = cnn_steps.training_accuracies()
    for one, other in (
        (max(accuracies.values(), key=statistics.mean), accuracies["end to end"]),
        (accuracies["linear head, then the MLP on its features"], accuracies["linear head alone"]),
        (accuracies["linear head, then an MLP with one hidden layer"], accuracies["linear head alone"]),
        (accuracies["end to end, one hidden layer"], accuracies["end to end"]),
        (accuracies["end to end, MLP rate 0.003"], accuracies["end to end"]),
        (accuracies["end to end, MLP rate 0.03"], accuracies["end to end"]),
    ):
        assert abs(statistics.mean(one) - statistics.mean(other)) <= 2 * steps.standard_error(one, other)
    best = max(accuracies.values(), key=statistics.mean)
    for way in ("end to end, 512-256 as in question 2f", "end to end after a linear head"):
        for other, is_behind in ((best, True), (accuracies["end to end"], False)):
            gain, error = steps.gain(accuracies[way], other)
            assert (gain > 2 * error) == is_behind, way
