"""The forward and the backward pass of the MLP, against PyTorch and finite differences, and its state."""

import copy
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model_utils.gradient_check import gradient_check
from model_utils.layers import ACTIVATIONS
from model_utils.losses import OBJECTIVES, cross_entropy
from model_utils.mlp import MLP
from model_utils.optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[2]

TORCH_ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def torch_cross_entropy(logits, labels, label_smoothing=0.0):
    return nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def torch_mean_squared_error(logits, labels, label_smoothing=0.0):
    k = logits.shape[1]
    targets = nn.functional.one_hot(labels, k).to(logits.dtype) * (1 - label_smoothing) + label_smoothing / k
    return ((logits.softmax(dim=1) - targets) ** 2).sum(dim=1).mean()


TORCH_OBJECTIVES = {"cross_entropy": torch_cross_entropy, "mean_squared_error": torch_mean_squared_error}

N, SIZES = 9, (7, 8, 6, 4)
x = np.random.default_rng(1).normal(size=(N, SIZES[0]))
labels = np.random.default_rng(2).integers(0, SIZES[-1], N)


def random_mlp(**settings):
    """A float64 MLP whose biases and batch-norm scales are not at their starting values."""
    model = MLP(SIZES[0], SIZES[1:-1], SIZES[-1], dtype=np.float64, **settings)
    model.parameters += np.random.default_rng(3).normal(0, 0.1, model.n_parameters)
    return model


class FixedMask(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = torch.from_numpy(mask.copy())

    def forward(self, a):
        return a * self.mask if self.training else a


def torch_twin(model, masks=None):
    """The same network in PyTorch's own layers, and by name the tensors that match the MLP's parameters."""
    layers, parameters = [], {}
    for l, (W, b) in enumerate(zip(model.W, model.b, strict=True), start=1):
        is_hidden = l < len(model.W)
        normalised = is_hidden and model.batch_norm
        linear = nn.Linear(*W.shape, bias=not normalised, dtype=torch.float64)
        linear.weight.data = torch.from_numpy(W.T.copy())
        layers.append(linear)
        parameters[f"W{l}"] = linear.weight
        shift = linear.bias
        if normalised:
            norm = nn.BatchNorm1d(W.shape[1], dtype=torch.float64)
            norm.weight.data = torch.from_numpy(model.named_parameters[f"gamma{l}"].copy())
            layers.append(norm)
            parameters[f"gamma{l}"] = norm.weight
            shift = norm.bias
        shift.data = torch.from_numpy(b.copy())
        parameters[f"b{l}"] = shift
        if is_hidden:
            layers.append(TORCH_ACTIVATIONS[model.activation]())
            if masks is not None:
                layers.append(FixedMask(masks[l - 1]))
    return nn.Sequential(*layers), parameters


def relative_error(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
each_objective = pytest.mark.parametrize("objective", OBJECTIVES)
each_dropout = pytest.mark.parametrize("dropout", [0.0, 0.4])
each_norm = pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch_norm"])


@pytest.mark.q2c
def test_the_mlp_needs_numpy_and_nothing_else():
    """Import it alone and look at everything that came along."""
    code = (
        "import sys; import numpy; before = set(sys.modules); import model_utils.mlp, model_utils.optimizers;"
        "print(*sorted({n.split('.')[0] for n in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(result.stdout.split()) <= {"model_utils", "numpy"}


@pytest.mark.q2c
@each_norm
@each_activation
def test_forward_matches_pytorch(activation, batch_norm):
    model = random_mlp(activation=activation, batch_norm=batch_norm)
    twin, _ = torch_twin(model)
    inputs = torch.from_numpy(x)
    np.testing.assert_allclose(model.forward(x, training=True), twin(inputs).detach(), rtol=1e-12, atol=1e-13)
    twin.eval()  # with batch norm's running averages, one training batch later
    np.testing.assert_allclose(model.forward(x), twin(inputs).detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.q2c
def test_prediction_does_not_depend_on_the_batch():
    model = random_mlp(batch_norm=True, dropout=0.5)
    together = model.predict_logits(x)
    np.testing.assert_allclose(np.concatenate([model.forward(row[np.newaxis]) for row in x]), together, rtol=1e-12)
    np.testing.assert_allclose(model.predict_logits(x, batch_size=4), together, rtol=1e-12)
    np.testing.assert_array_equal(model.predict(x), together.argmax(axis=1))


@pytest.mark.q2c
def test_forward_leaves_its_input_alone_and_its_logits_belong_to_the_caller():
    model = random_mlp(dropout=0.3, batch_norm=True)
    original = x.copy()
    logits = model.forward(x, training=True)
    kept = logits.copy()
    model.backward(cross_entropy(logits, labels)[1])
    model.forward(x[:3] * 2, training=True)
    np.testing.assert_array_equal(x, original)
    np.testing.assert_array_equal(logits, kept)


@pytest.mark.q2c
def test_repr_counts_the_parameters():
    assert repr(MLP()).startswith("MLP 784-128-10 with 101,770 parameters")
    text = repr(MLP(784, (512, 256), batch_norm=True, dropout=0.2))
    assert "a2 = relu(gamma2 x_hat(a1 W2) + b2), dropout 0.2" in text
    counts = [int(line.split(")")[-1].replace(",", "")) for line in text.splitlines()[2:]]
    assert counts == [784 * 512 + 2 * 512, 512 * 256 + 2 * 256, 256 * 10 + 10]


@pytest.mark.q2c
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 8)), r"x: expected shape \(N, 7\) .* got \(3, 8\)"),
        (np.zeros((0, 7)), r"x: expected shape \(N, 7\) with N at least 1, got \(0, 7\)"),
        (np.zeros(7), r"x: .* got \(7,\)"),
        (np.zeros((3, 7), np.uint8), "x: expected floats, for images from preprocess, got uint8"),
        (np.array([[0, 1, 2, np.nan, 4, 5, 6]]), "x: expected finite numbers, got nan in column 3"),
        (np.array([[0] * 7, [0] * 6 + [-np.inf]]), "x: expected finite numbers, got -inf in column 6"),
    ],
)
def test_forward_refuses_bad_input(bad, message):
    model = random_mlp()
    for function in (model.forward, model.predict):
        with pytest.raises(ValueError, match=message):
            function(bad)


