"""The notebooks' pictures. Each function returns a matplotlib Figure, which a notebook shows as a cell's value."""

import numpy as np
from matplotlib.figure import Figure

WIDTH = 10  # inches, of every figure


def new_figure(height, rows=1, columns=1, **subplots):
    """Return a figure of the common width, and its axes as an array of `rows` by `columns`."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def show_image(axes, image, title="", **style):
    """Draw an image, grey unless the style says otherwise, without ticks."""
    axes.imshow(image, **({"cmap": "gray"} | style))
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)


def sample_grid(images, labels, class_names):
    """Draw the first twelve images of each class, one row for each class.

    Parameters
    ----------
    images : ndarray, shape (N, 28, 28)
    labels : ndarray of int, shape (N,)
    class_names : sequence of str
    """
    figure, axes = new_figure(7.5, len(class_names), 1)
    for k, name in enumerate(class_names):
        chosen = images[labels == k][:12]
        show_image(axes[k, 0], np.concatenate(list(chosen), axis=1))
        axes[k, 0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def class_distribution(splits, class_names):
    """Draw the number of images of each class in each part of a `Splits`."""
    figure, [[axes]] = new_figure(3.2)
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
    figure, axes = new_figure(0.85 * len(rows), len(rows), 1)
    for row, title, ax in zip(rows, titles, axes[:, 0], strict=True):
        show_image(ax, np.concatenate(list(row), axis=1))
        ax.set_ylabel(title, rotation=0, ha="right", va="center")
    return figure


def image_and_vector(image, vector):
    """Draw an image, shape (28, 28), and below it the vector, shape (784,), that it was flattened to."""
    figure, [[square], [line]] = new_figure(3, 2, 1, height_ratios=(3, 1))
    show_image(square, image, f"{image.shape}")
    show_image(line, vector[np.newaxis], f"{vector.shape}", aspect="auto")
    return figure


def activation_functions(activations):
    """Draw each activation and its derivative.

    Parameters
    ----------
    activations : dict of str to (forward, backward)
        As in `layers.ACTIVATIONS`.
    """
    figure, axes = new_figure(2.4, 1, len(activations), sharex=True)
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


def descent(paths, loss, limits):
    """Draw the paths of optimizers on the contours of a loss of two parameters, one panel for each path.

    Parameters
    ----------
    paths : dict of str to ndarray, shape (S, 2)
        For each panel, the position after each step.
    loss : callable
        (x, y) -> loss, for arrays.
    limits : (float, float)
        The axes run from minus these values to these values.
    """
    figure, axes = new_figure(4.4, 2, -(-len(paths) // 2), sharex=True, sharey=True)
    x, y = np.meshgrid(np.linspace(-limits[0], limits[0], 200), np.linspace(-limits[1], limits[1], 200))
    heights = loss(x, y)
    for ax, (title, path) in zip(axes.flat, paths.items(), strict=True):
        ax.contour(x, y, heights, np.geomspace(0.01, heights.max(), 12), colors="lightgray", linewidths=0.8)
        ax.plot(*path.T, ".-", color="tab:blue", markersize=4, linewidth=1)
        ax.plot(*path[0], "o", color="tab:green")
        ax.plot(0, 0, "*", color="tab:red", markersize=10)
        ax.set_title(title, fontsize=9)
    figure.supxlabel("first parameter", fontsize=9)
    figure.supylabel("second parameter", fontsize=9)
    return figure


def learning_curves(histories):
    """Draw loss and accuracy over the epochs, training dashed and validation solid.

    If the numbers of epochs differ, the horizontal axis is the share of the epochs that is finished.

    Parameters
    ----------
    histories : dict of str to list of dict
        For each model, the rows that `mlp.train` returns.
    """
    styles = {"train": "--", "validation": "-"}
    lengths = set(map(len, histories.values()))
    figure, [axes] = new_figure(3, 1, 2)
    for ax, quantity in zip(axes, ("loss", "accuracy"), strict=True):
        later_values = []
        for i, (label, history) in enumerate(histories.items()):
            epochs = [row["epoch"] / (len(history) if len(lengths) > 1 else 1) for row in history]
            for part, style in styles.items():
                values = [row[f"{part}_{quantity}"] for row in history]
                ax.plot(epochs, values, style, color=f"C{i}", label=f"{label}, {part}")
                later_values += values[len(values) // 4 :]
        ax.set(xlabel="share of the epochs" if len(lengths) > 1 else "epoch", ylabel=quantity)
        ax.grid(alpha=0.3)
        # Fit the axis to these, so that an extreme first epoch does not flatten all others.
        margin = 0.05 * (np.nanmax(later_values) - np.nanmin(later_values)) or 0.01
        ax.set_ylim(np.nanmin(later_values) - margin, np.nanmax(later_values) + margin)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right center")
    return figure


def predictions(images, labels, probabilities, class_names):
    """Draw images with the probability of each class below, the true one green and a wrong prediction red.

    Parameters
    ----------
    images : ndarray, shape (N, 28, 28)
        A few.
    labels : ndarray of int, shape (N,)
    probabilities : ndarray, shape (N, K)
    class_names : sequence of str
    """
    figure, (pictures, bars) = new_figure(3.2, 2, len(images), height_ratios=(1, 1.6))
    for image, label, p, top, bottom in zip(images, labels, probabilities, pictures, bars, strict=True):
        show_image(top, image, class_names[label])
        colors = ["tab:gray"] * len(p)
        colors[p.argmax()] = "tab:red"
        colors[label] = "tab:green"
        bottom.barh(range(len(p)), p, color=colors)
        bottom.set(xlim=(0, 1), xticks=(0, 1), yticks=[])
        bottom.invert_yaxis()
    bars[0].set_yticks(range(len(class_names)), class_names, fontsize=8)
    figure.supxlabel("probability", fontsize=9)
    return figure


def confusion_matrices(matrices, class_names):
    """Draw confusion matrices side by side, with the number in each cell; only mistakes are coloured.

    Parameters
    ----------
    matrices : dict of str to sequence of sequence of int, shape (K, K)
        By model; rows are the true classes.
    class_names : sequence of str
    """
    figure, [axes] = new_figure(3.7, 1, len(matrices), sharey=True)
    mistakes = {title: np.where(np.eye(len(matrix), dtype=bool), 0, matrix) for title, matrix in matrices.items()}
    most = max(matrix.max() for matrix in mistakes.values())
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        ax.imshow(mistakes[title], cmap="Blues", vmax=most)
        for (row, column), n in np.ndenumerate(matrix):
            color = "white" if row != column and n > most / 2 else "black"
            ax.text(column, row, n, ha="center", va="center", fontsize=8, color=color)
        ax.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
        ax.set_yticks(range(len(class_names)), class_names)
        ax.set(title=title, xlabel="predicted")
    axes[0].set_ylabel("true class")
    return figure


def top_classes(image, probabilities, class_names):
    """Draw an image, shape (28, 28), and the three most probable classes as bars; probabilities has shape (K,)."""
    figure = Figure(figsize=(6, 2), layout="constrained")
    picture, bars = figure.subplots(1, 2, width_ratios=(1, 2))
    show_image(picture, image)
    best = np.argsort(-probabilities)[:3]
    bars.barh([class_names[k] for k in best], probabilities[best])
    bars.invert_yaxis()
    bars.set(xlim=(0, 1), xlabel="probability")
    return figure


def confident_mistakes(images, labels, probabilities, class_names):
    """Draw the 16 wrongly classified images whose wrong class got the highest probability.

    Parameters
    ----------
    images : ndarray, shape (N, 28, 28)
    labels : ndarray of int, shape (N,)
    probabilities : ndarray, shape (N, K)
    class_names : sequence of str
    """
    predictions = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-probabilities[wrong, predictions[wrong]], kind="stable")][:16]
    titles = [
        f"{class_names[predictions[i]]}\n{probabilities[i, predictions[i]]:.3f}\nlabel {class_names[labels[i]]}"
        for i in worst
    ]
    return titled_images(images[worst], titles)


def titled_images(images, titles):
    """Draw images, shape (N, 28, 28), eight to a row, each below a title of up to three lines."""
    n_rows = max(1, -(-len(images) // 8))
    figure, axes = new_figure(1.95 * n_rows, n_rows, 8)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        show_image(ax, image, title)
    return figure


def first_layer(W, W_next):
    """Draw the weights of the 16 first-layer units that the next layer weights most, as images: white 0, red +, blue -,
    each scaled to its own largest weight.

    Parameters
    ----------
    W : ndarray, shape (784, H)
    W_next : ndarray, shape (H, any)
        The next layer's weights.
    """
    strongest = np.argsort(-np.linalg.norm(W_next, axis=1), kind="stable")[:16]
    figure, axes = new_figure(2.6, 2, 8)
    for ax in axes.flat:
        ax.axis("off")
    for ax, unit in zip(axes.flat, strongest, strict=False):
        limit = np.abs(W[:, unit]).max()
        show_image(ax, W[:, unit].reshape(28, 28), cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def signal_by_layer(panels, ylabel):
    """Draw how large a signal is in each layer, on one logarithmic axis.

    Parameters
    ----------
    panels : dict of str to dict of str to sequence of float
        For each panel and each curve, one number for each layer.
    ylabel : str
    """
    figure, [axes] = new_figure(3.4, 1, len(panels), sharey=True)
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
    figure, axes = new_figure(0.75 * -(-len(kernels) // columns), -(-len(kernels) // columns), columns)
    for ax in axes.flat:
        ax.axis("off")
    for ax, kernel in zip(axes.flat, kernels, strict=False):
        limit = np.abs(kernel).max()
        show_image(ax, kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def feature_maps(image, maps):
    """Draw an image, and below it a row for each layer with its twelve most active maps; each row has one colour scale.

    Parameters
    ----------
    image : ndarray, shape (28, 28)
    maps : list of ndarray, shapes (C, H, H)
        Each layer's output.
    """
    figure, axes = new_figure(0.95 * (len(maps) + 1), len(maps) + 1, 12)
    for ax in axes.flat:
        ax.axis("off")
    show_image(axes[0, 0], image)
    for l, (layer_maps, row) in enumerate(zip(maps, axes[1:], strict=True), start=1):
        strongest = np.argsort(-layer_maps.mean(axis=(1, 2)), kind="stable")[:12]
        for ax, channel in zip(row, strongest, strict=False):
            show_image(ax, layer_maps[channel], cmap="magma", vmin=0, vmax=layer_maps.max())
        channels, height, width = layer_maps.shape
        row[0].text(
            -0.15,
            0.5,
            f"layer {l}\n{channels} maps, {height} x {width}",
            transform=row[0].transAxes,
            ha="right",
            va="center",
            fontsize=8,
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
    figure, [axes] = new_figure(5, 1, len(panels))
    for ax, (title, points) in zip(axes, panels.items(), strict=True):
        for k, name in enumerate(class_names):
            ax.scatter(*points[labels == k].T, s=4, color=f"C{k}", label=name)
        ax.set(title=title, xticks=[], yticks=[])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, markerscale=3)
    return figure
