"""Experiments with the hyperparameters of the MLP or of a backbone.

Studies search a declared space, in one process or many, on one machine or many, and go on where they were cut off:

    python experiments.py run mlp --workers 2
    python experiments.py show mlp
    python experiments.py export mlp

And a few variants at a time: train them side by side, store the runs, tell results from noise.
"""

import model_utils.blas  # noqa: F401  before NumPy is loaded

# isort: split

import argparse
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from optuna.exceptions import StorageInternalError
from tqdm import tqdm

import cnn
import mlp
from data_preparation import DataError, load_splits
from model_utils import command_line
from model_utils.checks import check_count
from model_utils.command_line import from_json
from model_utils.saved_models import remove_saved
from model_utils.study import Study
from model_utils.tables import markdown_table, read_csv, write_csv
from studies import STUDIES

ROOT = Path(__file__).parent

# A few variants, side by side --------------------------------------------------------------------------------------


def compare(training, validation, base, variants, seeds=(0,)):
    """Train variants of one set of hyperparameters, side by side.

    Parameters
    ----------
    training, validation : tuple of ndarrays
        As for `mlp.train` or `cnn.train`.
    base : mlp.Hyperparameters or cnn.Hyperparameters
        Its kind decides what is trained.
    variants : dict of str to dict
        For each label, what differs from `base`.
    seeds : sequence of int
        Each variant is trained once with each seed.

    Returns
    -------
    dict of str to list of list of dict
        For each label, the history of each seed's run. A run that diverged has the epochs before; without any, one
        row with accuracy 0.
    """
    histories = {label: [] for label in variants}
    runs = [(label, seed) for seed in seeds for label in variants]
    for label, seed in tqdm(runs, desc="comparing", unit="run", file=sys.stdout):
        h = replace(base, **variants[label], seed=seed)
        history = []
        try:
            _train(h, training, validation, history)
        except mlp.TrainingDiverged:
            nothing = dict.fromkeys(("train_loss", "validation_loss", "learning_rate", "seconds"), math.nan)
            history = history or [{"epoch": 1, "train_accuracy": 0.0, "validation_accuracy": 0.0} | nothing]
        histories[label].append(history)
    return histories


def _train(h, training, validation, history):
    if isinstance(h, cnn.Hyperparameters):
        backbone = cnn.build(h).to(cnn.choose_device())
        return cnn.train(backbone, training, validation, h, history, progress=False)
    n_inputs = math.prod(training[0].shape[1:])
    return mlp.train(mlp.build(h, n_inputs), training, validation, h, history, progress=False)


def repeat(path, splits, settings, seeds, checkpoints):
    """Train a backbone and its MLP once with each seed, measure them, and store the accuracies.

    Parameters
    ----------
    path : path
        Of the CSV file, see `store_rows`. It gets, for each seed, the accuracies of the pair and of the backbone's own
        head on validation and test images.
    splits : Splits
    settings : dict
        {"backbone": cnn.Hyperparameters, "mlp": mlp.Hyperparameters}.
    seeds : sequence of int
    checkpoints : path
        A folder for the backbones' checkpoints, removed at the end: a repetition that was cut off goes on from them.
    """
    folders = {seed: Path(checkpoints) / f"seed_{seed}" for seed in seeds}
    rows = []
    for seed, folder in folders.items():
        histories = {"backbone": [], "mlp": []}
        h, mlp_h = (replace(settings[part], seed=seed) for part in histories)
        _, metrics = cnn.train_hybrid(splits, h, mlp_h, histories, folder)
        rows.append({"seed": seed} | {part: measured["accuracy"] for part, measured in metrics.items()})
    store_rows(path, rows, settings)
    for folder in folders.values():
        remove_saved(folder)


def store_rows(path, rows, settings):
    """Write rows to a CSV file, and beside it, as JSON, what they were made with.

    Parameters
    ----------
    path : path
    rows : list of dict
    settings : dict of str to Hyperparameters
    """
    write_csv(path, rows)
    text = json.dumps({label: asdict(h) for label, h in settings.items()}, indent=2) + "\n"
    _settings_path(path).write_text(text, encoding="utf-8")


