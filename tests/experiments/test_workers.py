"""Studies and their workers: failures that are the trial's and failures that are not, and processes that are killed."""

import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError

import cnn
import mlp
from data_preparation import Split
from experiments import __main__ as command_line
from experiments import spaces, workers
from experiments.stored import read_rows
from experiments.study import Space, Study

pytestmark = pytest.mark.q2f

ROOT = Path(__file__).parents[2]
TPE = Space({"x": FloatDistribution(0.0, 1.0)}, n_trials=4)


def test_study_whose_choices_stand_for_something_else_is_refused(tmp_path, monkeypatch):
    workers.open_study("mlp_optimizer", tmp_path)[1].ask()
    others = spaces.STUDIES["mlp_optimizer"]._replace(changes=lambda parameters: {"epochs": 7})
    monkeypatch.setitem(spaces.STUDIES, "mlp_optimizer", others)
    with pytest.raises(ValueError, match=r"begun with other settings \(changes\)"):
        workers.open_study("mlp_optimizer", tmp_path)


def test_trials_that_raise_or_diverge_are_recorded_and_the_study_goes_on(tmp_path, small_splits):
    few = small_splits._replace(train=Split(*(part[:200] for part in small_splits.train)), test=None)
    settings = {
        "good": {},
        "diverging": {"learning_rate": 1e30, "optimizer": "sgd", "objective": "mean_squared_error"},
        "impossible": {"hidden_sizes": (-1,)},
    }
    space = Space({"setting": CategoricalDistribution(tuple(settings))}, n_trials=3, sampler="grid")
    experiment = spaces.Experiment(
        space, mlp.MLPHyperparameters(epochs=2), lambda parameters: settings[parameters["setting"]], 200
    )
    study = Study(tmp_path, "test", space)
    workers.run_trials(study, experiment, few)
    rows = {row["setting"]: row for row in study.rows()}
    assert {name: row["state"] for name, row in rows.items()} == {
        "good": "complete",
        "diverging": "fail",
        "impossible": "fail",
    }
    assert rows["good"]["value"] > 0.2
    assert math.isnan(rows["diverging"]["value"])
    assert rows["diverging"]["reason"].startswith("TrainingDiverged: loss is")
    assert rows["impossible"]["reason"].startswith("ValueError: hidden_sizes: expected")


def test_trial_is_given_up_in_the_epoch_in_which_it_is_worse_than_the_others(tmp_path, small_splits):
    space = Space(
        {"learning_rate": CategoricalDistribution((0.05, 0.06, 0.0))},
        n_trials=3,
        sampler="grid",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2),
    )
    study = Study(tmp_path, "test", space)
    workers.run_trials(study, spaces.Experiment(space, mlp.MLPHyperparameters(epochs=4), dict, 3000), small_splits)
    states = {row["learning_rate"]: (row["state"], row["steps"]) for row in study.rows()}
    assert states == {0.05: ("complete", 4), 0.06: ("complete", 4), 0.0: ("pruned", 2)}


def test_a_trial_notes_its_training_accuracy_and_what_its_experiment_makes_of_the_network(tmp_path, small_splits):
    space = Space({"seed": CategoricalDistribution((0,))}, n_trials=1, sampler="grid")

    def finish(model, hyperparameters, history, splits):
        return {"test": mlp.evaluate(model, splits.test)["accuracy"], "epochs": len(history)}

    study = Study(tmp_path, "test", space)
    experiment = spaces.Experiment(space, mlp.MLPHyperparameters(epochs=2), dict, 3000, finish)
    workers.run_trials(study, experiment, small_splits)
    (row,) = study.rows()
    model = mlp.build(experiment.base)
    history = mlp.train(model, *small_splits[:2], experiment.base)
    assert row["value"] == max(epoch["validation_accuracy"] for epoch in history)
    assert row["train_accuracy"] == history[-1]["train_accuracy"]
    assert row["test"] == mlp.evaluate(model, small_splits.test)["accuracy"]
    assert row["epochs"] == 2


def test_a_trial_whose_results_cannot_be_measured_has_failed(tmp_path, small_splits):
    def finish(model, hyperparameters, history, splits):
        raise ValueError("no test images")

    space = Space({"seed": CategoricalDistribution((0,))}, n_trials=1, sampler="grid")
    study = Study(tmp_path, "test", space)
    workers.run_trials(
        study, spaces.Experiment(space, mlp.MLPHyperparameters(epochs=1), dict, 3000, finish), small_splits
    )
    (row,) = study.rows()
    assert (row["state"], row["reason"]) == ("fail", "ValueError: no test images")


def test_full_disk_is_no_failure_of_the_trial(tmp_path, small_splits, monkeypatch):
    study = Study(tmp_path, "test", TPE)
    experiment = spaces.Experiment(TPE, mlp.MLPHyperparameters(epochs=2), lambda parameters: {}, 3000)

    def full_disk(*arguments):
        raise StorageInternalError("database or disk is full")

    monkeypatch.setattr(study, "report", full_disk)
    with pytest.raises(StorageInternalError):
        workers.run_trials(study, experiment, small_splits)
    assert study.progress()[:2] == (0, 1)  # unfinished, so the next worker tries it again
    assert study.rows() == []


