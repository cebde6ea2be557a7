"""A study: whatever is killed, every trial is finished once, and nothing is lost."""

import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from experiments.study import Space, Study

pytestmark = pytest.mark.q2f

ROOT = Path(__file__).parents[2]
TPE = Space({"x": FloatDistribution(0.0, 1.0), "kind": CategoricalDistribution(("a", "b"))}, n_trials=4)
GRID = Space(
    {"x": CategoricalDistribution((1, 2, 3)), "kind": CategoricalDistribution(("a", "b"))}, n_trials=6, sampler="grid"
)


def run_all(study):
    while (taken := study.ask()) is not None:
        number, parameters = taken
        study.finish(number, float(parameters["x"]), {"reason": ""})


def parameters_of(study):
    return [(row["x"], row["kind"]) for row in study.rows()]


def test_study_finishes_as_many_trials_as_asked_for(tmp_path):
    study = Study(tmp_path, "test", TPE)
    assert study.progress() == (0, 0, None)
    run_all(study)
    assert study.progress()[:2] == (4, 0)
    assert study.progress()[2] == max(row["value"] for row in study.rows())
    assert Study(tmp_path, "test", TPE).ask() is None  # another worker finds nothing left
    more = Study(tmp_path, "test", TPE._replace(n_trials=5))
    run_all(more)
    assert len(more.rows()) == 5


def test_study_leaves_its_file_and_one_lock(tmp_path):
    run_all(Study(tmp_path, "test", TPE))
    assert {path.name for path in tmp_path.iterdir()} == {"test.db", "test.lock"}


def test_grid_is_every_combination_once(tmp_path):
    study = Study(tmp_path, "test", GRID)
    run_all(study)
    assert parameters_of(study) == [(x, kind) for x in (1, 2, 3) for kind in "ab"]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_suggestions_do_not_depend_on_interruptions(tmp_path, sampler):
    """Fourteen trials: after ten, TPE begins to learn from those before."""
    space = TPE._replace(n_trials=14, sampler=sampler)

    def run(name, cut_off=(), sign=1):
        study = Study(tmp_path / name, "test", space)
        while (taken := study.ask("worker")) is not None:
            number, parameters = taken
            if number in cut_off:
                study.abandon("worker")
            else:
                study.finish(number, sign * parameters["x"], {"reason": ""})
        return parameters_of(study)

    unbroken = run("unbroken")
    assert len(set(unbroken)) == 14
    assert run("broken", cut_off=(3, 7, 12)) == unbroken
    assert (run("other values", sign=-1) == unbroken) == (sampler == "random")


def test_random_trials_come_first_whatever_they_are_worth(tmp_path):
    space = TPE._replace(n_trials=8, n_random=5)

    def run(name, sign):
        study = Study(tmp_path / name, "test", space)
        while (taken := study.ask()) is not None:
            study.finish(taken[0], sign * taken[1]["x"])
        return [(trial.params["x"], trial.user_attrs["sampled"]) for trial in study.trials]

    up, down = run("up", 1), run("down", -1)
    assert [sampled for _, sampled in up] == ["random"] * 5 + ["tpe"] * 3
    assert up[:5] == down[:5]
    assert up[5:] != down[5:]


@pytest.mark.parametrize("space", [TPE, GRID])
def test_trial_that_is_cut_off_again_at_once_is_not_lost(tmp_path, space):
    study = Study(tmp_path, "test", space)
    _, parameters = study.ask("1")
    study.abandon("1")
    again = study.ask("1")
    study.abandon("1")
    assert again[1] == Study(tmp_path, "test", space).ask()[1] == parameters


def test_trial_that_is_cut_off_before_it_has_its_parameters_is_not_lost(tmp_path):
    unbroken = Study(tmp_path / "unbroken", "test", TPE).ask()[1]
    study = Study(tmp_path / "broken", "test", TPE)
    study._create()
    study._study.ask()  # taken by a worker that dies before any parameter is noted
    assert study.ask()[1] == unbroken
    assert study.progress()[:2] == (0, 1)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("name", ["TPE", "GRID"])
