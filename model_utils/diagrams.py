"""Diagrams of the networks: the computational graph of the MLP, and the maps of the CNN."""

import numpy as np
from matplotlib.patches import Rectangle

from model_utils.plots import new_figure


def computational_graph():
    """Draw one hidden layer's computational graph: forward in black with shapes, backward in red with gradients."""
    figure, [[axes]] = new_figure(3.4)
    operations = ("affine", "$f$", "affine", "soft-\nmax,\nloss")
    values = ("$x$", "$z_1$", "$a_1$", "$z_2$", r"$\mathcal{L}$")
    shapes = ("(N, D)", "(N, H)", "(N, H)", "(N, K)", "scalar")
    gradients = (
        r"$\mathrm{d}x=\mathrm{d}z_1 W_1^\top$",
        r"$\mathrm{d}z_1=\mathrm{d}a_1\odot f'(z_1)$",
        r"$\mathrm{d}a_1=\mathrm{d}z_2 W_2^\top$",
        r"$\mathrm{d}z_2=(p-t)/N$",
        r"$\mathrm{d}\mathcal{L}=1$",
    )
    parameters = {
        0: (
            "$W_1$ (D, H)",
            "$b_1$ (H,)",
            r"$\mathrm{d}W_1=x^\top\mathrm{d}z_1$",
            r"$\mathrm{d}b_1=\sum_n\mathrm{d}z_1$",
        ),
        2: (
            "$W_2$ (H, K)",
            "$b_2$ (K,)",
            r"$\mathrm{d}W_2=a_1^\top\mathrm{d}z_2$",
            r"$\mathrm{d}b_2=\sum_n\mathrm{d}z_2$",
        ),
        3: ("labels (N,)", "", "", ""),
    }
    forward = {"arrowstyle": "->", "color": "black"}
    backward = {"arrowstyle": "->", "color": "tab:red"}
    text = {"ha": "center", "va": "center", "fontsize": 9}
    for i, (value, shape, gradient) in enumerate(zip(values, shapes, gradients, strict=True)):
        x = 2 * i  # values are at even places; the operation that takes one is at the next odd place
        axes.text(x, 0, value, bbox={"boxstyle": "circle", "fc": "white", "ec": "black"}, **text | {"fontsize": 11})
        axes.text(x, 0.42, shape, **text)
        axes.text(x, -0.5, gradient, color="tab:red", **text)
        for start in (x - 1, x) if i else (x,):
            if start < 2 * len(operations):
                axes.annotate("", (start + 0.72, 0.07), (start + 0.28, 0.07), arrowprops=forward)
                axes.annotate("", (start + 0.28, -0.07), (start + 0.72, -0.07), arrowprops=backward)
    for i, operation in enumerate(operations):
        x = 2 * i + 1
        axes.text(x, 0, operation, bbox={"boxstyle": "round", "fc": "aliceblue", "ec": "steelblue"}, **text)
        if i in parameters:
            first, second, d_first, d_second = parameters[i]
            axes.text(x, 1.05, f"{first}\n{second}".strip(), **text)
            axes.annotate("", (x - 0.06, 0.2), (x - 0.06, 0.85), arrowprops=forward)
            if d_first:
                axes.annotate("", (x + 0.06, 0.85), (x + 0.06, 0.2), arrowprops=backward)
                axes.text(x, 1.8, d_first, color="tab:red", **text)
                axes.text(x, 1.5, d_second, color="tab:red", **text)
    axes.set(xlim=(-0.6, 8.6), ylim=(-0.8, 1.9))
    axes.axis("off")
    return figure


def convolutional_network(hyperparameters):
    """Draw the output maps of each layer of a CNN, with their number, size and receptive field in pixels.

    Parameters
    ----------
    hyperparameters : CNNHyperparameters
    """
    h = hyperparameters
    figure, [[axes]] = new_figure(2.3)
    text = {"ha": "center", "fontsize": 8}
    last = "BN, ReLU" if h.batch_norm else "ReLU"
    operations = [
        f"conv {k} x {k}\npool {p} x {p}\n(stride {s})\n{last}"
        for k, p, s in zip(h.kernel_sizes, h.pool_sizes, h.pool_strides, strict=True)
    ]
    names = ["image", *(f"layer {l + 1}" for l in range(len(h.channels)))]
    maps = zip(
        (1, *h.channels),
        (28, *h.map_sizes),
        # From twice the image's width on, even a corner of the map depends on the whole image.
        ("", *(f"sees {n} x {n}" if n < 2 * 28 else "sees all" for n in h.receptive_fields)),
        strict=True,
    )
    x = 0.0
    for name, operation, (channels, size, field) in zip(names, ["", *operations], maps, strict=True):
        n_drawn = min(8, 1 + int(np.log2(channels)))
        width = size / 28 + 0.05 * (n_drawn - 1)
        if operation:
            axes.annotate("", (x + 0.75, 0), (x + 0.05, 0), arrowprops={"arrowstyle": "->"})
            axes.text(x + 0.4, 0.08, operation, va="bottom", **text)
            x += 0.8
        for i in reversed(range(n_drawn)):  # the nearest one last
            corner = (x + 0.05 * i, 0.05 * i - size / 56)
            axes.add_patch(Rectangle(corner, size / 28, size / 28, facecolor="aliceblue", edgecolor="steelblue"))
        center = x + width / 2
        axes.text(center, -0.62, f"{name}\n{channels} x {size} x {size}\n{field}", va="top", **text)
        x += width
    axes.annotate("", (x + 0.75, 0), (x + 0.05, 0), arrowprops={"arrowstyle": "->"})
    axes.text(x + 0.4, 0.08, "fully\nconnected", va="bottom", **text)
    axes.add_patch(Rectangle((x + 0.8, -0.5), 0.12, 1, facecolor="aliceblue", edgecolor="steelblue"))
    axes.text(x + 0.86, -0.62, f"features\n{h.n_features}", va="top", **text)
    axes.set(xlim=(-0.2, x + 1.1), ylim=(-1.15, 1.0))
    axes.set_aspect("equal")
    axes.axis("off")
    return figure
