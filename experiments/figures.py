"""Figures of comparisons, searches and speed. Each function returns a matplotlib Figure."""

import itertools
import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from data_preparation import CLASS_NAMES
from model_utils.plots import confusion_matrices, new_figure

PRINTED = 8  # inches, about the width of the text on A4: the width of figures for the report alone


def accuracy_grids(accuracies, notes, titles, row_labels, column_labels):
    """Draw accuracies as grids side by side, with number and note in each cell and one colour scale for all.

    Parameters
    ----------
    accuracies : ndarray, shape (G, R, C)
    notes : ndarray of str, shape (G, R, C)
    titles, row_labels, column_labels : sequence of str
        G, R and C of them.
    """
    figure, [axes] = new_figure(0.45 * len(row_labels) + 1.2, 1, len(titles), sharey=True)
    low, high = np.nanmin(accuracies), np.nanmax(accuracies)
    for grid, noted, title, ax in zip(accuracies, notes, titles, axes, strict=True):
        ax.imshow(grid, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for row, column in np.ndindex(grid.shape):
            is_dark = grid[row, column] < (low + high) / 2
            text, color = f"{grid[row, column]:.4f}\n{noted[row, column]}", "kw"[int(is_dark)]
            ax.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
        ax.set_xticks(range(len(column_labels)), column_labels)
        ax.set_yticks(range(len(row_labels)), row_labels)
        ax.set_title(title)
    return figure


def labelled_points(points, xlabel, ylabel):
    """Draw points with their names, x on a logarithmic axis.

    Parameters
    ----------
    points : dict of str to (float, float)
    xlabel, ylabel : str
    """
    figure, [[axes]] = new_figure(5)
    axes.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    axes.margins(x=0.12, y=0.08)
    axes.grid(alpha=0.3)
    taken = []  # what a name must not cover, in pixels: the points, and earlier names
    for position in points.values():
        axes.scatter(*position, s=25, color="tab:blue")
    figure.draw_without_rendering()  # from here on, positions in pixels are known
    for position in points.values():
        x, y = axes.transData.transform(position)
        taken.append(Bbox.from_bounds(x - 3, y - 3, 6, 6))
    # To the right or left of the point, above or below it; if there is no room, a line of text further away.
    places = [(right, up * (4 + 10 * line)) for line in range(3) for up in (1, -1) for right in (6, -6)]
    for name, position in points.items():
        for right, up in places:  # the first one with room, or the last one
            style = {"ha": "left" if right > 0 else "right", "va": "bottom" if up > 0 else "top", "fontsize": 8}
            text = axes.annotate(name, position, (right, up), textcoords="offset points", **style)
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5})
            box = text.get_window_extent().padded(4)
            is_inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            if (is_inside and not box.count_overlaps(taken)) or (right, up) == places[-1]:
                break
            text.remove()
        taken.append(box)
    return figure


