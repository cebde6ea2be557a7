"""Time contestants that take turns, so that a drift of the machine's speed meets all of them."""

import platform
import re
import statistics
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.report import by_processor, read, seconds_by
from model_utils.tables import markdown_table, write_csv


def alternate(contestants, n_rounds, **columns):
    """Run every contestant once a round; the first round only warms up.

    Parameters
    ----------
    contestants : dict of (str, str) to function
        By name and version, a function that does the work.
    n_rounds : int
    **columns
        What else each row shall say.

    Returns
    -------
    list of dict
        A row a contestant and round, with the seconds that it took, and where, and by which commit's code.
    """
    rows = []
    where = measured_where()
    title = " ".join(map(str, columns.values())) or "rounds"
    for round_number in tqdm(range(n_rounds + 1), desc=title, file=sys.stdout):
        for (contestant, version), work in contestants.items():
            started = time.perf_counter()
            work()
            seconds = time.perf_counter() - started
            if round_number:
                who = {"contestant": contestant, "version": version}
                rows.append(columns | who | {"round": round_number, "seconds": round(seconds, 5)} | where)
    return rows


def store(path, rows, *columns):
    """Write rows in the place of those stored before from the same processor; those of other processors stay.

    Prints how each median compares with the one stored before, so that nothing gets slower unseen.

    Parameters
    ----------
    path : path
    rows : list of dict
        From `alternate`.
    *columns : str
        Those that tell the rows of a contestant apart.
    """
    stored = by_processor(read(path)) if path.exists() else {}
    replaced = stored.pop(rows[0]["processor"], [])
    before, now = (
        {key: statistics.median(seconds) for key, seconds in seconds_by(some, "contestant", *columns).items()}
        for some in (replaced, rows)
    )
    table = [
        (*key, f"{now[key]:.4f}", f"{before[key]:.4f}", f"{now[key] / before[key]:.2f}") for key in now if key in before
    ]
    if table:
        print(markdown_table(["contestant", *columns, "seconds", "stored", "ratio"], table))
    write_csv(path, [*chain(*stored.values()), *rows])


def measured_where():
    """Return what every stored measurement says of the machine and the code: processor, threads, commit."""
    return {"processor": processor_name(), "threads": torch.get_num_threads(), "commit": commit()}


def processor_name():
    """Return the processor's name; Linux keeps it where `platform` does not look."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return names[0] if names else platform.processor()


def commit():
    """Return the short hash of the checked-out commit, with a plus if tracked files differ from it; "" without git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
