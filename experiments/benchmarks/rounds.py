"""Time contestants that take turns, so that changes in the machine's speed affect all of them: make bench.

Each contestant has its own process. Threads that wait for work often spin, so in one process the threads of one library
would take the CPU from the next. A contestant that waits for its turn sleeps.
"""

import contextlib
import multiprocessing
import os
import sys
import time
from importlib import metadata

import pandas as pd
from tqdm import tqdm

from experiments.machine import THREAD_VARIABLES, blas_kernel, measured_where
from experiments.stored import read_rows
from model_utils.files import replacing
from model_utils.tables import markdown_table

N_THREADS = 2
# If these are set, NumPy's OpenBLAS runs the kernels of an older CPU.
KERNEL_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def alternate(contestants, n_rounds, n_threads=N_THREADS, check=None, **columns):
    """Run every contestant once in each round, and time it; the first round only warms up.

    Parameters
    ----------
    contestants : dict of str to (str, function)
        For each name, the package whose version is stored, and a function that can be pickled. It is called once, in
        the contestant's process, and returns the function that does the work. If it raises an ImportError, the
        contestant is left out.
    n_rounds : int
    n_threads : int
        Processor cores, and threads, for each contestant.
    check : function, optional
        Called with a dict of what each contestant's work returned in the first round; raises if the results differ.
    **columns
        What else to store in each row.

    Returns
    -------
    list of dict
        One row for each contestant and round, with its seconds, the machine and the commit.
    """
    rows = []
    where = measured_where()
    title = " ".join(map(str, columns.values())) or "rounds"
    with contextlib.ExitStack() as stack:
        kernels, runners = {}, {}
        for name, (_, make) in contestants.items():
            runner = stack.enter_context(_in_a_process(make, n_threads))
            problem, kernels[name] = runner.recv()
            if problem:
                print(f"left out: {name} ({problem})")
            else:
                runners[name] = runner
        for round_number in tqdm(range(n_rounds + 1), desc=f"{title}, {n_threads} threads", file=sys.stdout):
            results = {}
            for name, runner in runners.items():
                runner.send("go")
                seconds, results[name] = runner.recv()
                who = {"contestant": name, "version": metadata.version(contestants[name][0])}
                if round_number:
                    machine = where | {"threads": n_threads, "blas_kernel": kernels[name]}
                    rows.append(columns | who | {"round": round_number, "seconds": round(seconds, 5)} | machine)
            if check is not None and not round_number:
                check(results)
    return rows


@contextlib.contextmanager
def _in_a_process(make, n_threads):
    """Start a process for a contestant; yield the connection to it, and end it afterwards."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, make, n_threads))
    environment = dict(os.environ)
    for name in KERNEL_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(environment)
    there.close()  # so that recv raises EOFError here when the process ends
    try:
        yield here
    finally:
        here.close()
        process.join()


def _serve(connection, make, n_threads):
    """Do the work whenever asked to; send back the seconds that it took, and what it returned."""
    if hasattr(os, "sched_setaffinity"):  # some libraries start a thread for each CPU that they see
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_threads])
    try:
        work = make()
    except ImportError as error:
        connection.send((str(error), ""))
        return
    connection.send(("", blas_kernel()))
    with contextlib.suppress(EOFError):  # the rounds are over
        while connection.recv():
            started = time.perf_counter()
            result = work()
            connection.send((time.perf_counter() - started, result))


def store(path, rows, *columns):
    """Replace the stored rows of the same CPU with new ones; rows of other CPUs stay.

    Also print how each median compares with the one stored before, so that nobody overlooks a slowdown.

    Parameters
    ----------
    path : path
    rows : list of dict
        From `alternate`.
    *columns : str
        The columns that tell the rows of a contestant apart.
    """
    new = pd.DataFrame(rows)
    stored = read_rows(path) if path.exists() else new[:0]
    is_replaced = stored["processor"].isin(new["processor"])
    key = ["contestant", "threads", *columns]
    medians = pd.DataFrame(
        {
            "seconds": new.groupby(key, sort=False)["seconds"].median(),
            "stored": stored[is_replaced].groupby(key, sort=False)["seconds"].median(),
        }
    ).dropna()
    medians["ratio"] = medians["seconds"] / medians["stored"]
    if len(medians):
        cells = medians.reset_index().itertuples(index=False)
        print(markdown_table([*key, *medians.columns], [(*row[:-3], *(f"{x:.4f}" for x in row[-3:])) for row in cells]))
    with replacing(path) as unfinished:
        pd.concat([stored[~is_replaced], new]).to_csv(unfinished, index=False)