@pytest.mark.q2c
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("n_inputs", 0, "an integer from 1 to 100,000, got 0"),
        ("hidden_sizes", (128, 0), r"a tuple of up to 100 integers from 1 to 100,000, .* got \(128, 0\)"),
        ("hidden_sizes", (128, 2.5), r"a tuple of up to 100 integers from 1 to 100,000, .* got \(128, 2.5\)"),
        ("hidden_sizes", 128, "a tuple .* got 128"),
        ("n_classes", 1, "an integer from 2 to 100,000, got 1"),
        ("activation", "relo", "one of relu, leaky_relu, elu, sigmoid, tanh, got 'relo'"),
        ("init", "he", "one of random, Xavier, He, got 'he'"),
        ("dropout", 1.0, "a number from 0 to below 1, got 1.0"),
        ("dropout", -0.1, "a number from 0 to below 1, got -0.1"),
        ("seed", -1, "an integer from 0 to 4,294,967,295, got -1"),
        ("dtype", "float16", "float32 or float64, got 'float16'"),
    ],
)
def test_mlp_refuses_bad_arguments(argument, value, message):
    with pytest.raises(ValueError, match=f"{argument}: expected {message}"):
        MLP(**{argument: value})


@pytest.mark.q2d
@each_norm
@each_dropout
@each_objective
@each_activation
def test_backward_matches_finite_differences(activation, objective, dropout, batch_norm):
    model = random_mlp(activation=activation, dropout=dropout, batch_norm=batch_norm)
    for label_smoothing in (0.0, 0.1):
        loss = partial(OBJECTIVES[objective], label_smoothing=label_smoothing)
        errors = gradient_check(model, x, labels, loss)
        assert errors.keys() == model.named_parameters.keys() | {"x"}
        assert all(error < 1e-6 for error in errors.values()), errors


@pytest.mark.q2d
@each_objective
def test_backward_matches_finite_differences_without_hidden_layers(objective):
    model = MLP(7, (), 4, dtype=np.float64)
    errors = gradient_check(model, x, labels, OBJECTIVES[objective])
    assert errors.keys() == {"W1", "b1", "x"}
    assert all(error < 1e-6 for error in errors.values()), errors


@pytest.mark.q2d
@each_norm
@each_dropout
@each_objective
@each_activation
def test_backward_matches_autograd_in_float64(activation, objective, dropout, batch_norm):
    model = random_mlp(activation=activation, dropout=dropout, batch_norm=batch_norm)
    logits = model.forward(x, training=True)
    loss, dlogits = OBJECTIVES[objective](logits, labels, label_smoothing=0.1)
    dx = model.backward(dlogits, return_dx=True)

    masks = [mask[:N] for mask in model._masks] if dropout else None
    twin, parameters = torch_twin(model, masks)
    torch_x = torch.tensor(x, requires_grad=True)
    torch_loss = TORCH_OBJECTIVES[objective](twin(torch_x), torch.from_numpy(labels), label_smoothing=0.1)
    torch_loss.backward()
    assert relative_error(dx, torch_x.grad.numpy()) < 1e-10
    assert loss == pytest.approx(torch_loss.item(), rel=1e-12)
    assert parameters.keys() == model.named_gradients.keys()
    for name, gradient in model.named_gradients.items():
        expected = parameters[name].grad.numpy()
        assert relative_error(gradient, expected.T if name.startswith("W") else expected) < 1e-10, name


