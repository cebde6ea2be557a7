"""What a PyTorch network is made of, layer by layer: shapes, parameters, multiply-adds."""

import math

import torch
from torch import nn


def layer_table(network, image_shape=(1, 28, 28)):
    """List the layers that one image passes through, in that order.

    Parameters
    ----------
    network : nn.Module
    image_shape : tuple of int
        Of the image, without the batch.

    Returns
    -------
    list of dict
        For each layer: layer (its name in the network), kind, output_shape (without the batch), parameters, and
        multiply_adds, those of convolutions and matrix products for one image; the rest of the arithmetic is small.
    """
    rows = []

    def note(name, module, output):
        parameters = sum(parameter.numel() for parameter in module.parameters())
        multiply_adds = 0
        if isinstance(module, nn.Conv2d):
            multiply_adds = math.prod(module.weight.shape[1:]) * output[0].numel()
        elif isinstance(module, nn.Linear):
            multiply_adds = module.weight.numel()
        rows.append(
            {
                "layer": name,
                "kind": type(module).__name__,
                "output_shape": tuple(output.shape[1:]),
                "parameters": parameters,
                "multiply_adds": multiply_adds,
            }
        )

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in network.named_modules()
        if not any(module.children())
    ]
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    try:
        with torch.inference_mode():
            network(torch.zeros(1, *image_shape, device=device))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return rows
