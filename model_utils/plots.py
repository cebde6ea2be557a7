"""The notebooks' pictures. Each function returns a matplotlib Figure, which a notebook shows as a cell's value."""

from itertools import zip_longest

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

WIDTH = 10  # inches, of every figure


def _new_figure(height, rows=1, columns=1, **subplots):
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def _show_image(axes, image, title="", **style):
    axes.imshow(image, **({"cmap": "gray"} | style))
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)


def sample_grid(images, labels, class_names, per_class=12):
    """Draw the first images of each class, a row a class.

    Parameters
    ----------
    images : ndarray, shape (N, 28, 28)
    labels : ndarray of int, shape (N,)
    class_names : sequence of str
    per_class : int
    """
    figure, axes = _new_figure(7.5, len(class_names), 1)
    for k, name in enumerate(class_names):
        chosen = images[labels == k][:per_class]
        _show_image(axes[k, 0], np.concatenate(list(chosen), axis=1))
        axes[k, 0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def class_distribution(splits, class_names):
    """Draw the number of images of each class in each part of a `Splits`."""
    figure, [[axes]] = _new_figure(3.2)
    positions = np.arange(len(class_names))
    bar_width = 0.8 / len(splits)
    for i, (part, split) in enumerate(zip(splits._fields, splits, strict=True)):
        counts = np.bincount(split.labels, minlength=len(class_names))
        axes.bar(positions + (i - 1) * bar_width, counts, bar_width, label=f"{part} ({len(split.labels):,})")
    axes.set_xticks(positions, class_names, rotation=20)
    axes.set_ylabel("images")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def image_rows(rows, titles):
    """Draw rows of images.

    Parameters
    ----------
    rows : ndarray, shape (R, C, 28, 28)
    titles : sequence of str
        One for each row.
    """
    figure, axes = _new_figure(0.85 * len(rows), len(rows), 1)
    for row, title, ax in zip(rows, titles, axes[:, 0], strict=True):
        _show_image(ax, np.concatenate(list(row), axis=1))
        ax.set_ylabel(title, rotation=0, ha="right", va="center")
    return figure


def image_and_vector(image, vector):
    """Draw an image, shape (28, 28), and below it the vector, shape (784,), that it was flattened to."""
    figure = Figure(figsize=(WIDTH, 3), layout="constrained")
    square, line = figure.subplots(2, 1, height_ratios=(3, 1))
    _show_image(square, image, f"{image.shape}")
    _show_image(line, vector[np.newaxis], f"{vector.shape}", aspect="auto")
    return figure


def activation_functions(activations):
    """Draw each activation and its derivative.

    Parameters
    ----------
    activations : dict of str to (forward, backward)
        As in `layers.ACTIVATIONS`.
    """
    figure, axes = _new_figure(2.4, 1, len(activations), sharex=True)
    z = np.linspace(-3, 3, 301)
    for ax, (name, (forward, backward)) in zip(axes[0], activations.items(), strict=True):
        a, derivative = z.copy(), np.ones_like(z)
        forward(a)
        backward(derivative, a)
        ax.plot(z, a, label="$f(z)$")
        ax.plot(z, derivative, "--", label="$f'(z)$")
        ax.set(title=name, xlabel="$z$", ylim=(-1.3, 2.2))
        ax.grid(alpha=0.3)
    axes[0, 0].legend(loc="upper left", fontsize=8)
    return figure


def learning_curves(histories, parts=("train", "validation")):
    """Draw loss and accuracy over the epochs, training dashed and validation solid.

    Parameters
    ----------
    histories : dict of str to list of dict
        By model, the rows of `mlp.train`.
    parts : tuple of str
        Which of the two.
    """
    styles = {"train": "--", "validation": "-"}
    figure, [axes] = _new_figure(3.6, 1, 2)
    for ax, quantity in zip(axes, ("loss", "accuracy"), strict=True):
        later_values = []
        for i, (label, history) in enumerate(histories.items()):
            epochs = [row["epoch"] for row in history]
            for part in parts:
                values = [row[f"{part}_{quantity}"] for row in history]
                ax.plot(epochs, values, styles[part], color=f"C{i}", label=f"{label}, {part}")
                later_values += _later(values)
        ax.set(xlabel="epoch", ylabel=quantity)
        ax.grid(alpha=0.3)
        _frame(ax, later_values)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right center")
    return figure


def comparison(histories, title):
    """Draw what `experiments.compare` returned: each run's best validation accuracy, and each variant's mean curve.

    Parameters
    ----------
    histories : dict of str to list of list of dict
        For each variant, a history for each seed.
    title : str
    """
    figure, [[dots, curves]] = _new_figure(max(3.2, 0.5 * len(histories)), 1, 2)
    later_values = []
    for i, (label, runs) in enumerate(histories.items()):
        accuracies = [[row["validation_accuracy"] for row in run] for run in runs]
        bests = [max(run) for run in accuracies]
        dots.scatter(bests, [i] * len(bests), color=f"C{i}", alpha=0.7)
        dots.plot([np.mean(bests)] * 2, [i - 0.3, i + 0.3], color=f"C{i}", linewidth=2)
        # At each epoch the mean of the runs that came so far: some stop early.
        mean_curve = [np.mean([a for a in at_epoch if a is not None]) for at_epoch in zip_longest(*accuracies)]
        curves.plot(range(1, len(mean_curve) + 1), mean_curve, ".-", color=f"C{i}", label=label)
        later_values += _later(mean_curve)
    dots.set_yticks(range(len(histories)), list(histories))
    dots.invert_yaxis()
    dots.set(xlabel="best validation accuracy: each run, and the mean", title=title)
    curves.set(xlabel="epoch", ylabel="validation accuracy, mean")
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.legend(fontsize=8)
    _frame(curves, later_values)
    for ax in (dots, curves):
        ax.grid(alpha=0.3)
    return figure


def predictions(images, labels, probabilities, class_names):
    """Draw images with the probability of each class below, the true one green and a wrongly preferred one red.

    Parameters
    ----------
    images : ndarray, shape (N, 28, 28)
        A few.
    labels : ndarray of int, shape (N,)
    probabilities : ndarray, shape (N, K)
    class_names : sequence of str
    """
    figure, (pictures, bars) = _new_figure(3.2, 2, len(images), height_ratios=(1, 1.6))
    for image, label, p, top, bottom in zip(images, labels, probabilities, pictures, bars, strict=True):
        _show_image(top, image, class_names[label])
        colors = ["tab:gray"] * len(p)
        colors[p.argmax()] = "tab:red"
        colors[label] = "tab:green"
        bottom.barh(range(len(p)), p, color=colors)
        bottom.set(xlim=(0, 1), xticks=(0, 1), yticks=[])
        bottom.invert_yaxis()
    bars[0].set_yticks(range(len(class_names)), class_names, fontsize=8)
    return figure


def confusion_matrix(matrix, class_names):
    """Draw a confusion matrix, the number of images in each cell.

    Parameters
    ----------
    matrix : array-like of int, shape (K, K)
        Row t, column p: images of class t that were taken for p.
    """
    matrix = np.asarray(matrix)
    shares = matrix / matrix.sum(axis=1, keepdims=True)
    figure, [[axes]] = _new_figure(6.5)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for t, p in np.ndindex(matrix.shape):
        if matrix[t, p]:
            axes.text(p, t, matrix[t, p], ha="center", va="center", fontsize=8, color="wk"[int(shares[t, p] < 0.5)])
    positions = range(len(class_names))
    axes.set_xticks(positions, class_names, rotation=40, ha="right")
    axes.set_yticks(positions, class_names)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def confident_mistakes(images, labels, probabilities, class_names, n=16):
    """Draw the wrongly classified images whose wrong class got the highest probability.

    Parameters
    ----------
    images : ndarray, shape (N, 28, 28)
    labels : ndarray of int, shape (N,)
    probabilities : ndarray, shape (N, K)
    class_names : sequence of str
    n : int
        A multiple of 8.
    """
    predictions = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-probabilities[wrong, predictions[wrong]], kind="stable")][:n]
    titles = [
        f"{class_names[predictions[i]]}\n{probabilities[i, predictions[i]]:.3f}\nis {class_names[labels[i]]}"
        for i in worst
    ]
    return titled_images(images[worst], titles)