def load_rows(path, settings, text_columns=()):
    """Read what `store_rows` wrote.

    Raises
    ------
    ValueError
        If it was made with other settings.
    """
    stored = json.loads(_settings_path(path).read_text(encoding="utf-8"))
    try:
        # A hyperparameter that did not exist when they were stored has its default, which is what was done without it.
        made_with = {label: from_json(type(settings[label]), values) for label, values in stored.items()}
    except (KeyError, TypeError, ValueError):
        made_with = None
    if made_with != settings:
        raise ValueError(f"{path}: made with other hyperparameters, see {_settings_path(path)}; make it anew")
    return read_csv(path, text_columns)


def store(path, histories, base, variants):
    """Write what `compare` returned: a row for each epoch of each run, and the hyperparameters of each variant."""
    rows = [
        {"setting": label, "run": run} | row
        for label, runs in histories.items()
        for run, history in enumerate(runs)
        for row in history
    ]
    store_rows(path, rows, _each(base, variants))


def load(path, base, variants):
    """Read what `store` wrote; see `load_rows`."""
    return by_run(load_rows(path, _each(base, variants), text_columns=("setting",)))


def by_run(rows):
    """Make of the rows that `store` wrote what `compare` returned."""
    histories = {}
    for row in rows:
        runs = histories.setdefault(row.pop("setting"), {})
        runs.setdefault(row.pop("run"), []).append(row)
    return {label: list(runs.values()) for label, runs in histories.items()}


def best_accuracies(runs):
    """Return the best validation accuracy of each of some runs."""
    return [mlp.best_epoch(run)["validation_accuracy"] for run in runs]


def _each(base, variants):
    return {label: replace(base, **changes) for label, changes in variants.items()}


def _settings_path(path):
    return Path(path).with_suffix(".json")


def describe(histories):
    """Lay out what `compare` returned, and say which differences stand out from the noise.

    Returns
    -------
    str
        Markdown. A table with a row a variant: mean and standard deviation over the n runs of the best validation
        accuracy, and the mean training accuracy of the last epoch. Then a sentence on which variants lie within two
        standard errors of the best one; with one run each, or one variant, there is no telling, and no sentence.
    """
    bests = {label: best_accuracies(runs) for label, runs in histories.items()}
    means = {label: np.mean(accuracies) for label, accuracies in bests.items()}
    is_repeated = all(len(accuracies) > 1 for accuracies in bests.values())
    stds = {label: np.std(accuracies, ddof=1) for label, accuracies in bests.items()} if is_repeated else {}
    rows = [
        (
            label,
            f"{means[label]:.4f}" + (f" ± {stds[label]:.4f}" if is_repeated else ""),
            len(runs),
            f"{np.mean([run[-1]['train_accuracy'] for run in runs]):.4f}",
        )
        for label, runs in histories.items()
    ]
    table = markdown_table(["setting", "best validation accuracy", "n", "training accuracy, as trained"], rows)
    if not is_repeated or len(means) == 1:
        return table

    winner, *others = sorted(means, key=means.get, reverse=True)
    within, below = [], []
    for label in others:
        standard_error = math.hypot(stds[winner], stds[label]) / math.sqrt(len(bests[label]))
        gap = means[winner] - means[label]
        if gap <= 2 * standard_error:
            within.append(label)
        else:
            below.append(f"{label} by {gap:.4f}")
    sentence = f"Best: **{winner}**."
    sentence += f" Within two standard errors of it: {'; '.join(within)}." if within else ""
    sentence += f" Below it: {'; '.join(below)}." if below else ""
    return f"{table}\n\n{sentence}"


# Studies ------------------------------------------------------------------------------------------------------------


class _Pruned(Exception):
    pass


class _ReportedHistory(list):
    """A history that tells the study of each epoch; the study can end the training there."""

    def __init__(self, study, number):
        super().__init__()
        self._report = lambda row: study.report(number, row["epoch"], row["validation_accuracy"])

    def append(self, row):
        super().append(row)
        if self._report(row):
            raise _Pruned


