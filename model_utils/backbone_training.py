"""Train a backbone together with its head: a linear layer or the hand-written MLP."""

import time
from dataclasses import asdict

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from model_utils.checkpoints import load_checkpoint, origin_of, save_checkpoint
from model_utils.checks import check_callable, check_images, check_is, check_labels, check_path, check_split
from model_utils.cnn_backbone import N_CLASSES, Backbone, BackboneHyperparameters, preprocess
from model_utils.devices import has_fast_bfloat16
from model_utils.losses import cross_entropy
from model_utils.mlp_head import MLPHead
from model_utils.optimizers import cosine
from model_utils.pair import head_logits
from model_utils.saved_models import is_saved
from model_utils.tensor_augmentation import augment
from model_utils.tensors import as_tensor
from model_utils.training import best_epoch, check_batches, check_loss, out_of_patience


def train(backbone, training, validation, hyperparameters, on_epoch=None, checkpoint=None):
    """Train a backbone through its head; both keep the weights that were best on validation.

    Parameters
    ----------
    backbone : Backbone
        On the device to train on. However training ends, it keeps the weights of the epoch with the highest validation
        accuracy so far.
    training, validation : Split
    hyperparameters : BackboneHyperparameters
    on_epoch : callable, optional
        Called with each row of the history as soon as its epoch is over. A run that continues from a checkpoint begins
        with the earlier rows. An exception that it raises ends the training.
    checkpoint : path, optional
        A folder where the state of training is saved after each epoch. If it already exists, training continues from
        it; on a CPU, the final weights are the same as without the interruption.

    Returns
    -------
    list of dict
        The history, with the columns of `mlp.train`. If there is a running average of the weights, the
        average is validated and kept.

    Raises
    ------
    ValueError
        If images or labels are invalid, or the checkpoint belongs to other hyperparameters or images.
    SavedModelError
        If the checkpoint is damaged, or cannot be saved.
    TrainingDiverged
        If the loss is NaN or infinite.
    """
    h = hyperparameters
    check_is("backbone", backbone, Backbone)
    check_is("hyperparameters", h, BackboneHyperparameters)
    if on_epoch is not None:
        check_callable("on_epoch", on_epoch)
    if checkpoint is not None:
        check_path("checkpoint", checkpoint)
    device = next(backbone.parameters()).device
    images, labels = (as_tensor(array).to(device) for array in _checked(training, "training"))
    _checked(validation, "validation")
    by_hand = isinstance(backbone.head, MLPHead)
    has_batch_norm = any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())
    check_batches(has_batch_norm or (by_hand and backbone.head.mlp.batch_norm), h.batch_size, len(labels))
    use_bfloat16 = has_fast_bfloat16(device)
    backbone.trained_on = {"device": device.type, "precision": "bfloat16" if use_bfloat16 else "float32"}
    optimizer = _optimizer(backbone, h)
    history, best_state = [], _copy(backbone.state_dict())
    average = _copy(best_state) if h.average else None
    settings = asdict(h) | ({"mlp": asdict(backbone.head.hyperparameters)} if by_hand else {})
    origin = None if checkpoint is None else origin_of(settings, *training, *validation)
    if checkpoint is not None and is_saved(checkpoint):
        history, best_state, average = load_checkpoint(checkpoint, backbone, optimizer, origin)
    on_epoch = on_epoch or (lambda row: None)
    try:
        for row in history:
            on_epoch(row)
        # The caller's random state stays as it is. Each epoch has its own seed, so a checkpoint need not store one.
        # NumPy's idle threads would spin, and take CPU time away from PyTorch's.
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            threadpool_limits(1 if by_hand else None, user_api="blas"),
        ):
            for epoch in range(len(history) + 1, h.epochs + 1):
                if out_of_patience(history, h.patience):
                    break
                started = time.perf_counter()
                seed = int(np.random.SeedSequence([h.seed, epoch]).generate_state(1)[0])
                torch.manual_seed(seed)
                if by_hand:
                    backbone.head.mlp.rng = np.random.default_rng(seed)
                row = {"epoch": epoch}
                row |= _train_one_epoch(backbone, images, labels, optimizer, average, h, epoch, use_bfloat16)
                state = _copy(backbone.state_dict())
                if h.average:
                    backbone.load_state_dict(average)
                logits = head_logits(backbone, validation.images)
                row["validation_loss"] = cross_entropy(logits, validation.labels, h.label_smoothing)[0]
                check_loss(row["validation_loss"], f"epoch {epoch}, validation", h.learning_rate)
                row["validation_accuracy"] = float(np.mean(logits.argmax(axis=1) == validation.labels))
                row["learning_rate"] = optimizer.param_groups[0]["lr"]
                row["seconds"] = time.perf_counter() - started
                history.append(row)
                if best_epoch(history) is row:
                    best_state = _copy(backbone.state_dict())
                backbone.load_state_dict(state)
                if checkpoint is not None:
                    save_checkpoint(checkpoint, backbone, optimizer, origin, history, best_state, average)
                on_epoch(row)
    finally:
        backbone.load_state_dict(best_state)
        backbone.eval()
    return history


