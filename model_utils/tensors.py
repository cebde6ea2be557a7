"""Arrays to tensors and back."""

import numpy as np
import torch


def as_tensor(array):
    """Turn an array into a tensor that shares its memory; a read-only or non-contiguous array is copied first."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def state_to_arrays(state, prefix):
    """Turn a state dict into arrays for a file, with a prefix for each name."""
    return {prefix + name: tensor.detach().cpu().contiguous().numpy() for name, tensor in state.items()}


def state_layout(state, prefix):
    """Return shape and dtype of each array that `state_to_arrays` makes, for `checks.check_arrays`."""
    return {prefix + name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in state.items()}


def state_from_arrays(arrays, prefix):
    """Return the state dict that `state_to_arrays` was given with this prefix."""
    return {
        name.removeprefix(prefix): torch.from_numpy(array) for name, array in arrays.items() if name.startswith(prefix)
    }