def block_diagram(rows):
    """Draw networks as rows of boxes, joined by arrows from left to right.

    Parameters
    ----------
    rows : dict of str to list of (str, str)
        For each network, its boxes: a title and the text below it.
    """
    figure = Figure(figsize=(PRINTED, 0.75 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    n_columns = max(map(len, rows.values()))
    for ax, (network, boxes) in zip(axes, rows.items(), strict=True):
        ax.set_title(network, loc="left", fontsize=8)
        drawn = []
        for column, (title, detail) in enumerate(boxes):
            text = ax.text(
                column,
                0,
                f"{title}\n{detail}",
                ha="center",
                va="center",
                fontsize=6.5,
                linespacing=1.3,
                bbox={"boxstyle": "round", "facecolor": "aliceblue", "edgecolor": "steelblue"},
            )
            drawn.append(text.get_bbox_patch())
        for column, (box, next_box) in enumerate(itertools.pairwise(drawn)):
            arrow = {"arrowstyle": "->", "patchA": box, "patchB": next_box, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (column + 1, 0), (column, 0), arrowprops=arrow)
        ax.set(xlim=(-0.6, n_columns - 0.4), ylim=(-1, 1))
        ax.axis("off")
    return figure


def confusion_and_scores(tests):
    """Draw the confusion matrix of each model, and beside it the precision, recall and F1 of each class.

    Parameters
    ----------
    tests : dict of str to dict
        By model, what `model_utils.training.measure` returns.
    """
    figure = confusion_matrices({title: test["confusion_matrix"] for title, test in tests.items()}, CLASS_NAMES)
    figure.set_figheight(3.4)
    for ax, (title, test) in zip(figure.axes, tests.items(), strict=True):
        ax.set_title(f"{title}, accuracy {test['accuracy']:.4f}, macro F1 {test['f1']:.4f}")
        ax.set_aspect("auto")
        for column, (name, label) in enumerate(
            {"precision": "precision", "recall": "recall", "f1": "F1"}.items(), start=len(CLASS_NAMES)
        ):
            x = 1.15 * column - 1.2  # wider than the matrix's columns
            ax.text(x + 0.4, len(CLASS_NAMES) - 0.1, label, rotation=45, ha="right", va="top")
            for row, class_name in enumerate(CLASS_NAMES):
                score = test["per_class"][class_name][name]
                ax.text(x, row, f"{score:.3f}", ha="center", va="center", fontsize=8)
    return figure


def learning_rates(curves):
    """Draw accuracy against learning rate: for each choice a line through its means, with bars from worst to best run.

    Parameters
    ----------
    curves : dict of str to dict of float to sequence of float
        For each choice and each learning rate, the accuracies of the runs.
    """
    figure, [[axes]] = new_figure(3.6)
    for i, (choice, accuracies) in enumerate(curves.items()):
        means = [np.mean(runs) for runs in accuracies.values()]
        spread = [
            [mean - min(runs) for mean, runs in zip(means, accuracies.values(), strict=True)],
            [max(runs) - mean for mean, runs in zip(means, accuracies.values(), strict=True)],
        ]
        axes.errorbar(list(accuracies), means, spread, fmt=f"{'osD^vP'[i % 6]}-", capsize=3, label=choice)
    rates = sorted({rate for accuracies in curves.values() for rate in accuracies})
    axes.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=45)
    axes.minorticks_off()
    lowest, highest = axes.get_ylim()
    axes.set_ylim(max(lowest, highest - 0.045), highest)  # anything further below does not matter
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def dots(runs, measured="best validation accuracy"):
    """Draw the accuracies of some settings, with a dot for each run and a line at the mean.

    Parameters
    ----------
    runs : dict of str to sequence of float
    measured : str
        What the accuracies are, for the axis.
    """
    figure, [[axes]] = new_figure(0.3 * len(runs) + 1)
    for row, accuracies in enumerate(runs.values()):
        axes.scatter(accuracies, [row] * len(accuracies), color="tab:blue", s=18, alpha=0.7)
        axes.plot([np.mean(accuracies)] * 2, [row - 0.35, row + 0.35], color="tab:blue", linewidth=2)
    axes.set_yticks(range(len(runs)), list(runs))
    axes.invert_yaxis()
    axes.set(xlabel=f"{measured}: each run, and the mean")
    axes.grid(alpha=0.3)
    return figure


def steps(panels):
    """Draw the accuracies of the choices of several steps in two columns: a dot for each run, a line at the mean.

    The choice decided on is blue. A mean that is far below the best is off the scale and written at the edge.

    Parameters
    ----------
    panels : dict of str to (dict of str to sequence of float, str or None)
        By title, the accuracies of each choice, and the choice decided on.
    """
    n_choices = [len(runs) for runs, _ in panels.values()]
    n_rows = np.array(n_choices) + 5  # with the title and the ticks
    n_left = 1 + np.argmin([max(n_rows[:i].sum(), n_rows[i:].sum()) for i in range(1, len(n_rows))])
    halves = slice(n_left), slice(n_left, None)
    figure = Figure(figsize=(PRINTED, 0.117 * max(n_rows[half].sum() for half in halves)), layout="constrained")
    for part, half in zip(figure.subfigures(1, 2), halves, strict=True):
        titles = list(panels)[half]
        axes = part.subplots(len(titles), 1, squeeze=False, height_ratios=n_choices[half])[:, 0]
        for ax, title in zip(axes, titles, strict=True):
            runs, decided = panels[title]
            highest = max(map(max, runs.values()))
            lowest = max(highest - 0.025, min(map(min, runs.values())))
            for row, (choice, accuracies) in enumerate(runs.items()):
                color, mean = "tab:blue" if choice == decided else "tab:gray", np.mean(accuracies)
                if mean < lowest:
                    edge = max(lowest, max(accuracies)), row
                    style = {"va": "center", "fontsize": 7, "color": color}
                    ax.annotate(f"← {mean:.4f}", edge, (5, 0), textcoords="offset points", **style)
                ax.scatter(accuracies, [row] * len(accuracies), color=color, s=10, alpha=0.6)
                ax.plot([mean] * 2, [row - 0.35, row + 0.35], color=color, linewidth=2)
            ax.set_yticks(range(len(runs)), [textwrap.fill(choice, 48) for choice in runs], fontsize=7)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.set(xlim=(lowest - 0.001, highest + 0.001), ylim=(len(runs) - 0.4, -0.6))
            ax.tick_params(axis="x", labelsize=6.5)
            ax.set_title(title.replace(": ", "\n", 1), fontsize=8, loc="right")
            ax.grid(alpha=0.3)
    figure.supxlabel("validation accuracy", fontsize=8)
    return figure


def bars(values, xlabel):
    """Draw a horizontal bar for each value.

    Parameters
    ----------
    values : dict of str to float
    xlabel : str
    """
    figure, [[axes]] = new_figure(0.28 * len(values) + 1)
    axes.barh(list(values), list(values.values()), color="tab:blue")
    axes.invert_yaxis()
    axes.set(xlabel=xlabel)
    axes.grid(alpha=0.3, axis="x")
    return figure
