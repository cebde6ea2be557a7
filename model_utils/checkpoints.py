"""The state of a backbone's training, kept after each epoch, so that a training that is cut off can go on."""

import hashlib
import json

import numpy as np
import torch

from model_utils.saved_models import SavedModel, SavedModelError, load_model, save_model
from model_utils.tensors import state_from_arrays, state_to_arrays

# What the optimizer keeps of each parameter.
ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")


def origin_of(hyperparameters, *arrays):
    """Return what a training is begun with, as JSON keeps it: going on with anything else would not be the same one.

    Parameters
    ----------
    hyperparameters : dict
    *arrays : ndarray
        Images and labels.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return json.loads(json.dumps({"hyperparameters": hyperparameters, "images_sha256": digest.hexdigest()}))


def save_checkpoint(folder, backbone, optimizer, origin, history, best_state, average):
    """Write all that a training needs to go on.

    Parameters
    ----------
    folder : path
    backbone : Backbone
    optimizer : torch.optim.AdamW
    origin : dict
        See `origin_of`.
    history : list of dict
    best_state : dict of str to tensor
        The backbone's weights of the best epoch so far.
    average : dict of str to tensor or None
        The running average of its weights, if there is one.
    """
    weights = state_to_arrays(backbone.state_dict(), "now.") | state_to_arrays(best_state, "best.")
    weights |= state_to_arrays(average or {}, "average.")
    for number, state in optimizer.state_dict()["state"].items():
        weights |= state_to_arrays(state, f"optimizer.{number}.")
    save_model(folder, SavedModel(weights, {"kind": "checkpoint", "origin": origin}, history, {}))


def load_checkpoint(folder, backbone, optimizer, origin):
    """Set backbone and optimizer to what `save_checkpoint` kept.

    Returns
    -------
    history : list of dict
    best_state : dict of str to tensor
    average : dict of str to tensor or None

    Raises
    ------
    ValueError
        If the training was begun with something else; it names what.
    SavedModelError
        If the checkpoint is damaged.
    """
    saved = load_model(folder, kind="checkpoint")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        different = _differences(saved.description["origin"], origin)
        if not different:
            best_state, average, now = (state_from_arrays(saved.weights, f"{p}.") for p in ("best", "average", "now"))
            for weights in (best_state, *([average] if average else []), now):
                backbone.load_state_dict(weights)
            state = {
                number: {name: torch.from_numpy(saved.weights[f"optimizer.{number}.{name}"]) for name in ADAMW_STATE}
                for number in range(len(parameters))
            }
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SavedModelError(f"{folder}: not a checkpoint of this training ({error!r})") from error
    if different:
        raise ValueError(f"{folder}: the interrupted training had other settings: {', '.join(different)}")
    for number, parameter in enumerate(parameters):
        for name, tensor in state[number].items():
            if tensor.shape == parameter.shape:  # in the parameter's memory layout, which the fused optimizer relies on
                state[number][name] = torch.empty_like(parameter).copy_(tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return saved.history, best_state, average or None


def _differences(kept, origin):
    now = origin["hyperparameters"]
    different = [f"{name} {value}" for name, value in kept["hyperparameters"].items() if now.get(name) != value]
    return different + ["images"] * (kept["images_sha256"] != origin["images_sha256"])
