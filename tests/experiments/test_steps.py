"""The arguments of questions 2f and 3: what is stored is what is declared, and every decision follows from it."""

import json
import statistics

import pytest

from experiments import RESULTS, cnn_steps, mlp_steps, spaces, steps
from experiments.stored import read_rows

pytestmark = [pytest.mark.q2f, pytest.mark.acceptance]

STEPS = {step.study: step for step in (*mlp_steps.STEPS, *cnn_steps.STEPS, *cnn_steps.ASIDE)}
GRIDS = [name for name, experiment in spaces.STUDIES.items() if experiment.space.sampler == "grid"]


@pytest.mark.parametrize("name", GRIDS)
def test_stored_runs_were_made_as_declared(name):
    experiment = spaces.STUDIES[name]
    stored = json.loads((RESULTS / f"study_{name}.json").read_text(encoding="utf-8"))
    assert stored["base"] == json.loads(json.dumps(experiment.base.changed()))
    assert stored["train_size"] == experiment.train_size
    rows = read_rows(RESULTS / f"study_{name}.csv")
    assert len(rows) == experiment.space.n_trials
    changes = list(map(experiment.changes, experiment.space.grid()))
    assert stored["changes"] == json.loads(json.dumps(changes))


@pytest.mark.parametrize("name", [name for name, step in STEPS.items() if step.decided])
def test_each_decision_is_the_best_or_within_two_standard_errors_of_it(name):
    accuracies = STEPS[name].accuracies()
    best = max(accuracies.values(), key=statistics.mean)
    decided = accuracies[STEPS[name].decided]
    if len(decided) == 1:
        assert decided == best
    else:
        assert statistics.mean(best) - statistics.mean(decided) <= 2 * steps.standard_error(best, decided)


TUNED = [name for name, step in STEPS.items() if step.decided and step.rates and len(step.rates[step.decided]) > 2]


@pytest.mark.parametrize("name", TUNED)
def test_the_best_rate_of_a_decision_that_was_tried_at_several_lies_between_two_others(name):
    accuracies = STEPS[name].by_rate()[STEPS[name].decided]
    best = max(accuracies, key=lambda rate: statistics.mean(accuracies[rate]))
    assert min(accuracies) < best < max(accuracies)


def test_describing_runs_tells_a_difference_from_noise():
    def runs(*accuracies):
        return [{"value": accuracy, "train_accuracy": accuracy} for accuracy in accuracies]

    table = steps.runs_table({"a": runs(0.90, 0.92, 0.94), "b": runs(0.90, 0.91, 0.92)})
    assert "| a       | 0.9200 ± 0.0200          | 3 |" in table
    accuracies = {"a": [0.90, 0.92, 0.94], "b": [0.90, 0.91, 0.92], "c": [0.70, 0.71, 0.72]}
    text = steps.compare(accuracies, with_lost=False)
    assert text == "Best: **a**. Within two standard errors of it: b."
    compared = steps.compare({"a": [0.90, 0.92, 0.94], "c": [0.70, 0.71, 0.72]})
    assert compared == "Best: **a**, by more than two standard errors. Worse than the best: c by 0.2100."
    assert "±" not in steps.runs_table({"a": runs(0.9), "b": runs(0.8)}), "one run tells nothing of the noise"
    assert steps.compare({"a": [0.9], "b": [0.8]}) == ""
