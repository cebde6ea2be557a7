"""The report's texts and tables on speed and memory, from the tables that the benchmarks stored."""

import statistics

from experiments.benchmarks import cnn_accuracy, cnn_epoch, mlp_memory, mlp_race, prediction
from experiments.benchmarks.rivals import RIVALS
from experiments.stored import read_rows
from model_utils.tables import markdown_table

PREDICTORS = {
    "mlp": "hand-written MLP",
    "mlp_pytorch": "MLP in PyTorch",
    "pair": "CNN + hand-written MLP",
    "pair_onnxruntime": "CNN + MLP in onnxruntime",
}


def by_machine(table):
    """Return the rows of each CPU and number of threads, the latest measurement last."""
    groups = (rows for _, rows in table.groupby(["processor", "threads"], sort=False))
    return sorted(groups, key=lambda rows: rows["date"].max())


def round_by_round(rows, contestant, other):
    """Return the seconds of a contestant divided by those of another, round by round, as a Series."""
    seconds = rows.pivot(index="round", columns="contestant", values="seconds")
    return seconds[contestant] / seconds[other]


def machine(rows):
    """Return the CPU, threads, kind of OpenBLAS and commit that the rows were measured with, as text."""
    row = rows.iloc[0]
    parts = [f"{row['processor']}, {row['threads']} threads" if row["threads"] > 1 else f"{row['processor']}, 1 thread"]
    parts += [f"OpenBLAS for {row['blas_kernel']}"] if row["blas_kernel"] else []
    parts += [f"commit {row['commit']}"] if row["commit"] else []
    return ", ".join(parts)


# The race of the MLP -------------------------------------------------------------------------------------------------


def race_cells(rows):
    """Return, for each network and batch size, the median seconds by hand and how many times as long the others take.

    Returns
    -------
    dict of (str, int) to (float, dict of str to float)
    """
    cells = {}
    for cell, group in rows.groupby(["network", "batch_size"], sort=False):
        others = [name for name in group["contestant"].unique() if name != "numpy"]
        times = {name: round_by_round(group, name, "numpy").median() for name in others}
        cells[cell] = group.loc[group["contestant"] == "numpy", "seconds"].median(), times
    return cells


def race_text():
    """Return a table of the race and a summary, for each CPU that it was run on."""
    return "\n\n".join(map(_race_text, by_machine(read_rows(mlp_race.STORED))))


def _race_text(rows):
    cells = race_cells(rows)
    versions = dict(zip(rows["contestant"], rows["version"], strict=True))
    rivals = [name for name in versions if name not in ("numpy", "floor")]
    table = markdown_table(
        ["network", "batch", "by hand", *(f"{RIVALS[name].title} {versions[name]}" for name in rivals), "floor"],
        [
            (
                network,
                batch_size,
                f"{seconds:.2f} s",
                *(f"{times[name]:.2f}" for name in rivals),
                f"{times['floor']:.2f}",
            )
            for (network, batch_size), (seconds, times) in cells.items()
        ],
    )
    by_hand = rows[rows["contestant"] == "numpy"].groupby(["network", "batch_size"], sort=False)["seconds"]
    unsteady = [f"{network} in batches of {size}" for (network, size), t in by_hand if t.max() > 1.5 * t.min()]
    disturbed = f" Other work probably disturbed {' and '.join(unsteady)}: the rounds differ by more than half."
    eager = [times["pytorch"] for _, times in cells.values()]
    fastest = [min(times[name] for name in rivals) for _, times in cells.values()]
    return (
        f"{machine(rows)}, NumPy {versions['numpy']}, {rows['round'].max()} rounds:\n\n{table}\n\n"
        f"In the geometric mean of the {len(cells)} cells, PyTorch without compilation takes "
        f"{statistics.geometric_mean(eager):.2f} times as long as the hand-written MLP, in its best cell "
        f"{min(eager):.2f} times. The fastest rival in each cell takes {statistics.geometric_mean(fastest):.2f} times "
        f"as long in the geometric mean, and {min(fastest):.2f} times where it is furthest ahead."
        f"{disturbed if unsteady else ''}"
    )


# Memory --------------------------------------------------------------------------------------------------------------


def memory_text():
    """Return sentences on how much memory training takes."""
    row = read_rows(mlp_memory.STORED).iloc[0]
    megabytes = row / 1e6
    return (
        f"Training 784-256-128-10 on 60,000 images needs at most {megabytes['training']:.0f} MB, Python and all "
        f"libraries included. That is {row['training'] / row['data_in_float32']:.2f} times the "
        f"{megabytes['data_in_float32']:.0f} MB that the images alone would take in float32. Reading the files "
        f"beforehand needs {megabytes['loading']:.0f} MB."
    )


# The CNN -------------------------------------------------------------------------------------------------------------


def cnn_epoch_text():
    """Return a table of how long an epoch takes in `cnn.py` and in the usual loop, for each CPU."""
    rows = []
    for measured in by_machine(read_rows(cnn_epoch.STORED)):
        medians = measured.groupby("contestant")["seconds"].median()
        times = round_by_round(measured, "usual", "ours")
        ratio = f"{times.median():.2f} ({times.min():.2f} to {times.max():.2f})"
        rows.append((machine(measured), f"{medians['ours']:.1f} s", f"{medians['usual']:.1f} s", ratio))
    return markdown_table(["measured on", "`cnn.py`", "usual loop", "ratio, median and range"], rows)


def cnn_accuracy_text():
    """Return sentences on how long `cnn.py` and the usual loop take to reach a test accuracy of 0.93."""
    rows = read_rows(cnn_accuracy.STORED)
    ours, usual = rows[rows["contestant"] == "ours"].iloc[0], rows[rows["contestant"] == "usual"]
    last = usual.loc[usual["epoch"].idxmax()]
    text = (
        f"With the hand-written MLP on its features, the same backbone reaches a test accuracy of "
        f"{ours['accuracy']:.4f} after {ours['seconds']:.0f} s of training on {machine(rows)}. "
    )
    if last["accuracy"] >= cnn_accuracy.GOAL:
        return text + f"The usual loop reaches {last['accuracy']:.4f} after {last['seconds']:.0f} s (one run each)."
    return text + (
        f"The usual loop reaches at most {usual['accuracy'].max():.4f} in {last['epoch']} epochs, which take "
        f"{last['seconds']:.0f} s (one run each)."
    )


def prediction_text():
    """Return a table of how fast the saved models predict, on the CPU that was measured last."""
    rows = by_machine(read_rows(prediction.STORED))[-1]
    medians = rows.groupby(["contestant", "images"])["seconds"].median()
    many = rows["images"].max()
    table = markdown_table(
        ["model", f"images per second, {many:,} at once", "one image"],
        [
            (PREDICTORS[name], f"{many / medians[name, many]:,.0f}", f"{medians[name, 1] * 1e3:.2f} ms")
            for name in rows["contestant"].unique()
        ],
    )
    return (
        "Predictions of the best saved MLP, from one view, and of 16-32-64-128-256 with its MLP, from ten views; "
        f"medians of {rows['round'].max()} rounds on {machine(rows)}:\n\n{table}"
    )
