"""A study in one local file: many workers take trials from it, and whichever is killed, no trial is lost or done twice.

Optuna suggests the trials and keeps them, in SQLite. What it leaves to its users is whose a running trial is. Here each
belongs to an owner, who holds a file lock as long as he lives; the operating system lets go of it when he dies, however
that happens. So a running trial whose owner's lock is free was cut off: it is closed, and its parameters tried again.
"""

import itertools
import json
import math
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.WARNING)  # its greetings; progress is the caller's business

SAMPLERS = ("tpe", "random", "grid")
CUT_OFF = "cut off"


class Space(NamedTuple):
    """What a study searches, and how.

    Attributes
    ----------
    distributions : dict of str to optuna.distributions.BaseDistribution
        Of each parameter; for a grid, all of them categorical.
    n_trials : int
        How many are to be finished.
    sampler : {"tpe", "random", "grid"}
        The tree-structured Parzen estimator of J. Bergstra et al., 2011, which learns from the trials before; points
        drawn at random; or every combination once.
    pruner : optuna.pruners.BasePruner
        Which trials are given up early, by what they report; none unless asked for.
    seed : int
    shared : dict
        What all trials share, as JSON keeps it: a study that was begun with something else is not gone on with.
    """

    distributions: dict
    n_trials: int
    sampler: str = "tpe"
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    seed: int = 0
    shared: dict = {}  # noqa: RUF012  never changed

    def grid(self):
        """Return every combination of the choices, a list of dicts."""
        choices = [distribution.choices for distribution in self.distributions.values()]
        return [dict(zip(self.distributions, point, strict=True)) for point in itertools.product(*choices)]