def run_trials(study, experiment, splits, worker=""):
    """Run trials of a study until there is none left to take.

    Parameters
    ----------
    study : Study
        Or what passes its calls on.
    experiment : Experiment
    splits : Splits
    worker : str
        See `Study.ask`.
    """
    while (taken := study.ask(worker)) is not None:
        number, parameters = taken
        history = _ReportedHistory(study, number)
        value, reason, pruned = None, "", False
        started = time.perf_counter()
        try:
            h = replace(experiment.base, **experiment.changes(parameters))
            _train(h, splits.train, splits.validation, history)
            value = mlp.best_epoch(history)["validation_accuracy"]
        except _Pruned:
            pruned = True
        except (StorageInternalError, OSError, ImportError):
            raise  # not the trial's fault: it stays unfinished, and is tried again
        except Exception as error:  # a trial may fail in any way, and the study goes on
            reason = f"{type(error).__name__}: {error}"
        note = {"seconds": round(time.perf_counter() - started, 2), "reason": reason}
        study.finish(number, value, note, pruned)


def open_study(args):
    """Return the experiment that the command line asks for, and access to its study."""
    if args.study not in STUDIES:
        raise ValueError(f"study: expected one of {', '.join(STUDIES)}, got {args.study!r}")
    for name in ("trials", "train_size", "workers"):
        if getattr(args, name, None) is not None:
            check_count(name, getattr(args, name))
    experiment = STUDIES[args.study]
    experiment = experiment._replace(train_size=args.train_size or experiment.train_size)
    shared = {"base": asdict(experiment.base), "train_size": experiment.train_size}
    if experiment.space.sampler == "grid":  # what its choices stand for may change
        shared["changes"] = list(map(experiment.changes, experiment.space.grid()))
    space = experiment.space._replace(n_trials=args.trials or experiment.space.n_trials, shared=shared)
    return experiment._replace(space=space), Study(args.folder.absolute(), args.study, space)


def parse(arguments):
    """Return what `open_study` reads, from the words of a command line."""
    return _parser().parse_args(arguments)


def main(arguments=None):
    """Run the command line; return its exit status."""
    errors = (ValueError, DataError, OSError, ImportError, StorageInternalError)
    return command_line.run(_parser(), arguments, errors)


def _parser():
    parser = argparse.ArgumentParser(
        prog="experiments.py", description="Search hyperparameters of the MLP or of the CNN backbone, by validation."
    )
    commands = parser.add_subparsers(required=True)
    texts = {
        "run": (_run_command, "run a study, or go on with it, until all its trials are finished"),
        "work": (_work_command, "be one more worker of a study"),
        "show": (_show_command, "print the trials of a study, best first"),
        "export": (
            _export_command,
            "write the trials of a study to results/study_NAME.csv, and its settings beside them",
        ),
    }
    for name, (function, text) in texts.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument("study", help=f"one of {', '.join(STUDIES)}")
        command.add_argument("--folder", type=Path, default=Path("runs/studies"), help="where the studies are kept")
        command.add_argument("--trials", type=int, help="how many, if not as many as declared")
        command.add_argument("--train-size", type=int, help="training images, if not as many as declared")
        command.set_defaults(command=function)
        if name == "run":
            command.add_argument("--workers", type=int, default=1, help="processes, or on Ray processors, to use")
            command.add_argument("--ray-address", help="of a Ray cluster to run on, such as auto")
        if name == "export":
            command.add_argument("--results", type=Path, default=Path("results"), help="where the table goes")
    return parser


def _run_command(args):
    experiment, study = open_study(args)
    start, stop = _on_ray(args, experiment, study) if args.ray_address else _on_this_machine(args)
    workers = {number: start(number) for number in range(args.workers)}
    deaths = 0
    bar = _ProgressBar(study)
    try:
        while workers:
            time.sleep(0.2)
            bar.update()
            for number, has_ended in list(workers.items()):
                status = has_ended()
                if status is None:
                    continue
                del workers[number]
                n_finished, _, _ = study.progress()
                if n_finished < study.space.n_trials and (status or not workers):
                    # Killed, or the others were, after it found nothing left to take.
                    deaths += bool(status)
                    if deaths > 3 + n_finished:
                        raise ValueError(f"{args.study}: its workers keep dying; try `work {args.study}` to see why")
                    workers[number] = start(number)
    finally:
        bar.close()
        stop()
    print(_table(study))
    return 0


