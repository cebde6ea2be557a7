"""Question 2f and 3b, studies: whatever is killed, every trial is finished once, and nothing is lost."""

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
from dataclasses import asdict, replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError

import cnn
import experiments
import mlp
import studies
from data_preparation import Split
from model_utils.study import Space, Study, is_finished
from model_utils.tables import read_csv
from tests.study_spaces import GRID, TPE


def run_all(study):
    while (taken := study.ask()) is not None:
        number, parameters = taken
        study.finish(number, float(parameters["x"]), {"reason": ""})


def parameters_of(study):
    return [(row["x"], row["kind"]) for row in study.rows()]


def test_q2f_study_finishes_as_many_trials_as_asked_for(tmp_path):
    study = Study(tmp_path, "test", TPE)
    run_all(study)
    assert study.progress()[:2] == (4, 0)
    assert study.progress()[2] == max(row["value"] for row in study.rows())
    assert Study(tmp_path, "test", TPE).ask() is None  # another worker finds nothing left
    more = Study(tmp_path, "test", TPE._replace(n_trials=5))
    run_all(more)
    assert len(more.rows()) == 5


def test_q2f_grid_is_every_combination_once(tmp_path):
    study = Study(tmp_path, "test", GRID)
    run_all(study)
    assert parameters_of(study) == [(x, kind) for x in (1, 2, 3) for kind in "ab"]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_q2f_suggestions_do_not_depend_on_interruptions(tmp_path, sampler):
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
    assert run("broken", cut_off=(3, 7, 12)) == unbroken
    assert (run("other values", sign=-1) == unbroken) == (sampler == "random")


