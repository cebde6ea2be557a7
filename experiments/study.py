"""A study in one local file: many workers take trials from it, and if one is killed, no trial is lost or done twice.

Optuna suggests the trials, keeps them in SQLite and queues those that must be run again. This module adds two kinds of
lock. Optuna's heartbeat treats a suspended process as dead, and one that was killed before its first beat as alive.
So the process that runs a trial holds a file lock, which the operating system releases however the process ends.
In Optuna, two workers can also take the same trial from the queue, so one lock guards taking and ending trials.
"""

import itertools
import json
import math
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import DatabaseError

from model_utils.files import flush

optuna.logging.set_verbosity(optuna.logging.WARNING)  # no greetings; the caller shows the progress

SAMPLERS = ("tpe", "random", "grid")


class _Connection(sqlite3.Connection):
    """A connection whose writes survive a power cut, which cannot damage the file either."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.execute("PRAGMA synchronous = EXTRA")
        self.execute("PRAGMA fullfsync = ON")  # has an effect on macOS only


class Space(NamedTuple):
    """What a study searches, and how.

    Attributes
    ----------
    distributions : dict of str to optuna.distributions.BaseDistribution
        One for each parameter; for a grid, all of them categorical.
    n_trials : int
        How many trials to finish.
    sampler : {"tpe", "random", "grid"}
        The tree-structured Parzen estimator of J. Bergstra et al., 2011, which learns from earlier trials; points
        drawn at random; or every combination once.
    n_random : int
        How many trials are drawn at random before "tpe" takes over.
    pruner : optuna.pruners.BasePruner
        Decides from their reports which trials are stopped early; by default, none are.
    seed : int
    shared : dict
        What all trials share, as JSON; a study that was begun with something else is not continued.
    """

    distributions: dict
    n_trials: int
    sampler: str = "tpe"
    n_random: int = 10
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    seed: int = 0
    shared: dict = {}  # noqa: RUF012  never changed

    def grid(self):
        """Return every combination of the choices, as a list of dicts."""
        choices = [distribution.choices for distribution in self.distributions.values()]
        return [dict(zip(self.distributions, point, strict=True)) for point in itertools.product(*choices)]


class Study:
    """One process's access to a study.

    Parameters
    ----------
    folder : path
        For the study's file and its locks; it must be on a local disk.
    name : str
    space : Space

    Raises
    ------
    ValueError
        If the space is malformed, the folder or the file is something else, or the study in it was begun with another
        space.
    """

    def __init__(self, folder, name, space):
        _check_space(space)
        self.space = space
        self.folder, self._name = Path(folder).absolute(), name
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: expected a folder or an unused name")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.folder / f"{name}.db"
        self._lock = FileLock(self.folder / f"{name}.lock")
        self._running = {}  # by trial number: the trial, its lock and its worker
        self._study = None
        self._open()

    # For workers

    def ask(self, worker=""):
        """Take the next trial.

        Parameters
        ----------
        worker : str
            Who will run it, if this process serves several workers.

        Returns
        -------
        (int, dict) or None
            The trial's number and parameters; None if enough trials are finished or running.
        """
        with self._lock:
            self._create()
            self._queue_cut_off()
            trials = self.trials
            begun = [trial.number for trial in trials if "again" not in trial.user_attrs]
            waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            if not waiting:  # trials that were cut off come first
                if len(begun) >= self.space.n_trials:
                    return None
                self._study.enqueue_trial(self.space.grid()[len(begun)] if self.space.sampler == "grid" else {})
                waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            number = waiting[0].number
            first = number  # will be the first of the trials with these parameters
            while first < len(trials) and "again" in trials[first].user_attrs:
                first = trials[first].user_attrs["again"]
            n_before = sum(other < first for other in begun)
            is_random = self.space.sampler == "random" or n_before < self.space.n_random
            self._study.sampler = self._sampler(n_before, is_random)
            lock = self._lock_of(number)
            lock.acquire()
            try:
                trial = self._study.ask(self.space.distributions)
            except BaseException:  # whatever it is, the trial will be run again
                _let_go(lock)
                raise
            if self.space.sampler == "tpe":
                trial.set_user_attr("sampled", "random" if is_random else "tpe")
            self._running[number] = trial, lock, worker
        return number, trial.params

    def report(self, number, step, value):
        """Store the value of a trial after a step; return whether to stop the trial early."""
        trial, _, _ = self._running[number]
        trial.report(value, step)
        return trial.should_prune()

    def finish(self, number, value=None, note=None, pruned=False):
        """Store how a trial ended, and release its lock.

        Parameters
        ----------
        number : int
        value : float, optional
            What the study maximises; None or NaN if the trial failed.
        note : dict, optional
            What else to store, such as the reason why it failed.
        pruned : bool
        """
        trial, lock, _ = self._running[number]
        trial.set_user_attr("note", note or {})
        if pruned:
            state = TrialState.PRUNED
        else:
            state = TrialState.FAIL if value is None or math.isnan(value) else TrialState.COMPLETE
        with self._lock:
            self._study.tell(trial, value if state == TrialState.COMPLETE else None, state)
            del self._running[number]
            _let_go(lock)

    def abandon(self, worker):
        """Release the running trials of one of this process's workers that died, so that they are run again."""
        with self._lock:
            for number, (_, lock, its_worker) in list(self._running.items()):
                if its_worker == worker:
                    del self._running[number]
                    _let_go(lock)

    # For observers

    @property
    def origin(self):
        """What the study searches and what its trials share, as JSON."""
        distributions = {
            parameter: json.loads(optuna.distributions.distribution_to_json(distribution))
            for parameter, distribution in self.space.distributions.items()
        }
        origin = {"distributions": distributions, "sampler": self.space.sampler, "seed": self.space.seed}
        if self.space.sampler == "tpe":
            origin["n_random"] = self.space.n_random
        return json.loads(json.dumps(origin | self.space.shared))

    @property
    def trials(self):
        """All trials, as objects of Optuna; none before the first one is taken."""
        self._open()
        return [] if self._study is None else self._study.get_trials(deepcopy=False)

    def finished(self):
        """Return the trials that are complete, pruned or failed, without those that were cut off."""
        return self._finished(self.trials)

    def _finished(self, trials):
        cut_off = {trial.user_attrs.get("again") for trial in trials}
        return [trial for trial in trials if trial.state.is_finished() and trial.number not in cut_off]

    def progress(self):
        """Return the numbers of finished and of running trials, and the best value so far, None if there is none."""
        trials = self.trials
        values = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
        n_running = sum(trial.state == TrialState.RUNNING for trial in trials)
        return len(self._finished(trials)), n_running, max(values, default=None)

    def rows(self):
        """Return one row for each finished trial, sorted by parameters: parameters, state, value and note."""
        rows = []
        for trial in self.finished():
            value = trial.value
            if trial.state == TrialState.PRUNED and trial.intermediate_values:
                value = max(trial.intermediate_values.values())
            row = {parameter: trial.params[parameter] for parameter in self.space.distributions}
            if "sampled" in trial.user_attrs:
                row["sampled"] = trial.user_attrs["sampled"]
            row |= {"state": trial.state.name.lower(), "value": math.nan if value is None else value}
            rows.append(row | {"steps": len(trial.intermediate_values)} | trial.user_attrs["note"])
        return sorted(rows, key=lambda row: [str(row[parameter]) for parameter in self.space.distributions])

    # Internals

    def _create(self):
        """Create the study's file if it is missing, in a temporary folder first: a crash must not leave half a file."""
        if not self._file.exists():
            with tempfile.TemporaryDirectory(dir=self.folder, suffix=".tmp") as folder:
                storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/new.db")
                study = optuna.create_study(study_name=self._name, storage=storage, direction="maximize")
                study.set_user_attr("origin", self.origin)
                storage.engine.dispose()
                os.replace(f"{folder}/new.db", self._file)
                flush(self.folder)
        self._open()

    def _open(self):
        if self._study is not None or not self._file.exists():
            return
        connect_args = {"timeout": 60, "factory": _Connection}
        try:
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{self._file}",
                engine_kwargs={"connect_args": connect_args},
                skip_table_creation=True,  # `_create` makes them; another database stays unchanged
            )
            study = optuna.load_study(study_name=self._name, storage=storage, pruner=self.space.pruner)
            begun_with, origin = study.user_attrs["origin"], self.origin
        except (DatabaseError, StorageInternalError, KeyError) as error:
            cause = error.__cause__ or error  # Optuna's own message says little
            raise ValueError(
                f"{self._file}: expected the study {self._name} ({getattr(cause, 'orig', cause)}); move the file away, "
                "or choose another --folder"
            ) from error
        if begun_with != origin:
            different = ", ".join(name for name in origin if begun_with.get(name) != origin[name])
            raise ValueError(
                f"{self._file}: begun with other settings ({different}); continue with those, or move the file away"
            )
        self._study = study

    def _sampler(self, n_before, is_random):
        """Return a sampler seeded for this trial: suggestions do not depend on how often trials were cut off."""
        seed = int(np.random.SeedSequence([self.space.seed, n_before]).generate_state(1)[0])
        if is_random:
            return optuna.samplers.RandomSampler(seed)
        return optuna.samplers.TPESampler(n_startup_trials=0, seed=seed, constant_liar=True)

    def _queue_cut_off(self):
        """Close the running trials whose lock is free, and queue the parameters of each once more."""
        trials = self.trials
        queued = {trial.user_attrs.get("again") for trial in trials}
        for trial in trials:
            if trial.state != TrialState.RUNNING or trial.number in self._running:
                continue
            lock = self._lock_of(trial.number)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            if trial.number not in queued:
                # Its worker may have died before it had all parameters. A trial from the queue has all of them in the
                # queue; for any other trial, all are suggested again.
                parameters = trial.system_attrs.get("fixed_params") or trial.params
                is_whole = parameters.keys() == self.space.distributions.keys()
                self._study.enqueue_trial(parameters if is_whole else {}, user_attrs={"again": trial.number})
            self._study.tell(trial.number, state=TrialState.FAIL)
            _let_go(lock)

    def _lock_of(self, number):
        return FileLock(self.folder / f"{self._name}.{number}.lock", thread_local=False)


def _let_go(lock):
    """Release and delete a trial's lock; the study's lock is held meanwhile, so nobody else can be waiting for it."""
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)


def _check_space(space):
    if space.sampler not in SAMPLERS:
        raise ValueError(f"sampler: expected one of {', '.join(SAMPLERS)}, got {space.sampler!r}")
    if not isinstance(space.n_trials, int) or space.n_trials < 1:
        raise ValueError(f"n_trials: expected an integer of at least 1, got {space.n_trials!r}")
    if not space.distributions:
        raise ValueError("search space: expected at least one parameter, got none")
    for name, distribution in space.distributions.items():
        if not isinstance(distribution, optuna.distributions.BaseDistribution):
            raise ValueError(f"search space: expected a distribution for {name}, got {distribution!r}")
        if space.sampler == "grid" and not isinstance(distribution, optuna.distributions.CategoricalDistribution):
            raise ValueError(f"search space: a grid needs choices for {name}, got {distribution!r}")
    if space.sampler == "grid":
        n_points = math.prod(len(distribution.choices) for distribution in space.distributions.values())
        if space.n_trials > n_points:
            raise ValueError(f"n_trials: expected at most {n_points}, the points of the grid, got {space.n_trials}")
