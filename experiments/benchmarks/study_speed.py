"""Measure what a study costs besides its trials, what a second worker gains, and that kills lose nothing: make bench.

The study is the first trials of `python -m experiments run mlp_optimizer` on fewer images; they are the same whoever
runs them in whatever order. One worker runs them, then two, each on a processor core of its own. And a study is killed
with SIGKILL, all its processes at once, at twenty random moments, and finished.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tqdm import tqdm

from experiments import RESULTS, ROOT
from experiments.machine import measured_where
from experiments.workers import open_study
from model_utils.tables import write_csv

STORED, KILLS_STORED = RESULTS / "study_speed.csv", RESULTS / "study_kills.csv"
NAME = "mlp_optimizer"
TRIALS = 30
WORKERS, TRAIN_SIZE = (1, 2), 6_000
KILLS, KILLED_TRAIN_SIZE = 20, 1_000


def command(folder, train_size, workers):
    """The command line of a study."""
    options = ["--folder", str(folder), "--trials", str(TRIALS), "--train-size", str(train_size)]
    return [sys.executable, "-m", "experiments", "run", NAME, *options, "--workers", str(workers)]


def time_study(folder, workers):
    """Run the study with so many workers, each on a core of its own; return a row of what it took."""
    cores = sorted(os.sched_getaffinity(0))[:workers]
    started = time.perf_counter()
    subprocess.run(
        command(folder, TRAIN_SIZE, workers),
        cwd=ROOT,
        check=True,
        preexec_fn=partial(os.sched_setaffinity, 0, cores),
    )
    wall = time.perf_counter() - started
    rows = open_study(NAME, folder, TRIALS, TRAIN_SIZE)[1].rows()
    in_trials = sum(row["seconds"] for row in rows)
    return {
        "workers": workers,
        "train_size": TRAIN_SIZE,
        "trials": len(rows),
        "seconds": round(wall, 2),
        "seconds_in_trials": round(in_trials, 2),
    } | measured_where()


def kill_and_finish(folder, rng):
    """Kill a study at random moments, finish it, and return a row: kills, and trials lost or done twice."""
    _, study = open_study(NAME, folder, TRIALS, KILLED_TRAIN_SIZE)
    n_kills = finished_before = lost = 0
    for _ in tqdm(range(KILLS), desc="kills", file=sys.stdout):
        process = subprocess.Popen(
            command(folder, KILLED_TRAIN_SIZE, 2), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(rng.uniform(4, 20))  # it takes some seconds to start
        os.killpg(process.pid, signal.SIGKILL)
        n_kills += process.wait() == -signal.SIGKILL
        n_finished, _, _ = study.progress()
        lost += max(0, finished_before - n_finished)
        finished_before = n_finished
    subprocess.run(command(folder, KILLED_TRAIN_SIZE, 2), cwd=ROOT, check=True)
    n_finished, n_running, _ = study.progress()
    again = [trial.user_attrs["again"] for trial in study.trials if "again" in trial.user_attrs]
    return {
        "kills": n_kills,
        "trials": n_finished,
        "cut_off": len(set(again)),
        "lost": lost + n_running + max(0, TRIALS - n_finished),
        "done_twice": len(again) - len(set(again)) + max(0, n_finished - TRIALS),
    } | measured_where()


def main():
    """Measure and store."""
    if not hasattr(os, "sched_setaffinity"):
        print("left out: studies, whose workers get a core of their own, as only Linux gives")
        return
    with tempfile.TemporaryDirectory() as folder:
        write_csv(KILLS_STORED, [kill_and_finish(Path(folder) / "killed", random.Random(0))])
        write_csv(STORED, [time_study(Path(folder) / str(workers), workers) for workers in WORKERS])


if __name__ == "__main__":
    main()
