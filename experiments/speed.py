"""What README says of the stored measurements of speed and memory, so that no number in it is typed by hand.

python -m benchmarks.report README.md    write it between the marks
"""

import statistics
import sys

from model_utils import plots
from model_utils.results import RESULTS, write_between_marks
from model_utils.tables import markdown_table, read_csv

RACE, GROWTH, MEMORY, CNN_EPOCH, CNN_ACCURACY, PREDICTION, STUDY_SPEED, STUDY_KILLS = (
    RESULTS / f"{name}.csv"
    for name in (
        "mlp_race",
        "mlp_growth",
        "mlp_memory",
        "cnn_epoch",
        "cnn_accuracy",
        "prediction",
        "study_speed",
        "study_kills",
    )
)
TEXT_COLUMNS = ("contestant", "version", "processor", "commit", "network", "panel", "task")

OURS, FLOOR = "NumPy by hand", "products alone"
GOAL = 0.93  # test accuracy that the CNN's contestants run for


def read(path):
    """Read what `rounds.store` wrote."""
    return read_csv(path, TEXT_COLUMNS)


def seconds_by(rows, *columns):
    """Return the seconds of all rounds, for each combination of values in the columns, in order of appearance."""
    seconds = {}
    for row in rows:
        seconds.setdefault(tuple(row[column] for column in columns), []).append(row["seconds"])
    return seconds


def by_processor(rows):
    """Return the rows of each processor by its name; the one measured last comes last."""
    groups = {}
    for row in rows:
        groups.setdefault(row["processor"], []).append(row)
    return groups


def ratios(numerators, denominators):
    """Divide round by round; return the median of the ratios, and the lowest and highest."""
    quotients = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return statistics.median(quotients), min(quotients), max(quotients)


def machine(rows):
    """Name the processor, the threads and the commit that the rows were measured with."""
    row = rows[0]
    return f"{row['processor']} with {row['threads']} threads" + (f", commit {row['commit']}" if row["commit"] else "")


# The race of the MLP -------------------------------------------------------------------------------------------------


def race_cells(rows):
    """For each cell, network and batch size: the median seconds by hand, and how many times that the others take.

    Returns
    -------
    dict of (str, int) to (float, dict of str to float)
    """
    seconds = seconds_by(rows, "network", "batch_size", "contestant")
    cells = {}
    for (network, batch_size, contestant), rounds in seconds.items():
        by_hand = seconds[network, batch_size, OURS]
        _, times = cells.setdefault((network, batch_size), (statistics.median(by_hand), {}))
        if contestant != OURS:
            times[contestant] = ratios(rounds, by_hand)[0]
    return cells


def race_text(path=RACE):
    """Lay out the race as a table, and say what it comes to, for each processor that it was run on."""
    return "\n\n".join(map(_race_text, by_processor(read(path)).values()))


def _race_text(rows):
    cells = race_cells(rows)
    versions = {row["contestant"]: row["version"] for row in rows}
    rivals = [name for name in versions if name not in (OURS, FLOOR)]
    table = markdown_table(
        ["network", "batch", "by hand", *rivals, "floor"],
        [
            (network, batch_size, f"{seconds:.2f} s", *(f"{times[name]:.2f}" for name in rivals), f"{times[FLOOR]:.2f}")
            for (network, batch_size), (seconds, times) in cells.items()
        ],
    )
    eager = [times["PyTorch"] for _, times in cells.values()]
    fastest = [min(times[name] for name in rivals) for _, times in cells.values()]
    n_rounds = max(row["round"] for row in rows)
    return (
        f"Seconds for an epoch of 60,000 images, and how many times as long the others take: medians of {n_rounds} "
        f"rounds in which all take turns, on {machine(rows)}. NumPy {versions[OURS]}, "
        f"{', '.join(f'{name} {versions[name]}' for name in rivals)}. The floor is the share of the epoch that NumPy's "
        f"matrix products alone take.\n\n{table}\n\n"
        f"Against eager PyTorch the epoch by hand is {statistics.geometric_mean(eager):.2f} times as fast in the "
        f"geometric mean of the {len(cells)} cells, {min(eager):.2f} in the worst. Against the fastest rival in each "
        f"cell it is {statistics.geometric_mean(fastest):.2f} times as fast, {min(fastest):.2f} in the worst."
    )


# Memory and growth ---------------------------------------------------------------------------------------------------


def memory_text(path=MEMORY):
    """Say how much memory training takes."""
    (row,) = read_csv(path)
    megabytes = {name: size / 1e6 for name, size in row.items()}
    return (
        f"Training 784-256-128-10 on 60,000 images takes {megabytes['training']:.0f} MB at its peak, Python and all "
        f"libraries included, {row['training'] / row['data_in_float32']:.2f} times the "
        f"{megabytes['data_in_float32']:.0f} MB that the images would take in float32; reading the files before that, "
        f"{megabytes['loading']:.0f} MB."
    )