def _train_one_epoch(backbone, images, labels, optimizer, average, hyperparameters, epoch, use_bfloat16):
    """Train once on all images; return the mean loss and accuracy over the epoch's batches."""
    h, head = hyperparameters, backbone.head
    device = images.device
    batches = torch.randperm(len(images)).split(h.batch_size)
    loss_sum = torch.zeros((), device=device)
    n_correct = torch.zeros((), dtype=torch.int64, device=device)
    backbone.train()
    for step, chosen in enumerate(batches):
        chosen = chosen.to(device)
        share_done = (epoch - 1 + (step + 0.5) / len(batches)) / h.epochs
        for group in optimizer.param_groups:
            group["lr"] = h.learning_rate * cosine(share_done)
        with torch.autocast(device.type, torch.bfloat16, enabled=use_bfloat16):
            features = backbone.features(preprocess(augment(images[chosen], h.flip, h.shift, h.erase)))
        loss, logits = head.loss(backbone.dropout(features.float()), labels[chosen], h.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(head, MLPHead):
            head.update(share_done)
        if h.average:
            _move_average(average, backbone.state_dict(), h.average)
        loss_sum += loss.detach() * len(chosen)
        n_correct += (logits.argmax(dim=1) == labels[chosen]).sum()
        # Reading a number makes a GPU wait, so the loss is not checked at every step.
        if step % 25 == 24:
            check_loss(loss_sum.item(), f"epoch {epoch}, step {step + 1} of {len(batches)}", h.learning_rate)
    mean_loss = loss_sum.item() / len(images)
    check_loss(mean_loss, f"epoch {epoch}, step {len(batches)} of {len(batches)}", h.learning_rate)
    return {"train_loss": mean_loss, "train_accuracy": n_correct.item() / len(images)}


def _optimizer(backbone, hyperparameters):
    """Make the optimizer; only weights decay, not biases and batch norm. The NumPy MLP has its own optimizer."""
    weights = [parameter for parameter in backbone.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in backbone.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": weights}, {"params": others, "weight_decay": 0.0}],
        weight_decay=hyperparameters.weight_decay,
        fused=True,
    )


def _move_average(average, state, share_kept):
    """Set average = share_kept average + (1 - share_kept) state; copy counters, such as that of batches seen."""
    is_real = {name: tensor.is_floating_point() for name, tensor in state.items()}
    torch._foreach_lerp_(
        [average[name] for name in state if is_real[name]],
        [state[name] for name in state if is_real[name]],
        1 - share_kept,
    )
    for name in state:
        if not is_real[name]:
            average[name].copy_(state[name])


def _checked(split, part):
    images, labels = check_split(part, split)
    check_images(images, f"{part} images")
    return images, check_labels(labels, len(images), N_CLASSES, f"{part} labels")


def _copy(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}
