"""The contestants of the race: the same MLP in NumPy by hand and in four libraries, each at its best.

Each function makes a network with these layer sizes and ReLU between the layers. It returns a `Contestant`, which
trains the network in float32 with softmax cross-entropy and SGD with momentum 0.9, on batches in a new random order. An
ImportError says what is missing.

`training` is a Split of images; `x` holds the same images for the libraries, scaled, as float32 of shape (N, 784).
"""

import os
import shutil
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

import mlp
from data_preparation import N_OFFICIAL_TRAIN, Split, load_official, preprocess
from model_utils.mlp import MLP

LEARNING_RATE, MOMENTUM = 0.02, 0.9


class Contestant(NamedTuple):
    """A network in training.

    Attributes
    ----------
    epoch : function
        Trains for one epoch and returns a loss; the floor trains nothing and returns None.
    predict : function
        Maps x, float32 of shape (N, D), to the scores of the classes, shape (N, K).
    """

    epoch: callable
    predict: callable


def numpy_by_hand(sizes, batch_size, training, x):
    """Make the NumPy MLP, trained by `mlp.train` with its checks, its history and a validation on ten images."""
    model = MLP(sizes[0], sizes[1:-1], sizes[-1])
    h = mlp.MLPHyperparameters(
        hidden_sizes=sizes[1:-1], learning_rate=LEARNING_RATE, batch_size=batch_size, epochs=1, optimizer="momentum"
    )
    few = Split(training.images[:10], training.labels[:10])
    return Contestant(lambda: mlp.train(model, training, few, h)[-1]["train_loss"], model.predict_logits)


def products_alone(sizes, batch_size, training, x):
    """Make the floor: only the matrix products of an epoch, in NumPy and with the same shapes."""
    rng = np.random.default_rng(0)
    a, da = ([rng.random((batch_size, size), np.float32) for size in sizes] for _ in range(2))
    W, dW = ([rng.random(shape, np.float32) for shape in pairwise(sizes)] for _ in range(2))
    z = [np.empty_like(array) for array in a]

    def products(n):
        for l in range(len(W)):
            np.matmul(a[l][:n], W[l], out=z[l + 1][:n])
        for l in reversed(range(len(W))):
            np.matmul(a[l][:n].T, da[l + 1][:n], out=dW[l])
            if l:
                np.matmul(da[l + 1][:n], W[l].T, out=z[l][:n])

    def epoch():
        for start in range(0, len(x), batch_size):
            products(min(batch_size, len(x) - start))

    return Contestant(epoch, predict=None)


def pytorch(sizes, batch_size, training, x, compiled=False):
    """Make a PyTorch network with the data in one tensor, batches taken from it by index, and the fused optimizer."""
    if compiled and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise ImportError("torch.compile needs a C++ compiler")
    torch.manual_seed(0)
    layers = [torch.nn.Linear(*sizes[:2])]
    for n_inputs, n_outputs in pairwise(sizes[1:]):
        layers += [torch.nn.ReLU(), torch.nn.Linear(n_inputs, n_outputs)]
    network = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM, fused=True)
    x, labels = torch.from_numpy(x), torch.from_numpy(training.labels)

    def loss_of(x, labels):
        return F.cross_entropy(network(x), labels)

    if compiled:
        loss_of = torch.compile(loss_of)

    def epoch():
        for chosen in torch.randperm(len(x)).split(batch_size):
            loss = loss_of(x.index_select(0, chosen), labels.index_select(0, chosen))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def predict(x):
        return network(torch.from_numpy(x)).numpy()

    return Contestant(epoch, predict)