def test_trial_of_a_dead_worker_is_tried_again_once(tmp_path, name):
    space = {"TPE": TPE, "GRID": GRID}[name]
    program = (
        "import os, pickle, signal, sys\n"
        "from experiments.study import Study\n"
        "study = Study(sys.argv[1], 'test', pickle.loads(sys.stdin.buffer.read())); study.ask(); study.ask()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        command = [sys.executable, "-c", program, str(tmp_path)]
        done = subprocess.run(command, input=pickle.dumps(space), cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
    study = Study(tmp_path, "test", space)
    cut_off = {(trial.params["x"], trial.params["kind"]) for trial in study.trials}
    assert len(cut_off) == 2, "the second worker took what the first one had left"
    living = Study(tmp_path, "test", space)
    number, _ = living.ask()  # of a worker that lives, so it stays his
    run_all(study)
    assert study.progress()[:2] == (space.n_trials - 1, 1)
    living.finish(number, 0.5)
    finished = Counter(parameters_of(study))
    assert finished.total() == space.n_trials
    assert all(finished[parameters] == 1 for parameters in cut_off)


def test_a_power_cut_takes_back_no_trial(disk):
    program = (
        "import sys\n"
        "from tests.experiments.test_study import TPE, Study, run_all\n"
        "study = Study(sys.argv[1], 'test', TPE)\n"
        "if len(sys.argv) > 2: run_all(study)\n"
        "print(study.progress()[:2], flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(disk.folder)]
    with subprocess.Popen(
        [*command, "run"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "(4, 0)\n"
        disk.cut_power()
        process.kill()
    disk.start_again()
    done = subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, check=False)
    assert done.stdout == "(4, 0)\n", done.stderr


def test_study_whose_making_was_cut_off_is_made_again(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    study = Study(tmp_path, "test", TPE)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            study.ask()
    run_all(study)
    assert study.progress()[0] == 4


def test_workers_of_one_owner_are_abandoned_one_by_one(tmp_path):
    study = Study(tmp_path, "test", TPE)
    first, second = study.ask("1"), study.ask("2")
    study.abandon("1")
    study.finish(second[0], 1.0)
    assert study.ask("3")[1] == first[1]


def test_bad_trials_are_pruned(tmp_path):
    study = Study(tmp_path, "test", TPE._replace(pruner=optuna.pruners.MedianPruner(2, 0)))
    for value in (0.8, 0.9, 0.1):
        number, _ = study.ask()
        assert study.report(number, 1, value) == (value == 0.1)
        study.finish(number, value, pruned=value == 0.1)
    assert sorted((row["value"], row["state"]) for row in study.rows())[0] == (0.1, "pruned")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "cmaes"}, "sampler: expected one of tpe, random, grid, got 'cmaes'"),
        ({"n_trials": 0}, "n_trials: expected an integer of at least 1, got 0"),
        ({"distributions": {}}, "expected at least one parameter"),
        ({"distributions": {"x": (0, 1)}}, r"expected a distribution for x, got \(0, 1\)"),
        ({"sampler": "grid"}, "a grid needs choices for x"),
        ({**GRID._asdict(), "n_trials": 7}, "n_trials: expected at most 6, the points of the grid, got 7"),
    ],
)
def test_malformed_space_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        Study(tmp_path, "test", TPE._replace(**changes))


def test_study_begun_with_other_settings_is_refused(tmp_path):
    Study(tmp_path, "test", TPE._replace(seed=5)).progress()  # who only looks begins nothing
    Study(tmp_path, "test", TPE).ask()
    for changes in ({"seed": 1}, {"shared": {"train_size": 5}}, {"distributions": {"x": FloatDistribution(0, 2)}}):
        with pytest.raises(ValueError, match=r"test\.db: begun with other settings"):
            Study(tmp_path, "test", TPE._replace(**changes))


# Why this is not left to Optuna.


def test_optunas_heartbeat_takes_a_trial_that_died_before_its_first_beat_for_alive(tmp_path):
    """It would run for ever; hence a lock for each trial."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that its heartbeat is experimental
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'test.db'}", heartbeat_interval=1, grace_period=1)
        study = optuna.create_study(storage=storage)
        study.ask(TPE.distributions)
        optuna.storages.fail_stale_trials(study)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.RUNNING]


def test_optunas_count_of_trials_lets_a_finished_study_grow():
    """Hence the number of trials is looked up under the lock under which one is taken."""
    study = optuna.create_study()
    for _ in range(2):
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), callbacks=[optuna.study.MaxTrialsCallback(4)])
    assert len(study.trials) == 5
