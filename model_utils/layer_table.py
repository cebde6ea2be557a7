"""The layers of a PyTorch network, with their shapes, parameters and multiply-adds."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from model_utils.tables import markdown_table


def multiply_adds(backbone):
    """Return how many multiply-adds the features of one image take, over all its views, as PyTorch counts them."""
    device = next(backbone.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        backbone.eval().mean_features(torch.zeros(1, 1, 28, 28, device=device))
    return counter.get_total_flops() // 2


def layers_text(network):
    """Return `layer_table` as a Markdown table, with totals."""
    rows = layer_table(network)
    cells = [
        (
            row["layer"],
            row["kind"],
            " x ".join(map(str, row["output_shape"])),
            f"{row['parameters']:,}",
            f"{row['multiply_adds']:,}",
        )
        for row in rows
    ]
    totals = (f"{sum(row[column] for row in rows):,}" for column in ("parameters", "multiply_adds"))
    header = ["layer", "kind", "output", "parameters", "multiply-adds"]
    return markdown_table(header, [*cells, ("all", "", "", *totals)])


def layer_table(network):
    """List the layers that one image passes through, in that order.

    Parameters
    ----------
    network : nn.Module
        Takes inputs of shape (N, 1, 28, 28).

    Returns
    -------
    list of dict
        For each layer: layer (its name in the network), kind, output_shape (without the batch), parameters and
        multiply_adds. These are the multiply-adds of convolutions and matrix products for one image, as PyTorch counts
        them; the rest of the arithmetic is small. A module that is made of layers has a row after theirs if it has
        parameters or products of its own, as attention has.
    """
    rows = []

    def note(name, module, output):
        parameters = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        rows.append((name, module, tuple(output.shape[1:]), parameters))

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in network.named_modules()
    ]
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 1, 28, 28, device=device))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    # The names begin with the network's class. A multiply-add is two operations.
    operations = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}

    table = []
    own = {}  # multiply-adds of each module without its parts, which are listed before it
    for name, module, output_shape, parameters in rows:
        path = ".".join(filter(None, (type(network).__name__, name)))
        own[path] = operations.get(path, 0) // 2 - sum(n for part, n in own.items() if part.startswith(f"{path}."))
        if parameters or own[path] or not any(module.children()):
            table.append(
                {
                    "layer": name or "network",
                    "kind": type(module).__name__,
                    "output_shape": output_shape,
                    "parameters": parameters,
                    "multiply_adds": own[path],
                }
            )
    return table