def _work_command(args):
    experiment, study = open_study(args)
    run_trials(study, experiment, load_splits(train=experiment.train_size))
    return 0


def _show_command(args):
    _, study = open_study(args)
    print(_table(study))
    return 0


def _export_command(args):
    _, study = open_study(args)
    rows = study.rows()
    if not rows:
        raise ValueError(f"{args.study}: no trial is finished yet")
    path = args.results / f"study_{args.study}.csv"
    write_csv(path, rows)
    _settings_path(path).write_text(json.dumps(study.origin, indent=2) + "\n", encoding="utf-8")
    print(path)
    return 0


def _table(study):
    rows = sorted(study.rows(), key=lambda row: -row["value"] if row["value"] == row["value"] else math.inf)
    if not rows:
        return "no trial is finished yet"
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row.values()] for row in rows]
    return markdown_table(rows[0].keys(), cells)


class _ProgressBar:
    """Shows how far a study is."""

    def __init__(self, study):
        self._study = study
        n_finished, _, _ = study.progress()
        self._bar = tqdm(
            total=study.space.n_trials, initial=n_finished, desc="trials", unit="trial", file=sys.stdout, smoothing=0
        )
        self._next = 0.0

    def update(self):
        """Look at the study every second at most."""
        if time.monotonic() >= self._next:
            n_finished, n_running, best = self._study.progress()
            text = f"{n_running} running" + (f", best {best:.4f}" if best is not None else "")
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(n_finished - self._bar.n)
            self._next = time.monotonic() + 1

    def close(self):
        self._next = 0.0
        self.update()
        self._bar.close()


def _options(args):
    """The command line of a worker of the same study."""
    options = [args.study, "--folder", str(args.folder)]
    for name in ("trials", "train_size"):
        if getattr(args, name) is not None:
            options += ["--" + name.replace("_", "-"), str(getattr(args, name))]
    return options


def _on_this_machine(args):
    """Return functions that start a worker, and stop all: each a process with its share of the processor.

    If this process alone is killed, its workers go on; the next one that is started finds their trials in good hands.
    """
    # Not all processors may be ours; only Linux can tell.
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    n_threads = str(max(1, n_processors // args.workers))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), n_threads)
    processes = []

    def start(number):
        command = [sys.executable, str(ROOT / "experiments.py"), "work", *_options(args)]
        process = subprocess.Popen(command, env=os.environ | threads)
        processes.append(process)
        return process.poll

    def stop():
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()

    return start, stop


def _on_ray(args, experiment, study):
    """The same on a Ray cluster. The study stays here; its workers, wherever they are, ask for trials and report."""
    try:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    except ImportError as error:
        raise ImportError(f"{error}; pip install -r requirements-distributed.txt") from error
    environment = {"working_dir": str(ROOT), "excludes": [".venv", "runs", ".git", "models", "*.ipynb", "figures"]}
    ray.init(args.ray_address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = (
        ray.remote(Study)
        .options(num_cpus=0, scheduling_strategy=here)
        .remote(args.folder.absolute(), args.study, study.space)
    )

    @ray.remote(num_cpus=1, max_retries=0)
    def work(worker):
        run_trials(_RaysStudy(actor), experiment, load_splits(train=experiment.train_size), worker)

    def start(number):
        worker = str(number)
        reference = work.remote(worker)

        def has_ended():
            ended, _ = ray.wait([reference], timeout=0)
            if not ended:
                return None
            try:
                ray.get(reference)
            except ray.exceptions.RayError:
                ray.get(actor.abandon.remote(worker))
                return 1
            return 0

        return has_ended

    return start, ray.shutdown


class _RaysStudy:
    """Passes the calls of a study on to the actor that has it."""

    def __init__(self, actor):
        self._actor = actor

    def __getattr__(self, name):
        import ray

        return lambda *arguments: ray.get(getattr(self._actor, name).remote(*arguments))


if __name__ == "__main__":
    sys.exit(main())
