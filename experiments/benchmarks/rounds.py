"""Time contestants that take turns, so that a drift of the machine's speed meets all of them."""

import sys
import time

import pandas as pd
from tqdm import tqdm

from experiments.machine import measured_where
from experiments.stored import read_rows
from model_utils.files import replacing
from model_utils.tables import markdown_table


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
    new = pd.DataFrame(rows)
    stored = read_rows(path) if path.exists() else new[:0]
    is_replaced = stored["processor"].isin(new["processor"])
    key = ["contestant", *columns]
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