@pytest.mark.q2d
def test_a_smaller_batch_after_a_larger_one_gets_its_own_gradient():
    """Buffers are reused: what an earlier, larger batch left in them must not leak."""
    fresh, used = random_mlp(batch_norm=True), random_mlp(batch_norm=True)
    for model, batches in ((fresh, [slice(4)]), (used, [slice(N), slice(4)])):
        for batch in batches:
            model.backward(cross_entropy(model.forward(x[batch], training=True), labels[batch])[1])
    np.testing.assert_array_equal(fresh.gradients, used.gradients)


@pytest.mark.q2d
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_training_follows_pytorchs_loss_curve(dtype, tolerance):
    """100 steps of SGD with momentum from the same weights on the same batches."""
    rng = np.random.default_rng(0)
    images, classes = rng.random((256, 20)).astype(dtype), rng.integers(0, 10, 256)
    model = MLP(20, (32, 16), 10, dtype=dtype)
    twin, _ = torch_twin(model)
    twin.to(torch.from_numpy(images).dtype)
    optimizer = OPTIMIZERS["momentum"](model.parameters, model.gradients)
    torch_optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    for _ in range(100):
        batch = rng.choice(256, 64, replace=False)
        loss, dlogits = cross_entropy(model.forward(images[batch], training=True), classes[batch])
        model.backward(dlogits)
        optimizer.step(0.1)
        torch_optimizer.zero_grad()
        torch_loss = torch_cross_entropy(twin(torch.from_numpy(images[batch])), torch.from_numpy(classes[batch]))
        torch_loss.backward()
        torch_optimizer.step()
        assert loss == pytest.approx(torch_loss.item(), rel=tolerance)


@pytest.mark.q2d
def test_backward_refuses_what_it_cannot_do():
    model = random_mlp()
    with pytest.raises(RuntimeError, match=r"forward\(x, training=True\) first"):
        model.backward(np.zeros((N, 4)))
    model.forward(x)
    with pytest.raises(RuntimeError, match=r"forward\(x, training=True\) first"):
        model.backward(np.zeros((N, 4)))
    model.forward(x, training=True)
    with pytest.raises(ValueError, match=r"dlogits: expected shape \(9, 4\), got \(9, 5\)"):
        model.backward(np.zeros((N, 5)))


@pytest.mark.q2d
def test_batch_norm_refuses_to_train_on_one_image():
    model = random_mlp(batch_norm=True)
    with pytest.raises(ValueError, match="at least 2 images for batch normalisation"):
        model.forward(x[:1], training=True)
    assert model.forward(x[:1]).shape == (1, 4)


@pytest.mark.q2f
def test_state_restores_every_prediction_and_a_wrong_state_changes_nothing():
    model, other = random_mlp(batch_norm=True), random_mlp(batch_norm=True, seed=5)
    model.forward(x, training=True)  # moves the running averages
    state = model.state()
    assert not np.array_equal(other.forward(x), model.forward(x))
    other.load_state(state)
    np.testing.assert_array_equal(other.forward(x), model.forward(x))

    before = other.state()
    for wrong in (state | {"b3": np.zeros(5)}, {k: v for k, v in state.items() if k != "W1"}, state | {"W9": x}):
        with pytest.raises(ValueError, match="state: expected"):
            other.load_state(wrong)
    for name, array in other.state().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.q2f
def test_parameters_and_gradients_are_views_on_flat_vectors():
    model = random_mlp(batch_norm=True)
    for flat, named in ((model.parameters, model.named_parameters), (model.gradients, model.named_gradients)):
        assert sum(view.size for view in named.values()) == flat.size
        assert all(np.shares_memory(view, flat) for view in named.values())
    weights = np.concatenate([W.ravel() for W in model.W])
    np.testing.assert_array_equal(model.parameters[: model.n_weights], weights)


@pytest.mark.q2f
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_learns_as_its_original_does_and_apart_from_it(copied):
    """Its layers must be views on its own flat vectors, which the optimizer changes."""
    original = random_mlp(batch_norm=True, dropout=0.2)
    original.forward(x, training=True)  # moves the running averages
    model = copied(original)
    before, outputs = original.state(), []
    for each in (model, original):
        each.backward(cross_entropy(each.forward(x, training=True), labels)[1])
        OPTIMIZERS["momentum"](each.parameters, each.gradients, each.n_weights).step(0.1)
        outputs.append(each.forward(x))
        if each is model:
            for name, array in original.state().items():
                np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(*outputs)
    assert not np.array_equal(model.state()["W1"], before["W1"])
