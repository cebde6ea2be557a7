"""Run the trials of a declared study: in one process or many, on this machine or on a Ray cluster."""

import math
import os
import subprocess
import sys
import time
from dataclasses import replace

from optuna import TrialPruned
from optuna.exceptions import StorageInternalError
from tqdm import tqdm

import cnn
import mlp
from data_preparation import CLASS_NAMES, N_OFFICIAL_TRAIN
from experiments import ROOT
from experiments.machine import THREAD_VARIABLES
from experiments.spaces import STUDIES
from experiments.study import Study
from model_utils.checks import check_choice, check_count
from model_utils.cnn_backbone import BackboneHyperparameters
from model_utils.devices import choose_device
from model_utils.training import best_epoch

MAX_TRIALS, MAX_WORKERS = 1_000_000, 1000


def open_study(name, folder, n_trials=None, train_size=None):
    """Return a declared experiment and its study; the numbers that are given replace the declared ones.

    Raises
    ------
    ValueError
        If there is no such study, a number is out of range, or the study was begun with other settings.
    """
    check_choice("study", name, STUDIES)
    if n_trials is not None:
        check_count("trials", n_trials, 1, MAX_TRIALS)
    if train_size is not None:  # some must be left for validation
        check_count("train_size", train_size, len(CLASS_NAMES), N_OFFICIAL_TRAIN - len(CLASS_NAMES))
    experiment = STUDIES[name]
    experiment = experiment._replace(train_size=train_size or experiment.train_size)
    # Only what differs from the defaults, so that a new hyperparameter does not end the studies that do not use it.
    shared = {"base": experiment.base.changed(), "train_size": experiment.train_size}
    if experiment.space.sampler == "grid":  # the meaning of its choices may change
        shared["changes"] = list(map(experiment.changes, experiment.space.grid()))
    space = experiment.space._replace(n_trials=n_trials or experiment.space.n_trials, shared=shared)
    return experiment._replace(space=space), Study(folder, name, space)


def run_trials(study, experiment, splits, worker=""):
    """Run trials of a study until none are left.

    Parameters
    ----------
    study : Study
        Or an object that forwards its calls.
    experiment : Experiment
    splits : Splits
    worker : str
        See `Study.ask`.
    """
    while (taken := study.ask(worker)) is not None:
        number, parameters = taken
        value, reason, pruned, history, finished = None, "", False, [], {}
        started = time.perf_counter()

        def on_epoch(row, number=number, history=history):
            history.append(row)
            if study.report(number, row["epoch"], row["validation_accuracy"]):
                raise TrialPruned

        try:
            h = replace(experiment.base, **experiment.changes(parameters))
            model, _ = train(h, splits.train, splits.validation, on_epoch, experiment.head(parameters))
            finished = experiment.finish(model, h, history, splits)
            value = best_epoch(history)["validation_accuracy"]  # last, so that a trial without it has failed
        except TrialPruned:
            pruned = True
        except (StorageInternalError, OSError, ImportError):
            raise  # not the trial's fault: it stays unfinished, and is run again
        except Exception as error:  # a trial may fail in any way, and the study continues
            reason = f"{type(error).__name__}: {error}"
        note = finished | {
            "train_accuracy": history[-1]["train_accuracy"] if history else math.nan,
            "seconds": round(time.perf_counter() - started, 2),
            "reason": reason,
        }
        study.finish(number, value, note, pruned)


def train(hyperparameters, training, validation, on_epoch=None, head=cnn.CLASSIFIER):
    """Train an MLP or a backbone, whichever the hyperparameters describe; return it and its history.

    `head` describes the MLP behind a backbone that is trained end to end.
    """
    h = hyperparameters
    if isinstance(h, BackboneHyperparameters):
        backbone = cnn.build(h, head).to(choose_device())
        return backbone, cnn.train(backbone, training, validation, h, on_epoch)
    model = mlp.build(h, math.prod(training[0].shape[1:]))
    return model, mlp.train(model, training, validation, h, on_epoch)