def test_file_that_is_missing_is_no_failure_of_the_trial(tmp_path, small_splits):
    study = Study(tmp_path, "test", TPE)

    def changes(parameters):
        raise FileNotFoundError("study_mlp_search.csv")

    with pytest.raises(FileNotFoundError):
        workers.run_trials(study, spaces.Experiment(TPE, mlp.MLPHyperparameters(), changes, 3000), small_splits)
    assert study.progress()[:2] == (0, 1)


@pytest.mark.parametrize("name", list(spaces.STUDIES))
def test_every_declared_trial_is_possible(name):
    """All points of a grid, or forty random ones, make hyperparameters that are accepted, and a network."""
    experiment = spaces.STUDIES[name]
    space = experiment.space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = space.grid() if space.sampler == "grid" else [study.ask(space.distributions).params for _ in range(40)]
    for parameters in points:
        h = replace(experiment.base, **experiment.changes(parameters))
        (mlp if isinstance(h, mlp.MLPHyperparameters) else cnn).build(h)


# The command line, with processes that are killed.


find_processes = pytest.mark.skipif(shutil.which("pgrep") is None, reason="pgrep finds the processes to kill")


@contextlib.contextmanager
def run_command(folder, *options):
    command = [sys.executable, "-m", "experiments", "run", "mlp_search", "--folder", str(folder), "--train-size", "600"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(study, n_finished, n_running):
    """Wait until a study has so many finished and running trials; a worker trains until then, however slowly."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        now = study.progress()
        if now[0] >= n_finished and now[1] >= n_running:
            return now
        time.sleep(0.05)
    raise AssertionError("the study did not get so far in ten minutes")


def check_whole(study, n_trials):
    """Each of n trials was finished once; each one that was cut off was finished later, with the same parameters."""
    trials = study.trials
    assert len(study.finished()) == n_trials
    again = Counter(trial.user_attrs["again"] for trial in trials if "again" in trial.user_attrs)
    assert set(again.values()) <= {1}
    for trial in trials:
        assert trial.state.is_finished()
        if trial.number in again:
            (retry,) = (other for other in trials if other.user_attrs.get("again") == trial.number)
            # One that was cut off before it had all its parameters gets them then.
            assert trial.params.items() <= retry.params.items()


@find_processes
def test_killed_worker_and_killed_study_lose_nothing(tmp_path, capsys):
    _, study = workers.open_study("mlp_search", tmp_path, 8, 600)
    with run_command(tmp_path, "--trials", "8", "--workers", "2") as process:
        wait_for(study, 1, 1)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[0]), signal.SIGKILL)  # one worker: the study notices, and starts another
        wait_for(study, study.progress()[0] + 2, 1)
        os.killpg(process.pid, signal.SIGKILL)  # all of it
        process.wait()
    before = {trial.number for trial in study.finished()}
    assert len(before) >= 3

    with run_command(tmp_path, "--trials", "8", "--workers", "2") as process:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
    check_whole(study, 8)
    assert before <= {trial.number for trial in study.finished()}
    arguments = ["mlp_search", "--folder", str(tmp_path), "--train-size", "600"]
    assert command_line.main(["show", *arguments]) == 0
    assert capsys.readouterr().out.count("\n") == 10
    assert command_line.main(["export", *arguments, "--results", str(tmp_path)]) == 0
    assert len(read_rows(tmp_path / "study_mlp_search.csv")) == 8


@find_processes
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need a processor each")
def test_study_on_ray_survives_a_killed_worker(tmp_path, need):
    need("ray")
    _, study = workers.open_study("mlp_search", tmp_path, 5, 600)
    with run_command(tmp_path, "--trials", "5", "--workers", "2", "--ray-address", "local") as process:
        wait_for(study, 1, 2)
        found = subprocess.run(["pgrep", "-f", "ray::work"], capture_output=True, text=True, check=True)
        os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
    check_whole(study, 5)
    assert any("again" in trial.user_attrs for trial in study.trials)


def test_a_group_of_studies_is_run_in_order_and_stored_only_as_it_is_declared(tmp_path, monkeypatch, capsys):
    run, stored = [], []
    monkeypatch.setattr(workers, "run_study", lambda name, *arguments: run.append(name))
    monkeypatch.setattr(command_line, "_store", lambda study, name, folder: stored.append(name))
    folders = ["--folder", str(tmp_path), "--results", str(tmp_path)]
    assert command_line.main(["run", "cnn", *folders]) == 0
    assert run == stored == [name for name in spaces.STUDIES if name.startswith("cnn_")]
    assert command_line.main(["run", "mlp_search", "--trials", "3", *folders]) == 0
    assert run[len(stored) :] == ["mlp_search"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "knn"], "study: expected one of mlp_optimizer, .*, got 'knn'"),
        (["export", "mlp_search"], "mlp_search: no trial is finished yet"),
        (["run", "mlp_search", "--workers", "0"], "workers: expected .*1.*, got 0"),
        (["run", "mlp_search", "--trials", "0"], "trials: expected .*1.*, got 0"),
        (["work", "mlp_search", "--train-size", "-5"], "train_size: expected .*1.*, got -5"),
    ],
)
def test_bad_commands_are_refused(tmp_path, capsys, arguments, message):
    assert command_line.main([*arguments, "--folder", str(tmp_path)]) == 1
    assert re.search(message, capsys.readouterr().err)