def growth_figure(path=GROWTH):
    """Draw how the time of an epoch grows, a panel a cause."""
    panels = {}
    *_, newest = by_processor(read(path)).values()
    for (panel, value), seconds in seconds_by(newest, "panel", "contestant").items():
        panels.setdefault(panel, []).append((int(value), statistics.median(seconds)))
    return plots.growth(panels, "seconds an epoch")


# The CNN -------------------------------------------------------------------------------------------------------------


def cnn_epoch_text(path=CNN_EPOCH):
    """Say how long an epoch takes in `cnn.py` and in the usual loop, on each processor that they were timed on."""
    return "\n\n".join(map(_cnn_epoch_text, by_processor(read(path)).values()))


def _cnn_epoch_text(rows):
    seconds = seconds_by(rows, "contestant")
    ours, usual = seconds["cnn.py",], seconds["usual loop",]
    times, low, high = ratios(usual, ours)
    return (
        f"An epoch of the 16-32-64-128-256 backbone on 48,000 images takes {statistics.median(ours):.1f} s in `cnn.py` "
        f"(batches of 128) and {statistics.median(usual):.1f} s in the usual loop (a Dataset that converts each "
        f"sample, a DataLoader with batches of 64, Adam, float32), both in PyTorch {rows[0]['version']}, medians of "
        f"{len(ours)} alternating rounds on {machine(rows)}. Round by round, `cnn.py` is {times:.2f} times as fast in "
        f"the median ({low:.2f} to {high:.2f})."
    )


def cnn_accuracy_text(path=CNN_ACCURACY):
    """Say how long it takes to 0.93 test accuracy in `cnn.py` and in the usual loop."""
    rows = read(path)
    ours, *usual = rows
    best, last = max(usual, key=lambda row: row["accuracy"]), usual[-1]
    text = (
        f"The same backbone, and the MLP by hand on its features, come to {ours['accuracy']:.4f} test accuracy after "
        f"{ours['seconds']:.0f} s of training on {machine(rows)}, "
    )
    if last["accuracy"] >= GOAL:
        return text + f"the usual loop to {last['accuracy']:.4f} after {last['seconds']:.0f} s."
    return text + (
        f"the usual loop to no more than {best['accuracy']:.4f} in {last['epoch']} epochs, {last['seconds']:.0f} s "
        "(one run each)."
    )


def prediction_text(path=PREDICTION):
    """Lay out how fast the saved models predict, on the processor that they were timed on last."""
    *_, rows = by_processor(read(path)).values()
    predictions = [row for row in rows if row["task"] == "predict"]
    medians = {key: statistics.median(s) for key, s in seconds_by(predictions, "contestant", "images").items()}
    many = max(row["images"] for row in predictions)
    table = markdown_table(
        ["model", f"images a second, {many:,} at once", "one image"],
        [
            (name, f"{many / medians[name, many]:,.0f}", f"{medians[name, 1] * 1e3:.2f} ms")
            for name in dict.fromkeys(row["contestant"] for row in predictions)
        ],
    )
    n_rounds = max(row["round"] for row in rows)
    way_there = [row for row in rows if row["task"] != "predict"]
    features, training = map(statistics.median, seconds_by(way_there, "contestant").values())
    return (
        f"Predictions from raw pixels, medians of {n_rounds} rounds on {machine(rows)}:\n\n{table}\n\n"
        f"The features of {way_there[0]['images']:,} images, ten views of each, take {features:.1f} s, "
        f"the {way_there[-1]['contestant']}, on them {training:.1f} s."
    )


def study_text(speed=STUDY_SPEED, kills=STUDY_KILLS):
    """Say what a study costs besides its trials, what a second worker gains, and what kills lose."""
    full, one, two = read(speed)
    (killed,) = read(kills)
    overhead = 1 - full["seconds_in_trials"] / (full["workers"] * full["seconds"])
    return (
        f"{full['trials']} random trials of the MLP on {full['train_size']:,} images take two workers, each on a "
        f"processor core, {full['seconds']:.0f} s, {overhead:.1%} of their time outside the trials: starting, asking, "
        f"storing and waiting for the last one. On {one['train_size']:,} images they take one worker "
        f"{one['seconds']:.0f} s and two {two['seconds']:.0f} s, {one['seconds'] / two['seconds']:.2f} times as fast "
        f"({machine([one])}). Killed with all its processes at {killed['kills']} random moments, a study of "
        f"{killed['trials']} trials had {killed['cut_off']} cut off, {killed['lost']} lost and {killed['done_twice']} "
        "done twice."
    )


def speed_text():
    """Everything that README says of speed and memory."""
    parts = [race_text(), memory_text(), "![How the time of an epoch grows](figures/growth.png)"]
    return "\n\n".join([*parts, cnn_epoch_text(), cnn_accuracy_text(), prediction_text()])


if __name__ == "__main__":
    write_between_marks(sys.argv[1], "speed", speed_text())