@pytest.mark.parametrize("space", [TPE, GRID])
def test_q2f_trial_that_is_cut_off_again_at_once_is_not_lost(tmp_path, space):
    study = Study(tmp_path, "test", space)
    _, parameters = study.ask("1")
    study.abandon("1")
    study._study.ask()  # taken by a worker that dies before any parameter is noted
    assert Study(tmp_path, "test", space).ask()[1] == parameters


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("space", [TPE, GRID])
def test_q2f_trial_of_a_dead_worker_is_tried_again_once(tmp_path, space):
    program = (
        "import os, signal, sys\n"
        "from model_utils.study import Study\n"
        "from tests import study_spaces\n"
        "study = Study(sys.argv[1], 'test', getattr(study_spaces, sys.argv[2])); study.ask(); study.ask()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        command = [sys.executable, "-c", program, str(tmp_path), "TPE" if space is TPE else "GRID"]
        done = subprocess.run(command, cwd=experiments.ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
    study = Study(tmp_path, "test", space)
    cut_off = [(trial.params["x"], trial.params["kind"]) for trial in study.trials if trial.params]
    living = Study(tmp_path, "test", space)
    number, _ = living.ask()  # of a worker that lives, so it stays his
    run_all(study)
    assert study.progress()[:2] == (space.n_trials - 1, 1)
    living.finish(number, 0.5)
    finished = Counter(parameters_of(study))
    assert finished.total() == space.n_trials
    assert all(finished[parameters] == 1 for parameters in cut_off)


def test_q2f_workers_of_one_owner_are_abandoned_one_by_one(tmp_path):
    study = Study(tmp_path, "test", TPE)
    first, second = study.ask("1"), study.ask("2")
    study.abandon("1")
    study.finish(second[0], 1.0)
    assert study.ask("3")[1] == first[1]


def test_q2f_bad_trials_are_pruned(tmp_path):
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
def test_q2f_malformed_space_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        Study(tmp_path, "test", TPE._replace(**changes))


def test_q2f_study_begun_with_other_settings_is_refused(tmp_path):
    Study(tmp_path, "test", TPE._replace(seed=5))  # who only looks begins nothing
    Study(tmp_path, "test", TPE).ask()
    for changes in ({"seed": 1}, {"shared": {"train_size": 5}}, {"distributions": {"x": FloatDistribution(0, 2)}}):
        with pytest.raises(ValueError, match=r"test\.db: begun with other settings"):
            Study(tmp_path, "test", TPE._replace(**changes))


def test_q2f_study_whose_choices_stand_for_something_else_is_refused(tmp_path, monkeypatch):
    args = experiments.parse(["show", "mlp_ablations", "--folder", str(tmp_path)])
    experiments.open_study(args)[1].ask()
    monkeypatch.setitem(studies.ABLATIONS, "layers: 1", {"hidden_sizes": (64,)})
    with pytest.raises(ValueError, match=r"begun with other settings \(changes\)"):
        experiments.open_study(args)


def test_q2f_trials_that_raise_or_diverge_are_recorded_and_the_study_goes_on(tmp_path, small_splits):
    few = small_splits._replace(train=Split(*(part[:200] for part in small_splits.train)), test=None)
    settings = {
        "good": {},
        "diverging": {"learning_rate": 1e30, "optimizer": "sgd", "objective": "mean_squared_error"},
        "impossible": {"hidden_sizes": (-1,)},
    }
    space = Space({"setting": CategoricalDistribution(tuple(settings))}, n_trials=3, sampler="grid")
    experiment = studies.Experiment(
        space, mlp.Hyperparameters(epochs=2), lambda parameters: settings[parameters["setting"]], 200
    )
    study = Study(tmp_path, "test", space)
    experiments.run_trials(study, experiment, few)
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


def test_q2f_full_disk_is_no_failure_of_the_trial(tmp_path, small_splits, monkeypatch):
    study = Study(tmp_path, "test", TPE)
    experiment = studies.Experiment(TPE, mlp.Hyperparameters(epochs=2), lambda parameters: {}, 3000)

    def full_disk(*arguments):
        raise StorageInternalError("database or disk is full")

    monkeypatch.setattr(study, "report", full_disk)
    with pytest.raises(StorageInternalError):
        experiments.run_trials(study, experiment, small_splits)
    assert study.progress()[:2] == (0, 1)  # unfinished, so the next worker tries it again
    assert study.rows() == []


def test_q2f_file_that_is_missing_is_no_failure_of_the_trial(tmp_path, small_splits):
    study = Study(tmp_path, "test", TPE)

    def changes(parameters):
        raise FileNotFoundError("study_mlp.csv")

    with pytest.raises(FileNotFoundError):
        experiments.run_trials(study, studies.Experiment(TPE, mlp.Hyperparameters(), changes, 3000), small_splits)
    assert study.progress()[:2] == (0, 1)


@pytest.mark.parametrize("name", list(studies.STUDIES))
def test_q2f_every_declared_trial_is_possible(name):
    """All points of a grid, or forty random ones, make hyperparameters that are accepted, and a network."""
    if (
        name.endswith("_best")
        and not (experiments.ROOT / "results" / f"study_{name.removesuffix('_best')}.csv").exists()
    ):
        pytest.skip("its study is not exported yet")
    experiment = studies.STUDIES[name]
    space = experiment.space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = space.grid() if space.sampler == "grid" else [study.ask(space.distributions).params for _ in range(40)]
    for parameters in points:
        h = replace(experiment.base, **experiment.changes(parameters))
        (mlp if isinstance(h, mlp.Hyperparameters) else cnn).build(h)


# The command line, with processes that are killed.


find_processes = pytest.mark.skipif(shutil.which("pgrep") is None, reason="pgrep finds the processes to kill")


@contextlib.contextmanager
def run_command(folder, *options):
    command = [sys.executable, "experiments.py", "run", "mlp", "--folder", str(folder), "--train-size", "600"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=experiments.ROOT,
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


def wait_for(folder, n_finished, n_running):
    """Wait until a study has so many finished and running trials; return access to it."""
    experiment = studies.STUDIES["mlp"]
    shared = {"base": asdict(experiment.base), "train_size": 600}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / "mlp.db").exists():
            study = Study(folder, "mlp", experiment.space._replace(shared=shared))
            now = study.progress()
            if now[0] >= n_finished and now[1] >= n_running:
                return study
        time.sleep(0.05)
    raise AssertionError("the study did not get so far in two minutes")


def check_whole(study, n_trials):
    """Each of n trials was finished once; each one that was cut off was finished later, with the same parameters."""
    trials = study.trials
    assert sum(map(is_finished, trials)) == n_trials
    again = Counter(trial.user_attrs.get("again") for trial in trials)
    for trial in trials:
        assert trial.state.is_finished()
        # One that was cut off before it had its parameters has nothing to be tried again.
        parameters = trial.system_attrs.get("fixed_params", trial.params)
        if not is_finished(trial) and parameters.keys() == study.space.distributions.keys():
            assert again[trial.number] == 1
            (retry,) = (other for other in trials if other.user_attrs.get("again") == trial.number)
            assert retry.system_attrs["fixed_params"] == parameters


@find_processes
def test_q2f_killed_worker_and_killed_study_lose_nothing(tmp_path, capsys):
    with run_command(tmp_path, "--trials", "20", "--workers", "2") as process:
        study = wait_for(tmp_path, 1, 1)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[0]), signal.SIGKILL)  # one worker: the study notices, and starts another
        wait_for(tmp_path, study.progress()[0] + 2, 1)
        os.killpg(process.pid, signal.SIGKILL)  # all of it
        process.wait()
    n_finished, n_running, _ = study.progress()
    assert 3 <= n_finished < 20
    assert n_running >= 1

    with run_command(tmp_path, "--trials", "20", "--workers", "2") as process:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    check_whole(study, 20)
    arguments = ["mlp", "--folder", str(tmp_path), "--train-size", "600"]
    assert experiments.main(["show", *arguments]) == 0
    assert capsys.readouterr().out.count("\n") == 22
    assert experiments.main(["export", *arguments, "--results", str(tmp_path)]) == 0
    rows = read_csv(tmp_path / "study_mlp.csv", [*studies.STUDIES["mlp"].space.distributions, "state", "reason"])
    assert len(rows) == 20


@find_processes
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need a processor each")
def test_q2f_study_on_ray_survives_a_killed_worker(tmp_path):
    pytest.importorskip("ray")
    with run_command(tmp_path, "--trials", "10", "--workers", "2", "--ray-address", "local") as process:
        study = wait_for(tmp_path, 1, 2)
        owners = {tuple(trial.user_attrs["owner"]) for trial in study.trials if "owner" in trial.user_attrs}
        assert {worker for _, worker in owners} == {"0", "1"}
        found = subprocess.run(["pgrep", "-f", "ray::work"], capture_output=True, text=True, check=True)
        os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    check_whole(study, 10)
    assert any(not is_finished(trial) for trial in study.trials)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "knn"], "study: expected one of mlp, .*cnn_best, got 'knn'"),
        (["export", "mlp"], "mlp: no trial is finished yet"),
        (["run", "mlp", "--workers", "0"], "workers: expected .*1.*, got 0"),
        (["run", "mlp", "--trials", "0"], "trials: expected .*1.*, got 0"),
        (["work", "mlp", "--train-size", "-5"], "train_size: expected .*1.*, got -5"),
    ],
)
def test_q2f_bad_commands_are_refused(tmp_path, capsys, arguments, message):
    assert experiments.main([*arguments, "--folder", str(tmp_path)]) == 1
    assert re.search(message, capsys.readouterr().err)
