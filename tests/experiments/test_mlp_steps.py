"""The argument of question 2f: its final models and its search."""

import json
from dataclasses import asdict

import pytest
from optuna.distributions import CategoricalDistribution

from experiments import RESULTS, mlp_steps, spaces

pytestmark = pytest.mark.q2f


@pytest.mark.parametrize("step", mlp_steps.STEPS, ids=lambda step: step.study)
def test_the_final_models_follow_every_decision(step):
    """But for the size, which differs among them; and AdamW is Adam with the weight decay decided on later."""
    largest = [mlp_steps.FINALS["1024-1024-1024"]]
    for h in largest if step is mlp_steps.LARGE else mlp_steps.FINALS.values():
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