def jax_jit(sizes, batch_size, training, x):
    """Make a JAX network whose whole epoch, from random order to last update, is one compiled function."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
    parameters = [
        (jax.random.normal(key, shape) * jnp.sqrt(2 / shape[0]), jnp.zeros(shape[1]))
        for key, shape in zip(keys, pairwise(sizes), strict=True)
    ]
    velocity = jax.tree.map(jnp.zeros_like, parameters)
    x, labels = jnp.asarray(x), jnp.asarray(training.labels)

    @jax.jit
    def logits_of(parameters, x):
        *hidden, (W, b) = parameters
        for W_l, b_l in hidden:
            x = jax.nn.relu(x @ W_l + b_l)
        return x @ W + b

    def loss_of(parameters, x, labels):
        log_p = jax.nn.log_softmax(logits_of(parameters, x))
        return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()

    def step(x, labels, state, chosen):
        parameters, velocity = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x[chosen], labels[chosen])
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradients)
        parameters = jax.tree.map(lambda p, v: p - LEARNING_RATE * v, parameters, velocity)
        return (parameters, velocity), loss

    @partial(jax.jit, donate_argnums=0)
    def compiled_epoch(state, key, x, labels):
        order = jax.random.permutation(key, len(x))
        n_whole = len(x) // batch_size * batch_size
        step_here = partial(step, x, labels)
        state, losses = jax.lax.scan(step_here, state, order[:n_whole].reshape(-1, batch_size))
        if n_whole < len(x):
            state, _ = step_here(state, order[n_whole:])
        return state, losses[-1]

    state, key = (parameters, velocity), jax.random.key(1)

    def epoch():
        nonlocal state, key
        key, epoch_key = jax.random.split(key)
        state, loss = compiled_epoch(state, epoch_key, x, labels)
        return float(loss)

    return Contestant(epoch, lambda x: np.asarray(logits_of(state[0], x)))


def keras_fit(sizes, batch_size, training, x):
    """Make a Keras network for `fit`, many batches in each call; on JAX, the fastest here, or on KERAS_BACKEND."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input(sizes[:1])]
        + [keras.layers.Dense(size, activation="relu", kernel_initializer="he_normal") for size in sizes[1:-1]]
        + [keras.layers.Dense(sizes[-1])]
    )
    network.compile(
        keras.optimizers.SGD(LEARNING_RATE, MOMENTUM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
        steps_per_execution=32,
    )
    return Contestant(
        lambda: network.fit(x, training.labels, batch_size, epochs=1, verbose=0).history["loss"][-1],
        lambda x: network.predict(x, batch_size=1000, verbose=0),
    )


def scikit_learn(sizes, batch_size, training, x):
    """Make scikit-learn's MLPClassifier, trained by `partial_fit`, which goes through the data once."""
    from sklearn.neural_network import MLPClassifier

    classifier = MLPClassifier(
        sizes[1:-1],
        solver="sgd",
        alpha=0,
        batch_size=batch_size,
        learning_rate_init=LEARNING_RATE,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        random_state=0,
    )
    classes = np.arange(sizes[-1])
    return Contestant(
        lambda: classifier.partial_fit(x, training.labels, classes=classes).loss_, classifier.predict_proba
    )


class Rival(NamedTuple):
    """One way to train the network.

    Attributes
    ----------
    title : str
        Its name in tables.
    package : str
        The package whose version is stored.
    make : function
        One of the functions above.
    """

    title: str
    package: str
    make: callable


RIVALS = {
    "numpy": Rival("NumPy by hand", "numpy", numpy_by_hand),
    "floor": Rival("products alone", "numpy", products_alone),
    "pytorch": Rival("PyTorch", "torch", pytorch),
    "pytorch_compiled": Rival("PyTorch, compiled", "torch", partial(pytorch, compiled=True)),
    "jax": Rival("JAX", "jax", jax_jit),
    "keras": Rival("Keras", "keras", keras_fit),
    "scikit_learn": Rival("scikit-learn", "scikit-learn", scikit_learn),
}


def race_epoch(name, sizes, batch_size):
    """Make a rival for the 60,000 official training images; return the function that trains it for an epoch."""
    training = Split(*(part[:N_OFFICIAL_TRAIN] for part in load_official()))
    return RIVALS[name].make(sizes, batch_size, training, preprocess(training.images)).epoch
