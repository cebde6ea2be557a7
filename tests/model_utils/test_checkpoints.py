"""The kept state of a training: what goes on from it is as if it had never been cut off."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from model_utils.checkpoints import load_checkpoint, origin_of, save_checkpoint
from model_utils.cnn_backbone import CNNBackbone, CNNHyperparameters
from model_utils.saved_models import SavedModelError, load_model, save_model
from model_utils.tensors import state_from_arrays, state_to_arrays

pytestmark = pytest.mark.q3b

H = CNNHyperparameters(channels=(4, 8, 8, 8, 8), n_features=16)
LOSSES = {"train_loss": 0.5, "train_accuracy": 0.5, "validation_loss": 0.5, "validation_accuracy": 0.5}
HISTORY = [{"epoch": epoch} | LOSSES | {"learning_rate": 0.1, "seconds": 1.5} for epoch in (1, 2)]
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)


class Training:
    """A backbone and its optimizer, with the two groups of parameters that `train` gives it."""

    def __init__(self, seed):
        self.backbone = CNNBackbone(replace(H, seed=seed))
        weights, others = ([p for p in self.backbone.parameters() if (p.ndim > 1) == many] for many in (True, False))
        groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.01, fused=True)

    def take_steps(self, n):
        self.backbone.train()
        inputs = torch.from_numpy(IMAGES).unsqueeze(1) / 255
        for step in range(n):
            torch.manual_seed(step)  # for dropout
            loss = torch.nn.functional.cross_entropy(self.backbone(inputs), torch.arange(20) % 10)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


@pytest.fixture
def cut_off(tmp_path):
    """A training that was kept after three steps, with its folder, the best weights, which it had after two, and what
    stands for a running average, which it had after one.
    """
    training = Training(seed=0)
    training.take_steps(1)
    average = {name: tensor.clone() for name, tensor in training.backbone.state_dict().items()}
    training.take_steps(1)
    best_state = {name: tensor.clone() for name, tensor in training.backbone.state_dict().items()}
    training.take_steps(1)
    folder = tmp_path / "checkpoint"
    origin = origin_of(asdict(H), IMAGES)
    save_checkpoint(folder, training.backbone, training.optimizer, origin, HISTORY, best_state, average)
    return training, folder, best_state, average


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_a_training_goes_on_as_if_it_had_never_been_cut_off(cut_off):
    training, folder, best_state, average = cut_off
    other = Training(seed=1)
    history, best_again, average_again = load_checkpoint(
        folder, other.backbone, other.optimizer, origin_of(asdict(H), IMAGES)
    )
    assert history == HISTORY
    assert same_state(best_again, best_state)
    assert same_state(average_again, average)
    assert same_state(other.backbone.state_dict(), training.backbone.state_dict())
    assert not same_state(best_again, other.backbone.state_dict())
    for going_on in (training, other):
        going_on.take_steps(2)
    assert same_state(other.backbone.state_dict(), training.backbone.state_dict())


def test_the_optimizer_gets_its_moments_back_in_the_layout_of_the_parameters(cut_off):
    training, folder, *_ = cut_off
    other = Training(seed=1)
    load_checkpoint(folder, other.backbone, other.optimizer, origin_of(asdict(H), IMAGES))
    pairs = zip(training.optimizer.state.items(), other.optimizer.state.items(), strict=True)
    for (_, expected), (parameter, state) in pairs:
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
        assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == parameter.stride()


@pytest.mark.parametrize(
    ("changes", "images", "message"),
    [
        ({"learning_rate": 0.1}, IMAGES, r"learning_rate 0\.005$"),
        ({"channels": (4, 8, 8, 8, 9), "seed": 3}, IMAGES, r"seed 0, channels \[4, 8, 8, 8, 8\]$"),
        ({}, IMAGES[::-1], r"images\b"),
        ({}, IMAGES[:19], r"images\b"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_what_differs(cut_off, changes, images, message):
    _, folder, *_ = cut_off
    other = Training(seed=1)
    before = {name: tensor.clone() for name, tensor in other.backbone.state_dict().items()}
    with pytest.raises(ValueError, match=rf"checkpoint: the interrupted training had other settings: {message}"):
        load_checkpoint(folder, other.backbone, other.optimizer, origin_of(asdict(replace(H, **changes)), images))
    assert same_state(other.backbone.state_dict(), before)


@pytest.mark.parametrize("name", ["best.head.bias", "now.head.bias", "average.head.bias", "optimizer.0.exp_avg"])
@pytest.mark.parametrize("value", [None, np.zeros(3, np.float32), np.float64], ids=["missing", "shape", "dtype"])
def test_a_checkpoint_in_which_an_array_is_not_as_expected_is_refused_and_changes_nothing(cut_off, name, value):
    _, folder, *_ = cut_off
    saved = load_model(folder, "checkpoint")
    array = saved.weights.pop(name)
    if value is not None:
        saved.weights[name] = array.astype(value) if isinstance(value, type) else value
    save_model(folder, saved)
    other = Training(seed=1)
    before = {name: tensor.clone() for name, tensor in other.backbone.state_dict().items()}
    with pytest.raises(SavedModelError, match=rf"checkpoint: not a checkpoint of this training .*{name}"):
        load_checkpoint(folder, other.backbone, other.optimizer, origin_of(asdict(H), IMAGES))
    assert same_state(other.backbone.state_dict(), before)


def test_what_is_not_a_checkpoint_is_refused(cut_off):
    training, folder, *_ = cut_off
    saved = load_model(folder, "checkpoint")
    for description, message in (({"kind": "pair"}, "expected kind checkpoint"), ({"kind": "checkpoint"}, "origin")):
        save_model(folder, saved._replace(description=description))
        with pytest.raises(SavedModelError, match=f"checkpoint.*: .*{message}"):
            load_checkpoint(folder, training.backbone, training.optimizer, origin_of(asdict(H), IMAGES))


def test_the_origin_of_a_training_tells_all_it_is_begun_with():
    labels = np.arange(20)
    origin = origin_of(asdict(H), IMAGES, labels)
    assert origin["hyperparameters"]["channels"] == [4, 8, 8, 8, 8]  # as JSON keeps a tuple
    assert origin == origin_of(asdict(H), IMAGES.copy(), labels.copy())
    others = [
        origin_of(asdict(h), *arrays) for h, *arrays in ((replace(H, erase=1), IMAGES, labels), (H, IMAGES, labels + 1))
    ]
    assert origin not in others


def test_tensors_come_back_by_name():
    backbone = CNNBackbone(H)  # its kernels have another layout in memory than arrays have
    arrays = state_to_arrays(backbone.state_dict(), "now.") | {"best.head.bias": np.zeros(10, np.float32)}
    assert arrays["now.layers.0.convolution.weight"].shape == (4, 1, 3, 3)
    assert same_state(state_from_arrays(arrays, "now."), backbone.state_dict())
    assert list(state_from_arrays(arrays, "best.")) == ["head.bias"]