class Study:
    """One worker's access to a study.

    Parameters
    ----------
    folder : path
        Holds the study's file, and its workers' locks.
    name : str
    space : Space

    Raises
    ------
    ValueError
        If the space is malformed, or the study in the file was begun with another one.
    """

    def __init__(self, folder, name, space):
        _check_space(space)
        self.space = space
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._name = name
        self._lock = FileLock(self._folder / f"{name}.lock")
        self._owner = None
        self._trials = {}
        with self._lock:  # two workers would both make its tables
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{self._folder / f'{name}.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self._study = optuna.create_study(
                study_name=name, storage=storage, direction="maximize", load_if_exists=True
            )
            self._check_origin()
        self._study.pruner = space.pruner

    def _check_origin(self):
        origin = self.origin
        begun_with = self._study.user_attrs.get("origin", origin)
        if begun_with != origin:
            different = ", ".join(name for name in origin if begun_with.get(name) != origin[name])
            raise ValueError(
                f"{self._folder / self._name}.db: begun with other settings ({different}); "
                "go on with those, or move it away"
            )

    # What workers do

    def ask(self, worker=""):
        """Take the next trial.

        Parameters
        ----------
        worker : str
            Who will run it, where one owner looks after several workers.

        Returns
        -------
        (int, dict) or None
            The trial's number and parameters; None if as many as asked for are finished or in good hands.
        """
        with self._lock:
            self._own()
            self._close_cut_off()
            trials = self.trials
            n_taken = sum(is_finished(trial) or trial.state == TrialState.RUNNING for trial in trials)
            if n_taken >= self.space.n_trials:
                return None
            self._prepare_suggestion(trials)
            trial = self._study.ask(self.space.distributions)
            trial.set_user_attr("owner", [self._owner.stem, worker])
        self._trials[trial.number] = trial
        return trial.number, trial.params

    def report(self, number, step, value):
        """Note how good a trial is after a step; return whether to give it up."""
        trial = self._trials[number]
        trial.report(value, step)
        return trial.should_prune()

    def finish(self, number, value=None, note=None, pruned=False):
        """End a trial.

        Parameters
        ----------
        number : int
        value : float, optional
            What the study is to raise; None or NaN if it failed.
        note : dict, optional
            What else to keep of it, such as the reason why it failed.
        pruned : bool
        """
        trial = self._trials.pop(number)
        trial.set_user_attr("note", note or {})
        if pruned:
            state = TrialState.PRUNED
        else:
            state = TrialState.FAIL if value is None or math.isnan(value) else TrialState.COMPLETE
        self._study.tell(trial, value if state == TrialState.COMPLETE else None, state)

    def abandon(self, worker):
        """Close the running trials of one of the owner's workers, which died; they are tried again."""
        with self._lock:
            self._own()
            self._close(lambda owner: owner == [self._owner.stem, worker])

    # What onlookers see

    @property
    def origin(self):
        """What the study searches and what its trials share, as JSON keeps it."""
        distributions = {
            parameter: json.loads(optuna.distributions.distribution_to_json(distribution))
            for parameter, distribution in self.space.distributions.items()
        }
        origin = {"distributions": distributions, "sampler": self.space.sampler, "seed": self.space.seed}
        return json.loads(json.dumps(origin | self.space.shared))

    @property
    def trials(self):
        """All trials, as Optuna keeps them."""
        return self._study.get_trials(deepcopy=False)

    def progress(self):
        """Return how many trials are finished, how many are running, and the best value so far, None without one."""
        trials = self.trials
        values = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
        n_running = sum(trial.state == TrialState.RUNNING for trial in trials)
        return sum(map(is_finished, trials)), n_running, max(values, default=None)

    def rows(self):
        """Return a row for each finished trial, sorted by parameters: state, value, its parameters and its note."""
        rows = []
        for trial in filter(is_finished, self.trials):
            value = trial.value
            if trial.state == TrialState.PRUNED and trial.intermediate_values:
                value = max(trial.intermediate_values.values())
            row = {parameter: trial.params[parameter] for parameter in self.space.distributions}
            row |= {"state": trial.state.name.lower(), "value": math.nan if value is None else value}
            rows.append(row | {"steps": len(trial.intermediate_values)} | trial.user_attrs["note"])
        return sorted(rows, key=lambda row: [str(row[parameter]) for parameter in self.space.distributions])

    # How it is done

    def _prepare_suggestion(self, trials):
        if any(trial.state == TrialState.WAITING for trial in trials):
            return  # one that was cut off comes first
        if self.space.sampler == "grid":
            taken = [trial.params for trial in trials]
            self._study.enqueue_trial(next(point for point in self.space.grid() if point not in taken))
        else:
            # A generator of its own for each trial drawn: what is suggested depends on the trials before it, not on
            # how often the study was interrupted.
            n_drawn = sum(self._is_point(trial.params) and "again" not in trial.user_attrs for trial in trials)
            seed = int(np.random.SeedSequence([self.space.seed, n_drawn]).generate_state(1)[0])
            self._study.sampler = (
                optuna.samplers.RandomSampler(seed)
                if self.space.sampler == "random"
                else optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            )

    def _is_point(self, parameters):
        return parameters.keys() == self.space.distributions.keys()

    def _own(self):
        """Settle what the study was begun with, and take the lock that shows that this worker lives, once."""
        if self._owner is None:
            self._check_origin()
            self._study.set_user_attr("origin", self.origin)
            self._owner = self._folder / f"{self._name}.{uuid.uuid4().hex}.owner"
            self._life = FileLock(self._owner)
            self._life.acquire()

    def _close_cut_off(self):
        dead = set()
        for path in self._folder.glob(f"{self._name}.*.owner"):
            if path != self._owner and not _is_held(path):
                dead.add(path.stem)
                path.unlink(missing_ok=True)
        living = {path.stem for path in self._folder.glob(f"{self._name}.*.owner")}
        self._close(lambda owner: owner is None or owner[0] not in living)

    def _close(self, is_dead):
        """Close the running trials whose owner is dead, and queue their parameters, each once."""
        trials = self.trials
        queued = {trial.user_attrs.get("again") for trial in trials}
        for trial in trials:
            if trial.state != TrialState.RUNNING or not is_dead(trial.user_attrs.get("owner")):
                continue
            # Its worker may have died between making it and giving it all parameters. Those of one that was queued
            # stand there whole; of any other there is nothing to try again, the next one is drawn anew.
            parameters = trial.system_attrs.get("fixed_params", trial.params)
            if self._is_point(parameters) and trial.number not in queued:
                self._study.enqueue_trial(parameters, user_attrs={"again": trial.number})
            self._study._storage.set_trial_user_attr(trial._trial_id, "note", {"reason": CUT_OFF})
            self._study.tell(trial.number, state=TrialState.FAIL)


def is_finished(trial):
    """Say whether a trial of Optuna's came to an end of its own: complete, pruned or failed, and not cut off."""
    return trial.state.is_finished() and trial.user_attrs.get("note", {}).get("reason") != CUT_OFF


def _is_held(path):
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


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
