"""What the report says of speed and memory, from the tables that the benchmarks stored."""

import statistics

from experiments import figures
from experiments.benchmarks import cnn_accuracy, cnn_epoch, mlp_growth, mlp_race, prediction, study_speed
from experiments.benchmarks.rivals import RIVALS
from experiments.stored import read_rows
from model_utils.tables import markdown_table

CAUSES = {
    "width": "units of the hidden layer",
    "depth": "hidden layers of 128 units",
    "batch_size": "batch size",
    "images": "images",
}
PREDICTORS = {
    "mlp": "MLP by hand",
    "mlp_pytorch": "MLP in PyTorch",
    "pair": "CNN + MLP by hand",
    "pair_onnxruntime": "CNN + MLP in onnxruntime",
}


def by_machine(table):
    """Return the rows of each processor and number of threads; those measured last come last."""
    groups = (rows for _, rows in table.groupby(["processor", "threads"], sort=False))
    return sorted(groups, key=lambda rows: rows["date"].max())


def round_by_round(rows, contestant, other):
    """Divide the seconds of a contestant by those of another, round by round, as a Series."""
    seconds = rows.pivot(index="round", columns="contestant", values="seconds")
    return seconds[contestant] / seconds[other]


def machine(rows):
    """Name the processor, the threads, NumPy's kernels and the commit that the rows were measured with."""
    row = rows.iloc[0]
    parts = [f"{row['processor']}, {row['threads']} threads" if row["threads"] > 1 else f"{row['processor']}, 1 thread"]
    parts += [f"{row['blas_kernel']} kernels"] if row["blas_kernel"] else []
    parts += [f"commit {row['commit']}"] if row["commit"] else []
    return ", ".join(parts)


# The race of the MLP -------------------------------------------------------------------------------------------------


