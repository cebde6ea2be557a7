"""The argument of question 2f: what is stored is what is declared, and every decision follows from it."""

import json
import math
import statistics
from dataclasses import asdict

import pytest
from optuna.distributions import CategoricalDistribution

from experiments import RESULTS, spaces, steps, variants
from experiments.stored import read_rows

pytestmark = pytest.mark.q2f


@pytest.mark.acceptance
@pytest.mark.parametrize("name", [f"mlp_{name}" for name in (*steps.STEPS, "best", "final")])
def test_stored_runs_were_made_as_declared(name):
    experiment = spaces.STUDIES[name]
    stored = json.loads((RESULTS / f"study_{name}.json").read_text(encoding="utf-8"))
    assert stored["base"] == json.loads(json.dumps(experiment.base.changed()))
    assert stored["train_size"] == experiment.train_size == 48_000
    rows = read_rows(RESULTS / f"study_{name}.csv")
    assert len(rows) == experiment.space.n_trials
    changes = list(map(experiment.changes, experiment.space.grid()))
    assert stored["changes"] == json.loads(json.dumps(changes))


@pytest.mark.acceptance
@pytest.mark.parametrize("name", steps.STEPS)
def test_each_decision_is_the_best_or_within_two_standard_errors_of_it(name):
    step = steps.STEPS[name]
    runs = [variants.best_accuracies(runs) for runs in steps.at_best_rates(name).values()]
    accuracies = dict(zip(step.choices, runs, strict=True))
    best = max(accuracies.values(), key=statistics.mean)
    decided = accuracies[step.decided]
    standard_error = math.hypot(statistics.stdev(best), statistics.stdev(decided)) / math.sqrt(len(decided))
    assert statistics.mean(best) - statistics.mean(decided) <= 2 * standard_error


TUNED = [name for name, step in steps.STEPS.items() if step.rates and len(step.rates[step.decided]) > 2]


@pytest.mark.acceptance
@pytest.mark.parametrize("name", TUNED)
def test_the_best_rate_of_a_decision_that_was_tried_at_several_lies_between_two_others(name):
    accuracies = steps.by_rate(name)[steps.STEPS[name].decided]
    best = max(accuracies, key=lambda rate: statistics.mean(accuracies[rate]))
    assert min(accuracies) < best < max(accuracies)


@pytest.mark.parametrize("name", steps.STEPS)
def test_the_final_models_follow_every_decision(name):
    """But for the size, which differs among them; and AdamW is Adam with the weight decay decided on later."""
    step = steps.STEPS[name]
    for h in steps.FINALS.values():
        final = asdict(h) | {"optimizer": h.optimizer.removesuffix("w")}
        decided = {field: value for field, value in step.choices[step.decided].items() if field != "hidden_sizes"}
        assert decided.items() <= final.items()


@pytest.mark.acceptance
def test_the_search_was_made_as_declared_and_its_importances_are_of_random_trials():
    experiment, rows = spaces.STUDIES["mlp_search"], spaces.stored_trials("mlp_search")
    stored = json.loads((RESULTS / "study_mlp_search.json").read_text(encoding="utf-8"))
    assert stored["base"] == experiment.base.changed()
    assert stored["n_random"] == experiment.space.n_random == (rows["sampled"] == "random").sum()
    assert len(rows) == experiment.space.n_trials
    # No choice has taken over: each of them was drawn several times.
    for name, distribution in experiment.space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            counts = rows[rows["sampled"] == "random"][name].value_counts()
            assert counts.min() >= 3
            assert len(counts) == len(distribution.choices), name
    importances = spaces.importances("mlp_search")
    assert importances.keys() == experiment.space.distributions.keys()
    assert sum(importances.values()) == pytest.approx(1)