def titled_images(images, titles, columns=8):
    """Draw images, shape (N, 28, 28), in rows of so many, each with a title of up to three lines above it."""
    n_rows = max(1, -(-len(images) // columns))
    figure, axes = _new_figure(1.95 * n_rows, n_rows, columns)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        _show_image(ax, image, title)
    return figure


def first_layer(W, W_next, n=16):
    """Draw the weights of some units of the first layer as images, white 0, red +, blue -, each scaled to its own
    largest weight: of those units that the next layer listens to most.

    Parameters
    ----------
    W : ndarray, shape (784, H)
    W_next : ndarray, shape (H, any)
        The next layer's weights.
    n : int
        A multiple of 8.
    """
    strongest = np.argsort(-np.linalg.norm(W_next, axis=1), kind="stable")[:n]
    figure, axes = _new_figure(1.3 * n / 8, n // 8, 8)
    for ax in axes.flat:
        ax.axis("off")
    for ax, unit in zip(axes.flat, strongest, strict=False):
        limit = np.abs(W[:, unit]).max()
        _show_image(ax, W[:, unit].reshape(28, 28), cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def accuracy_grids(accuracies, titles, row_labels, column_labels):
    """Draw accuracies as grids side by side, the number in each cell, all in one scale of colour.

    Parameters
    ----------
    accuracies : ndarray, shape (G, R, C)
    titles, row_labels, column_labels : sequence of str
        G, R and C of them.
    """
    figure, [axes] = _new_figure(0.6 * len(row_labels) + 1.3, 1, len(titles), sharey=True)
    low, high = np.nanmin(accuracies), np.nanmax(accuracies)
    for grid, title, ax in zip(accuracies, titles, axes, strict=True):
        ax.imshow(grid, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for row, column in np.ndindex(grid.shape):
            is_dark = grid[row, column] < (low + high) / 2
            ax.text(column, row, f"{grid[row, column]:.4f}", ha="center", va="center", color="kw"[int(is_dark)])
        ax.set_xticks(range(len(column_labels)), column_labels)
        ax.set_yticks(range(len(row_labels)), row_labels)
        ax.set_title(title)
    return figure


def accuracy_against_cost(points, cost_name):
    """Draw accuracy against cost on a logarithmic axis, a colour and a shape of marker for each group.

    Parameters
    ----------
    points : dict of str to (costs, accuracies)
        For each group, two sequences.
    cost_name : str
    """
    figure, [[axes]] = _new_figure(4)
    for (label, (costs, accuracies)), marker in zip(points.items(), "osD^vP", strict=False):
        axes.scatter(costs, accuracies, marker=marker, alpha=0.8, label=label)
    axes.set(xscale="log", xlabel=cost_name, ylabel="validation accuracy")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def labelled_points(points, xlabel, ylabel):
    """Draw points with their names, x on a logarithmic axis.

    Parameters
    ----------
    points : dict of str to (float, float)
    xlabel, ylabel : str
    """
    figure, [[axes]] = _new_figure(5)
    axes.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    axes.margins(x=0.12, y=0.08)
    axes.grid(alpha=0.3)
    taken = []  # what names must not cover, in pixels: the points, and the names before
    for i, position in enumerate(points.values()):
        axes.scatter(*position, s=25, color=f"C{i}")
    figure.draw_without_rendering()  # from here on, places in pixels are known
    for position in points.values():
        x, y = axes.transData.transform(position)
        taken.append(Bbox.from_bounds(x - 3, y - 3, 6, 6))
    # At the right or the left of the point, above or below it, and if there is no room, a line of text further away.
    places = [(right, up * (4 + 10 * line)) for line in range(3) for up in (1, -1) for right in (6, -6)]
    for i, (name, position) in enumerate(points.items()):
        for right, up in places:  # the first one with room, or the last one
            style = {"ha": "left" if right > 0 else "right", "va": "bottom" if up > 0 else "top", "fontsize": 8}
            text = axes.annotate(name, position, (right, up), textcoords="offset points", color=f"C{i}", **style)
            box = text.get_window_extent()
            is_inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            if (is_inside and not box.count_overlaps(taken)) or (right, up) == places[-1]:
                break
            text.remove()
        taken.append(box)
    return figure


def signal_by_layer(panels, ylabel):
    """Draw how large a signal is in each layer, on a logarithmic axis.

    Parameters
    ----------
    panels : dict of str to dict of str to sequence of float
        For each panel, for each curve, a number a layer.
    ylabel : str
    """
    figure, [axes] = _new_figure(3.4, 1, len(panels))
    for ax, (title, curves) in zip(axes, panels.items(), strict=True):
        for label, values in curves.items():
            ax.plot(range(1, len(values) + 1), values, "o-", label=label)
        ax.set(yscale="log", title=title, xlabel="layer")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel(ylabel)
    axes[0].legend(fontsize=8)
    return figure


def filters(kernels):
    """Draw the kernels of a first convolution layer, white 0, red +, blue -, each scaled to its own largest weight.

    Parameters
    ----------
    kernels : ndarray, shape (C, k, k)
    """
    columns = 16
    figure, axes = _new_figure(0.75 * -(-len(kernels) // columns), -(-len(kernels) // columns), columns)
    for ax in axes.flat:
        ax.axis("off")
    for ax, kernel in zip(axes.flat, kernels, strict=False):
        limit = np.abs(kernel).max()
        _show_image(ax, kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def feature_maps(image, maps, n=12):
    """Draw an image, and below it a row for each layer with the maps that it excites most; a row shares its colours.

    Parameters
    ----------
    image : ndarray, shape (28, 28)
    maps : list of ndarray, shapes (C, H, H)
        What leaves each layer.
    n : int
        Maps a row.
    """
    figure, axes = _new_figure(0.95 * (len(maps) + 1), len(maps) + 1, n)
    for ax in axes.flat:
        ax.axis("off")
    _show_image(axes[0, 0], image)
    for l, (layer_maps, row) in enumerate(zip(maps, axes[1:], strict=True), start=1):
        strongest = np.argsort(-layer_maps.mean(axis=(1, 2)), kind="stable")[:n]
        for ax, channel in zip(row, strongest, strict=False):
            _show_image(ax, layer_maps[channel], cmap="magma", vmin=0, vmax=layer_maps.max())
        channels, height, width = layer_maps.shape
        row[0].axis("on")
        row[0].set_ylabel(
            f"layer {l}\n{channels} of {height} x {width}", rotation=0, ha="right", va="center", fontsize=8
        )
    return figure


def feature_space(panels, labels, class_names):
    """Draw images as points in the plane, coloured by class.

    Parameters
    ----------
    panels : dict of str to ndarray, shape (N, 2)
        For each panel, the coordinates.
    labels : ndarray of int, shape (N,)
    class_names : sequence of str
    """
    figure, [axes] = _new_figure(5, 1, len(panels))
    for ax, (title, points) in zip(axes, panels.items(), strict=True):
        for k, name in enumerate(class_names):
            ax.scatter(*points[labels == k].T, s=4, color=f"C{k}", label=name)
        ax.set(title=title, xticks=[], yticks=[])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, markerscale=3)
    return figure


def growth(panels, ylabel):
    """Draw how something grows with several causes, both axes logarithmic.

    Parameters
    ----------
    panels : dict of str to list of (int, float)
        For each cause, its values and what they lead to.
    ylabel : str
    """
    figure, [axes] = _new_figure(3, 1, len(panels), sharey=True)
    for ax, (cause, points) in zip(axes, panels.items(), strict=True):
        values, results = zip(*points, strict=True)
        ax.loglog(values, results, "o-")
        ax.set_xticks(values, values, fontsize=7)
        ax.minorticks_off()
        ax.set(xlabel=cause)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel(ylabel)
    axes[0].yaxis.set_major_formatter("{x:g}")
    return figure


def block_diagram(rows):
    """Draw networks as rows of boxes, joined by arrows from left to right.

    Parameters
    ----------
    rows : list of list of (str, str)
        For each row, for each box, a title and what is said below it.
    """
    figure = Figure(figsize=(WIDTH, 1.25 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    n_columns = max(map(len, rows))
    for ax, boxes in zip(axes, rows, strict=True):
        for column, (title, detail) in enumerate(boxes):
            if column:
                ax.annotate("", (column - 0.4, 0), (column - 0.6, 0), arrowprops={"arrowstyle": "->"})
            ax.text(
                column,
                0,
                f"{title}\n{detail}",
                ha="center",
                va="center",
                fontsize=7,
                linespacing=1.4,
                bbox={"boxstyle": "round", "facecolor": "aliceblue", "edgecolor": "steelblue"},
            )
        ax.set(xlim=(-0.6, n_columns - 0.4), ylim=(-1, 1))
        ax.axis("off")
    return figure


def ablations(groups, base):
    """Draw what is changed in a base, group by group: the validation accuracy of each run and its mean.

    Parameters
    ----------
    groups : dict of str to dict of str to sequence of float
        For each group, for each change, the runs' accuracies.
    base : sequence of float
        Those of the base; the band is their range.
    """
    labels = [(group, label) for group, changes in groups.items() for label in changes]
    figure, [[axes]] = _new_figure(0.22 * len(labels) + 1)
    axes.axvspan(min(base), max(base), color="tab:gray", alpha=0.3, label="base, all its runs")
    for row, (group, label) in enumerate(labels):
        accuracies = groups[group][label]
        color = f"C{list(groups).index(group) % 10}"
        axes.scatter(accuracies, [row] * len(accuracies), color=color, s=14, alpha=0.7)
        axes.plot([np.mean(accuracies)] * 2, [row - 0.35, row + 0.35], color=color, linewidth=2)
    axes.set_yticks(range(len(labels)), [f"{group}: {label}" for group, label in labels], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="best validation accuracy: each run, and the mean")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize=8)
    return figure


def parallel_coordinates(columns, values):
    """Draw each trial of a search as a line through its parameters, the better the darker.

    Parameters
    ----------
    columns : dict of str to (sequence of float, sequence of float, sequence of str)
        For each parameter: where each trial is on its axis, from 0 to 1, and the places and names of its ticks.
    values : sequence of float
        How good each trial is, NaN for one that failed.
    """
    values = np.asarray(values, float)
    figure, [[axes]] = _new_figure(5)
    # By rank, for a few bad trials would else take all the colours.
    ranks = np.argsort(np.argsort(np.nan_to_num(values, nan=-np.inf))) / max(1, len(values) - 1)
    # Lifted a little by rank, for lines through the same value would else cover each other.
    positions = np.array([places for places, _, _ in columns.values()]) + 0.06 * (ranks - 0.5)
    for trial in np.argsort(ranks):
        axes.plot(
            range(len(columns)), positions[:, trial], color=_colour(ranks[trial]), linewidth=0.5 + 1.5 * ranks[trial]
        )
    for x, (_, ticks, names) in enumerate(columns.values()):
        axes.axvline(x, color="black", linewidth=0.5)
        for tick, name in zip(ticks, names, strict=True):
            axes.text(
                x,
                tick,
                f" {name}",
                fontsize=6,
                va="center",
                bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.5, "lw": 0},
            )
    axes.set_xticks(range(len(columns)), list(columns), rotation=35, ha="right", fontsize=8)
    axes.set(yticks=[], ylim=(-0.05, 1.05))
    return figure


def _colour(share):
    return colormaps["viridis_r"](0.05 + 0.9 * share)


def horizontal_bars(shares, xlabel):
    """Draw a bar for each name, the longest on top; `shares` is a dict of str to float."""
    names = sorted(shares, key=shares.get)
    figure, [[axes]] = _new_figure(0.25 * len(names) + 0.8)
    axes.barh(names, [shares[name] for name in names])
    axes.set(xlabel=xlabel)
    axes.grid(alpha=0.3, axis="x")
    return figure


def _later(values):
    """The values of a curve after its first quarter."""
    return list(values[len(values) // 4 :])


def _frame(axes, values):
    """Frame these values, so that a first epoch far off does not squeeze all others."""
    margin = 0.05 * (np.nanmax(values) - np.nanmin(values)) or 0.01
    axes.set_ylim(np.nanmin(values) - margin, np.nanmax(values) + margin)