def run_study(name, experiment, study, n_workers=1, ray_address=None):
    """Run a study, or continue it, until all its trials are finished; show a progress bar.

    Parameters
    ----------
    name : str
    experiment, study
        From `open_study`.
    n_workers : int
        Processes on this machine, or CPUs of the Ray cluster.
    ray_address : str, optional
        Address of the cluster, such as "auto".

    Raises
    ------
    ValueError
        If the workers keep dying.
    """
    check_count("workers", n_workers, 1, MAX_WORKERS)
    if ray_address is None:
        start, stop = _on_this_machine(name, experiment, study, n_workers)
    else:
        start, stop = _on_ray(name, ray_address, experiment, study)
    workers = {number: start(number) for number in range(n_workers)}
    deaths = 0
    bar = tqdm(total=study.space.n_trials, desc="trials", unit="trial", file=sys.stdout, smoothing=0)
    try:
        while workers:
            time.sleep(0.5)
            _show(bar, study)
            for number, poll in list(workers.items()):
                status = poll()
                if status is None:
                    continue
                del workers[number]
                n_finished, _, _ = study.progress()
                if n_finished < study.space.n_trials and (status or not workers):
                    # It was killed; or it had found nothing left to take, and then another worker was killed.
                    deaths += bool(status)
                    if deaths > 3 + n_finished:
                        raise ValueError(f"{name}: its workers keep dying; run `work {name}` to see why")
                    workers[number] = start(number)
        _show(bar, study)
    finally:
        bar.close()
        stop()


def _show(bar, study):
    """Update the progress bar of a study."""
    bar.n, n_running, best = study.progress()
    bar.set_postfix_str(f"{n_running} running" + (f", best {best:.4f}" if best is not None else ""))


def _on_this_machine(name, experiment, study, n_workers):
    """Return two functions, one to start a worker and one to stop all.

    A worker is a process with its share of the CPUs. The first function returns another one that polls it: None
    while it runs, then its exit status. If only this process is killed, its workers continue, and the next `run_study`
    leaves their trials to them.
    """
    # This process may be limited to some CPUs; only Linux can tell.
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    n_threads = str(max(1, n_processors // n_workers))
    threads = dict.fromkeys(THREAD_VARIABLES, n_threads)
    options = ["--folder", study.folder, "--trials", study.space.n_trials, "--train-size", experiment.train_size]
    processes = []

    def start(number):
        command = [sys.executable, "-m", "experiments", "work", name, *map(str, options)]
        process = subprocess.Popen(command, env=os.environ | threads, cwd=ROOT)
        processes.append(process)
        return process.poll

    def stop():
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()

    return start, stop


def _on_ray(name, address, experiment, study):
    """Return the same two functions for a Ray cluster; the study stays here, and the workers there call it."""
    try:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    except ImportError as error:
        raise ImportError(f"{error}; pip install ray") from error
    environment = {
        "working_dir": str(ROOT),
        "excludes": [".venv", "runs", ".git", "models", "*.ipynb", "results/figures"],
    }
    ray.init(address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Study).options(num_cpus=0, scheduling_strategy=here).remote(study.folder, name, study.space)

    @ray.remote(num_cpus=1, max_retries=0)
    def work(worker):
        run_trials(_RaysStudy(actor), experiment, experiment.load_splits(), worker)

    def start(number):
        worker = str(number)
        reference = work.remote(worker)

        def poll():
            ended, _ = ray.wait([reference], timeout=0)
            if not ended:
                return None
            try:
                ray.get(reference)
            except ray.exceptions.RayError:
                ray.get(actor.abandon.remote(worker))
                return 1
            return 0

        return poll

    return start, ray.shutdown


class _RaysStudy:
    """Forwards the calls of a study to the Ray actor that holds it."""

    def __init__(self, actor):
        self._actor = actor

    def __getattr__(self, name):
        import ray

        return lambda *arguments: ray.get(getattr(self._actor, name).remote(*arguments))
