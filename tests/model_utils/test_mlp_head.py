"""The NumPy MLP as the head of a backbone, against the same pair written in PyTorch alone."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import cnn
import mlp
from model_utils.cnn_backbone import CNNBackbone, CNNHyperparameters
from model_utils.mlp_head import MLPHead
from model_utils.optimizers import cosine

pytestmark = pytest.mark.q3d

H = CNNHyperparameters(channels=(3, 4, 5, 4, 6), n_features=7, dropout=0.0)
MLP_H = replace(cnn.CLASSIFIER, hidden_sizes=(6, 5), weight_decay=0.01, learning_rate=0.05)


def by_hand(mlp_h=MLP_H, **changes):
    """A backbone in float64 with the NumPy MLP as its head."""
    h = replace(H, **changes)
    backbone = CNNBackbone(h).double()
    backbone.head = MLPHead(mlp.build(mlp_h, h.n_features, np.float64), mlp_h)
    return backbone


def in_pytorch_alone(backbone):
    """The same backbone, with the same weights, and the MLP in PyTorch."""
    model = backbone.head.mlp
    twin = copy.copy(backbone)
    layers = []
    for W, b in zip(model.W, model.b, strict=True):
        linear = nn.Linear(*W.shape).double()
        linear.weight.data, linear.bias.data = torch.from_numpy(W.T.copy()), torch.from_numpy(b.copy())
        layers += [linear, nn.ReLU()]
    twin = CNNBackbone(H).double()
    twin.load_state_dict(
        {name: tensor for name, tensor in backbone.state_dict().items() if not name.startswith("head.")}, strict=False
    )
    twin.head = nn.Sequential(*layers[:-1])
    return twin


def some_batch(seed=0, n=32):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(n, 1, 28, 28, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, 10, (n,), generator=generator)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_gradients_of_both_parts_are_those_of_autograd(label_smoothing):
    backbone = by_hand()
    twin = in_pytorch_alone(backbone)
    inputs, labels = some_batch()
    loss, logits = backbone.head.loss(backbone.features(inputs), labels, label_smoothing)
    loss.backward()
    expected_logits = twin(inputs)
    expected = nn.functional.cross_entropy(expected_logits, labels, label_smoothing=label_smoothing)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(logits, expected_logits.detach(), rtol=0, atol=1e-12)
    theirs = dict(twin.named_parameters())
    for name, parameter in backbone.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=0, atol=1e-10)
    model = backbone.head.mlp
    for layer, dW, db in zip(twin.head[::2], model.dW, model.db, strict=True):
        np.testing.assert_allclose(dW, layer.weight.grad.numpy().T, rtol=0, atol=1e-10)
        np.testing.assert_allclose(db, layer.bias.grad.numpy(), rtol=0, atol=1e-10)


def test_a_loss_that_is_scaled_scales_both_gradients():
    gradients = []
    for factor in (1, 3):
        backbone = by_hand()
        inputs, labels = some_batch()
        loss, _ = backbone.head.loss(backbone.features(inputs), labels, 0.0)
        (factor * loss).backward()
        gradients.append((backbone.fully_connected.weight.grad, torch.from_numpy(backbone.head.mlp.gradients)))
    for one, three in zip(*gradients, strict=True):
        torch.testing.assert_close(3 * one, three)


def test_a_hundred_steps_go_as_in_pytorch_alone():
    backbone = by_hand()
    twin = in_pytorch_alone(backbone)
    ours = torch.optim.AdamW(backbone.parameters(), lr=0.003)
    mlp_weights = [layer.weight for layer in twin.head[::2]]
    mlp_biases = [layer.bias for layer in twin.head[::2]]
    theirs = torch.optim.AdamW([p for name, p in twin.named_parameters() if not name.startswith("head.")], lr=0.003)
    their_mlp = torch.optim.SGD(
        [{"params": mlp_weights, "weight_decay": MLP_H.weight_decay}, {"params": mlp_biases}], lr=1.0, momentum=0.9
    )
    losses = {"by hand": [], "PyTorch alone": []}
    for step in range(100):
        inputs, labels = some_batch(seed=step % 5)
        loss, _ = backbone.head.loss(backbone.features(inputs), labels, 0.1)
        ours.zero_grad()
        loss.backward()
        ours.step()
        backbone.head.update(step / 100)
        losses["by hand"].append(loss.item())

        for group in their_mlp.param_groups:
            group["lr"] = MLP_H.learning_rate * cosine(step / 100)
        loss = nn.functional.cross_entropy(twin(inputs), labels, label_smoothing=0.1)
        for optimizer in (theirs, their_mlp):
            optimizer.zero_grad()
        loss.backward()
        theirs.step()
        their_mlp.step()
        losses["PyTorch alone"].append(loss.item())
    np.testing.assert_allclose(*losses.values(), rtol=1e-8)
    assert losses["by hand"][-1] < losses["by hand"][0]


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_the_state_of_the_backbone_holds_the_mlp_and_its_optimizer(optimizer):
    mlp_h = replace(MLP_H, optimizer=optimizer, batch_norm=True)
    one, other = by_hand(mlp_h), by_hand(replace(mlp_h, seed=1))

    def step(backbone, seed):
        inputs, labels = some_batch(seed)
        loss, _ = backbone.head.loss(backbone.features(inputs), labels, 0.0)
        loss.backward()
        backbone.head.update(0.5)
        return loss.item()

    for seed in range(3):
        step(one, seed)
    other.load_state_dict(one.state_dict())
    assert np.array_equal(other.head.mlp.parameters, one.head.mlp.parameters)
    for seed in range(3, 6):
        assert step(one, seed) == step(other, seed)
    assert np.array_equal(other.head.mlp.parameters, one.head.mlp.parameters)


def test_the_mlp_stays_in_numpy_wherever_the_backbone_goes():
    backbone = by_hand()
    backbone.float().to(memory_format=torch.channels_last)
    assert backbone.fully_connected.weight.dtype == torch.float32
    assert backbone.head.W1.dtype == torch.float64
    backbone.head.mlp.W[0][0, 0] = 7
    assert backbone.head.W1[0, 0] == 7, "no longer the same memory"


def test_out_of_training_the_head_gives_the_mlps_logits():
    backbone = by_hand().eval()
    inputs, _ = some_batch()
    with torch.inference_mode():
        features = backbone.features(inputs)
        logits = backbone(inputs)
    assert np.array_equal(logits.numpy(), backbone.head.mlp.predict_logits(features.numpy()))