def race_cells(rows):
    """For each cell, network and batch size: the median seconds by hand, and how many times that the others take.

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


def race_text(path=mlp_race.STORED):
    """Lay out the race as a table, and say what it comes to, for each processor that it was run on."""
    return "\n\n".join(map(_race_text, by_machine(read_rows(path))))


def _race_text(rows):
    cells = race_cells(rows)
    versions = dict(zip(rows["contestant"], rows["version"], strict=True))
    rivals = [name for name in versions if name not in ("numpy", "floor")]
    table = markdown_table(
        ["network", "batch", "by hand", *(RIVALS[name].title for name in rivals), "floor"],
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
    eager = [times["pytorch"] for _, times in cells.values()]
    fastest = [min(times[name] for name in rivals) for _, times in cells.values()]
    return (
        f"Seconds for an epoch of 60,000 images, and how many times as long the others take: medians of "
        f"{rows['round'].max()} rounds in which all take turns, on {machine(rows)}. NumPy {versions['numpy']}, "
        f"{', '.join(f'{RIVALS[name].title} {versions[name]}' for name in rivals)}. The floor is the share of the "
        f"epoch that NumPy's matrix products alone take.\n\n{table}\n\n"
        f"Against eager PyTorch the epoch by hand is {statistics.geometric_mean(eager):.2f} times as fast in the "
        f"geometric mean of the {len(cells)} cells, {min(eager):.2f} in the worst. Against the fastest rival in each "
        f"cell it is {statistics.geometric_mean(fastest):.2f} times as fast, {min(fastest):.2f} in the worst."
    )


# Memory and growth ---------------------------------------------------------------------------------------------------


def memory_text(path=mlp_growth.MEMORY):
    """Say how much memory training takes."""
    row = read_rows(path).iloc[0]
    megabytes = row / 1e6
    return (
        f"Training 784-256-128-10 on 60,000 images takes {megabytes['training']:.0f} MB at its peak, Python and all "
        f"libraries included, {row['training'] / row['data_in_float32']:.2f} times the "
        f"{megabytes['data_in_float32']:.0f} MB that the images would take in float32; reading the files before that, "
        f"{megabytes['loading']:.0f} MB."
    )


def growth_figure(path=mlp_growth.STORED):
    """Draw how the time of an epoch grows, a panel a cause, on the processor that was measured last."""
    newest = by_machine(read_rows(path))[-1]
    medians = newest.groupby(["panel", "value"], sort=False)["seconds"].median()
    panels = {title: [*medians[cause].items()] for cause, title in CAUSES.items()}
    return figures.growth(panels, "seconds an epoch")


# The CNN -------------------------------------------------------------------------------------------------------------


def cnn_epoch_text(path=cnn_epoch.STORED):
    """Say how long an epoch takes in `cnn.py` and in the usual loop, on each processor that they were timed on."""
    return "\n\n".join(map(_cnn_epoch_text, by_machine(read_rows(path))))


def _cnn_epoch_text(rows):
    medians = rows.groupby("contestant")["seconds"].median()
    times = round_by_round(rows, "usual", "ours")
    return (
        f"An epoch of the 16-32-64-128-256 backbone on 48,000 images takes {medians['ours']:.1f} s in `cnn.py` "
        f"(batches of 128) and {medians['usual']:.1f} s in the usual loop (a Dataset that converts each "
        f"sample, a DataLoader with batches of 64, Adam, float32), both in PyTorch {rows['version'].iloc[0]}, medians "
        f"of {len(times)} alternating rounds on {machine(rows)}. Round by round, `cnn.py` is {times.median():.2f} "
        f"times as fast in the median ({times.min():.2f} to {times.max():.2f})."
    )


def cnn_accuracy_text(path=cnn_accuracy.STORED):
    """Say how long it takes to 0.93 test accuracy in `cnn.py` and in the usual loop."""
    rows = read_rows(path)
    ours, usual = rows[rows["contestant"] == "ours"].iloc[0], rows[rows["contestant"] == "usual"]
    last = usual.loc[usual["epoch"].idxmax()]
    text = (
        f"The same backbone, and the MLP by hand on its features, reach {ours['accuracy']:.4f} test accuracy after "
        f"{ours['seconds']:.0f} s of training on {machine(rows)}, "
    )
    if last["accuracy"] >= cnn_accuracy.GOAL:
        return text + f"the usual loop {last['accuracy']:.4f} after {last['seconds']:.0f} s."
    return text + (
        f"the usual loop no more than {usual['accuracy'].max():.4f} in {last['epoch']} epochs, {last['seconds']:.0f} s "
        "(one run each)."
    )


def prediction_text(path=prediction.STORED):
    """Lay out how fast the saved models predict, on the processor that they were timed on last."""
    rows = by_machine(read_rows(path))[-1]
    medians = rows.groupby(["contestant", "images"])["seconds"].median()
    many = rows["images"].max()
    table = markdown_table(
        ["model", f"images a second, {many:,} at once", "one image"],
        [
            (PREDICTORS[name], f"{many / medians[name, many]:,.0f}", f"{medians[name, 1] * 1e3:.2f} ms")
            for name in rows["contestant"].unique()
        ],
    )
    return f"Predictions from raw pixels, medians of {rows['round'].max()} rounds on {machine(rows)}:\n\n{table}"


def study_text(speed=study_speed.STORED, kills=study_speed.KILLS_STORED):
    """Say what a study costs besides its trials, what a second worker gains, and what kills lose."""
    runs, killed = read_rows(speed), read_rows(kills).iloc[0]
    one, two = (runs[runs["workers"] == n].iloc[0] for n in (1, 2))
    overhead = 1 - two["seconds_in_trials"] / (2 * two["seconds"])
    seconds = {row["workers"]: row["seconds"] for row in (one, two)}
    return (
        f"{one['trials']} trials of the MLP on {one['train_size']:,} images take one worker {seconds[1]:.0f} s. Two, "
        f"each on a processor core of its own, take {seconds[2]:.0f} s: {seconds[1] / seconds[2]:.2f} times as fast "
        f"({machine(runs)}). Two workers spend {overhead:.1%} of their time on other things than the trials: starting, "
        f"asking, storing and waiting for the last one. Killed with all its processes at {killed['kills']} random "
        f"moments, a study of {killed['trials']} trials had {killed['cut_off']} cut off, {killed['lost']} lost and "
        f"{killed['done_twice']} done twice."
    )
