"""Save the state of a backbone's training after each epoch, so that an interrupted run can continue."""

import hashlib
import json

import numpy as np
import torch

from model_utils.checks import check_arrays
from model_utils.saved_models import SavedModel, load_model, naming, save_model
from model_utils.tensors import state_from_arrays, state_layout, state_to_arrays

# What the optimizer stores for each parameter.
ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")


def origin_of(hyperparameters, *arrays):
    """Return what defines a training run, as JSON stores it; only a run with the same origin can be continued.

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
    """Save everything that training needs to continue.

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

    Raises
    ------
    NotSavedError
        See `saved_models.save_model`.
    """
    weights = state_to_arrays(backbone.state_dict(), "now.") | state_to_arrays(best_state, "best.")
    weights |= state_to_arrays(average or {}, "average.")
    for number, state in optimizer.state_dict()["state"].items():
        weights |= state_to_arrays(state, f"optimizer.{number}.")
    save_model(folder, SavedModel(weights, {"kind": "checkpoint", "origin": origin}, history, {}))


def load_checkpoint(folder, backbone, optimizer, origin):
    """Restore backbone and optimizer from what `save_checkpoint` wrote.

    Returns
    -------
    history : list of dict
    best_state : dict of str to tensor
    average : dict of str to tensor or None

    Raises
    ------
    ValueError
        If the run was started with other settings or images; the message names them.
    SavedModelError
        If the checkpoint is damaged.
    """
    saved = load_model(folder, kind="checkpoint")
    if different := _differences(saved.description["origin"], origin):
        raise ValueError(f"{folder}: the interrupted training had other settings: {', '.join(different)}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with naming(folder, "not a checkpoint of this training"):
        check_arrays(saved.weights, _layout(saved.weights, backbone, parameters))
    now, best_state, average = (state_from_arrays(saved.weights, f"{part}.") for part in ("now", "best", "average"))
    state = {
        number: {name: torch.from_numpy(saved.weights[f"optimizer.{number}.{name}"]) for name in ADAMW_STATE}
        for number in range(len(parameters))
    }
    backbone.load_state_dict(now)
    for number, parameter in enumerate(parameters):
        for name, tensor in state[number].items():
            if tensor.shape == parameter.shape:  # in the parameter's memory layout, which the fused optimizer relies on
                state[number][name] = torch.empty_like(parameter).copy_(tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return saved.history, best_state, average or None


def _layout(weights, backbone, parameters):
    """Return the layout of the arrays that `save_checkpoint` writes, with a running average if the weights have one."""
    parts = ["now.", "best."] + ["average."] * any(name.startswith("average.") for name in weights)
    layout = {}
    for part in parts:
        layout |= state_layout(backbone.state_dict(), part)
    for number, parameter in enumerate(parameters):
        moments = dict.fromkeys(ADAMW_STATE, parameter) | {"step": torch.zeros(())}
        layout |= state_layout(moments, f"optimizer.{number}.")
    return layout


def _differences(kept, origin):
    now = origin["hyperparameters"]
    different = [f"{name} {value}" for name, value in kept["hyperparameters"].items() if now.get(name) != value]
    return different + ["images"] * (kept["images_sha256"] != origin["images_sha256"])
