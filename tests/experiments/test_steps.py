"""The argument of question 2f: what is stored is what is declared, and every decision follows from it."""

import json
import math
import statistics
from dataclasses import asdict

import pytest

from experiments import RESULTS, spaces, steps, variants
from experiments.stored import read_rows

pytestmark = pytest.mark.q2f


@pytest.mark.acceptance
@pytest.mark.parametrize("name", [f"mlp_{name}" for name in (*steps.STEPS, "final")])
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


@pytest.mark.parametrize("name", steps.STEPS)
def test_the_final_models_follow_every_decision(name):
    """But for the size, which differs among them; and AdamW is Adam with the weight decay decided on later."""
    step = steps.STEPS[name]
    for h in steps.FINALS.values():
        final = asdict(h) | {"optimizer": h.optimizer.removesuffix("w")}
        decided = {field: value for field, value in step.choices[step.decided].items() if field != "hidden_sizes"}
        assert decided.items() <= final.items()
