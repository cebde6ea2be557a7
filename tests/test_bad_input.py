"""Bad calls: whatever is wrong with an argument, a ValueError names it."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

import cnn
import data_preparation as dp
import mlp
from model_utils import backbone_training, backbones, pair, tensor_augmentation
from model_utils.cnn_backbone import CNNHyperparameters
from model_utils.devices import choose_device
from model_utils.gradient_check import gradient_check, numerical_gradient, relative_error
from model_utils.hyperparameters import MAX_SEED
from model_utils.layers import initial_std
from model_utils.losses import OBJECTIVES, cross_entropy, softmax
from model_utils.mlp import MLP
from model_utils.onnx_export import export_onnx
from model_utils.optimizers import OPTIMIZERS, clip_gradients
from model_utils.pictures import read_picture
from model_utils.tables import write_csv
from model_utils.training import best_epoch, check_batches, measure

pytestmark = pytest.mark.q2f

NAN, INFINITY = float("nan"), float("inf")

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
LABELS = np.arange(20) % 10
SPLIT = dp.Split(IMAGES, LABELS)
SPLITS = dp.Splits(SPLIT, SPLIT, SPLIT)
ALL_LABELS = np.arange(70_000) % 10
H = mlp.MLPHyperparameters(hidden_sizes=(4,), epochs=1)
BACKBONE_H = CNNHyperparameters(channels=(2, 2, 2, 2, 2), n_features=3, epochs=1)
CLASSIFIER_H = replace(cnn.CLASSIFIER, hidden_sizes=(4,), epochs=1)
BACKBONE = cnn.build(BACKBONE_H)
PAIR = pair.Pair(BACKBONE, pair.Standardizer.identity(3), mlp.build(CLASSIFIER_H, 3))
X = np.random.default_rng(1).random((20, 5), np.float32)
SMALL_MLP = MLP(5, (4,), 10, dtype=np.float64)
WEIGHTS = np.linspace(0.1, 2, 20)
LOGITS = np.random.default_rng(2).normal(size=(20, 10))

# What is no such thing, whatever values it may have.
NO_COUNTS = (None, "3", 2.5, True, NAN, [3], np.array([1, 2]), -1)
NO_NUMBERS = (None, "0.1", True, NAN, INFINITY, [0.1], 1j, -0.1, 10**400)
NO_FLAGS = (None, "no", 1, 0.0, [], np.array([True, False]))
NO_CHOICES = (None, "nonsense", 3, ["relu"], {}, np.array(["relu", "tanh"]))
NO_ARRAYS = (None, "text", 3, [], [[1, 2], [3]], object())
NO_OBJECTS = (None, "text", 3, {}, object())
NO_RNG = (None, 0, "seed", np.random)
NO_PATHS = (None, 3, [], np.zeros(2))
NO_IMAGES = (
    *NO_ARRAYS,
    IMAGES.reshape(20, 784),
    IMAGES[:0],
    IMAGES[:, 1:],
    IMAGES / 255,
    IMAGES.astype(np.int64),
    IMAGES.astype(str),
)
NO_LABELS = (
    *NO_ARRAYS,
    LABELS[1:],
    LABELS[:0],
    LABELS.astype(float),
    LABELS.astype(str),
    LABELS[:, np.newaxis],
    LABELS - 1,
    LABELS + 1,
)


def no_inputs(x):
    """What does not fit a network that takes floats of the shape of x."""
    holed = x.copy()
    holed[1, 2] = np.nan
    return (*NO_ARRAYS, x[:, 1:], x[:0], x[0], x.astype(int), x.astype(str), x + 0j, holed, x + np.inf)


NO_LOGITS = (*NO_ARRAYS, LOGITS[0], LOGITS[:0], LOGITS[:, :0], LOGITS.astype(int), LOGITS.astype(str), LOGITS + 0j)
NO_SPLITS = (
    *(None, 3, "train", (), (IMAGES,), (IMAGES, LABELS, LABELS), IMAGES),
    *((images, LABELS) for images in NO_IMAGES[:-3]),
    *((IMAGES, labels) for labels in NO_LABELS),
)


class Call(NamedTuple):
    """A function, arguments with which it works, and for some of them, by name, values with which it must not."""

    function: Callable
    good: dict
    bad: dict


def consume(generator_function):
    """A generator checks nothing before it is asked for its first item."""
    return functools.wraps(generator_function)(lambda **arguments: list(generator_function(**arguments)))


def step_once(rule, learning_rate=0.1, **arguments):
    OPTIMIZERS[rule](**arguments).step(learning_rate)


@functools.cache
def trained_once():
    model = mlp.build(H)
    mlp.train(model, SPLIT, SPLIT, H)
    return model


def backward(dlogits):
    SMALL_MLP.forward(X, training=True)
    return SMALL_MLP.backward(dlogits)


RULES = {
    "rule": "adam",
    "parameters": np.ones(6),
    "gradients": np.ones(6),
    "n_decayed": 3,
    "weight_decay": 0.1,
    "learning_rate": 0.1,
}

CALLS = {
    # data_preparation.py
    "parse_idx": Call(
        dp.parse_idx,
        {"content": bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]), "name": "labels"},
        {"content": (None, "text", 3, [0, 0, 8, 1]), "name": (None, 3, b"labels")},
    ),
    "split_indices": Call(
        dp.split_indices,
        {"labels": ALL_LABELS, "train": 100, "validation": 50, "test": "official", "seed": 0},
        {
            "labels": (*NO_ARRAYS, ALL_LABELS[1:], ALL_LABELS[:0], ALL_LABELS / 2, ALL_LABELS + 1, ALL_LABELS - 1),
            "train": (*NO_COUNTS, 0, 9, 60_001),
            "validation": (*NO_COUNTS, 0, 9, 60_001),
            "test": (*NO_COUNTS[:-1], "oficial", 0, 70_001, -1),
            "seed": (*NO_COUNTS, MAX_SEED + 1),
        },
    ),
    "load_splits": Call(
        dp.load_splits,
        {"train": 100, "validation": 50},
        {
            "train": (*NO_COUNTS, 0, 60_001),
            "validation": (*NO_COUNTS, 0),
            "test": (None, "none", 2.5, 0),
            "seed": (*NO_COUNTS, MAX_SEED + 1),
            "data_dir": NO_PATHS,
        },
    ),
    "load_dataloaders": Call(
        dp.load_dataloaders,
        {"batch_size": 10, "train": 100, "validation": 50},
        {"batch_size": (*NO_COUNTS, 0), "train": (*NO_COUNTS, 60_001), "seed": NO_COUNTS, "data_dir": NO_PATHS},
    ),
    "flatten": Call(dp.flatten, {"images": IMAGES}, {"images": NO_IMAGES[:7]}),
    "scale": Call(
        dp.scale,
        {"images": IMAGES, "out": np.empty(IMAGES.shape, np.float32)},
        {
            "images": (*NO_ARRAYS, IMAGES / 255),
            "out": ("x", 3, [], np.empty((3, 3), np.float32), np.empty_like(IMAGES)),
        },
    ),
    "preprocess": Call(
        dp.preprocess,
        {"images": IMAGES, "out": np.empty((20, 784), np.float32)},
        {"images": NO_IMAGES[:7], "out": ("x", 3, [], np.empty((3, 3), np.float32), np.empty((20, 784), int))},
    ),
    "augment": Call(
        dp.augment,
        {"images": IMAGES, "rng": np.random.default_rng(0), "flip": True, "shift": 2},
        {"images": NO_IMAGES, "rng": NO_RNG, "flip": NO_FLAGS, "shift": (*NO_COUNTS, 14, 28, 10**6)},
    ),
    "ten_views": Call(dp.ten_views, {"images": IMAGES}, {"images": NO_IMAGES}),
    "batches": Call(
        consume(dp.batches),
        {"x": X, "labels": LABELS, "batch_size": 8, "rng": np.random.default_rng(0)},
        {
            "x": (*NO_ARRAYS, X[:0]),
            "labels": (*NO_ARRAYS, LABELS[1:], LABELS[:0]),
            "batch_size": (*NO_COUNTS, 0),
            "rng": NO_RNG,
        },
    ),
    # mlp.py
    "build": Call(
        mlp.build,
        {"hyperparameters": H, "n_inputs": 784, "dtype": np.float32},
        {
            "hyperparameters": NO_OBJECTS,
            "n_inputs": (*NO_COUNTS, 0, 10**12),
            "dtype": ("text", int, 3, "float16", [], object()),
        },
    ),
    "train": Call(
        lambda **arguments: mlp.train(**{"model": mlp.build(H)} | arguments),
        {"training": SPLIT, "validation": SPLIT, "hyperparameters": H},
        {
            "model": NO_OBJECTS,
            "training": NO_SPLITS,
            "validation": NO_SPLITS,
            "hyperparameters": NO_OBJECTS,
            "on_epoch": ("print", 3, []),
        },
    ),
    "predict_logits": Call(
        lambda **arguments: mlp.predict_logits(**{"model": trained_once()} | arguments),
        {"x": IMAGES, "n_views": 1, "batch_size": 8},
        {
            "model": NO_OBJECTS,
            "x": (*NO_ARRAYS, IMAGES[:0], IMAGES[0], IMAGES.astype(int), IMAGES[:, 1:]),
            "n_views": (*NO_COUNTS, 0, 11),
            "batch_size": (*NO_COUNTS, 0),
        },
    ),
    "predict_logits of views": Call(
        lambda **arguments: mlp.predict_logits(trained_once(), n_views=5, **arguments),
        {"x": IMAGES},
        {"x": (*NO_IMAGES, dp.preprocess(IMAGES))},
    ),
    "evaluate": Call(
        lambda **arguments: mlp.evaluate(**{"model": trained_once()} | arguments),
        {"split": SPLIT, "n_views": 5},
        {
            "model": NO_OBJECTS,
            "split": (*NO_SPLITS, (dp.preprocess(IMAGES), LABELS)),
            "n_views": (*NO_COUNTS, 0, 11),
        },
    ),
    "measure_mlp": Call(
        lambda **arguments: mlp.measure_mlp(**{"model": trained_once()} | arguments),
        {"splits": SPLITS, "hyperparameters": H},
        {"model": NO_OBJECTS, "splits": (None, 3, "all", (), IMAGES), "hyperparameters": NO_OBJECTS},
    ),
    # cnn.py
    "cnn.build": Call(
        cnn.build,
        {"hyperparameters": replace(BACKBONE_H, end_to_end=True), "classifier_hyperparameters": CLASSIFIER_H},
        {"hyperparameters": (*NO_OBJECTS, H), "classifier_hyperparameters": (*NO_OBJECTS, BACKBONE_H, H)},
    ),
    "train_pair": Call(
        cnn.train_pair,
        {
            "backbone": BACKBONE,
            "splits": SPLITS,
            "hyperparameters": BACKBONE_H,
            "classifier_hyperparameters": CLASSIFIER_H,
        },
        {
            "backbone": NO_OBJECTS,
            "splits": (None, 3, "all", (), IMAGES),
            "hyperparameters": (*NO_OBJECTS, H),
            "classifier_hyperparameters": (*NO_OBJECTS, BACKBONE_H, H),
        },
    ),
    "measure_pair": Call(
        cnn.measure_pair,
        {"pair": PAIR, "splits": SPLITS},
        {"pair": NO_OBJECTS, "splits": (None, 3, "all", (), IMAGES)},
    ),
    # model_utils
    "backbone_training.train": Call(
        backbone_training.train,
        {"backbone": BACKBONE, "training": SPLIT, "validation": SPLIT, "hyperparameters": BACKBONE_H},
        {
            "backbone": NO_OBJECTS,
            "training": NO_SPLITS,
            "validation": NO_SPLITS,
            "hyperparameters": (*NO_OBJECTS, H),
            "on_epoch": ("print", 3, []),
            "checkpoint": NO_PATHS[1:],
        },
    ),
    "backbones.build": Call(backbones.build, {"hyperparameters": BACKBONE_H}, {"hyperparameters": (*NO_OBJECTS, H)}),
    "head_logits": Call(
        pair.head_logits, {"backbone": BACKBONE, "images": IMAGES}, {"backbone": NO_OBJECTS, "images": NO_IMAGES}
    ),
    "extract_features": Call(
        pair.extract_features, {"backbone": BACKBONE, "images": IMAGES}, {"backbone": NO_OBJECTS, "images": NO_IMAGES}
    ),
    "Standardizer.fit": Call(pair.Standardizer.fit, {"features": X}, {"features": (*NO_ARRAYS, X[0], X[:0], X + NAN)}),
    "Pair.predict_logits": Call(PAIR.predict_logits, {"images": IMAGES}, {"images": NO_IMAGES}),
    "Pair.predict_proba": Call(PAIR.predict_proba, {"images": IMAGES}, {"images": NO_IMAGES}),
    "tensor_augmentation.augment": Call(
        tensor_augmentation.augment,
        {"images": torch.from_numpy(IMAGES), "flip": True, "shift": 1, "erase": 3},
        {
            "images": (
                None,
                "text",
                IMAGES,
                torch.zeros(2, 784),
                torch.zeros(0, 28, 28).byte(),
            ),
            "flip": NO_FLAGS,
            "shift": (*NO_COUNTS, 14, 10**6),
            "erase": (*NO_COUNTS, 28, 10**6),
        },
    ),
    "choose_device": Call(lambda device: choose_device(device), {"device": "cpu"}, {"device": ("tpu", 3, [], "")}),
    "initial_std": Call(
        initial_std,
        {"n_in": 3, "n_out": 4, "init": "He"},
        {"n_in": (*NO_COUNTS, 0), "n_out": (*NO_COUNTS, 0), "init": NO_CHOICES},
    ),
    "softmax": Call(softmax, {"logits": LOGITS}, {"logits": NO_LOGITS}),
    **{
        name: Call(
            objective,
            {"logits": LOGITS, "labels": LABELS, "label_smoothing": 0.1, "weights": WEIGHTS},
            {
                "logits": NO_LOGITS,
                "labels": NO_LABELS,
                "label_smoothing": (*NO_NUMBERS, 1.0, 2),
                "weights": (
                    3,
                    "1",
                    WEIGHTS[1:],
                    WEIGHTS[:, np.newaxis],
                    -WEIGHTS,
                    WEIGHTS + np.inf,
                    WEIGHTS.astype(str),
                ),
            },
        )
        for name, objective in OBJECTIVES.items()
    },
    "MLP": Call(
        MLP,
        {"n_inputs": 5, "hidden_sizes": (4,)},
        {
            "n_inputs": (*NO_COUNTS, 0, 10**9),
            "hidden_sizes": (None, 3, "128", (0,), (2.5,), ("4",), (True,), (10**9,), (100_000, 100_000), (4,) * 101),
            "n_classes": (*NO_COUNTS, 0, 1, 10**12),
            "activation": NO_CHOICES,
            "init": NO_CHOICES,
            "dropout": (*NO_NUMBERS, 1.0),
            "batch_norm": NO_FLAGS,
            "seed": (*NO_COUNTS, MAX_SEED + 1),
            "dtype": ("text", int, 3, "float16", [], object()),
        },
    ),
    "MLP.forward": Call(
        SMALL_MLP.forward,
        {"x": X, "training": False},
        {"x": (*no_inputs(X), X.astype(object)), "training": NO_FLAGS},
    ),
    "MLP.backward": Call(backward, {"dlogits": LOGITS}, {"dlogits": (*NO_LOGITS[:9], LOGITS[1:], LOGITS[:, 1:])}),
    "MLP.predict_logits": Call(
        SMALL_MLP.predict_logits, {"x": X, "batch_size": 8}, {"x": no_inputs(X), "batch_size": (*NO_COUNTS, 0)}
    ),
    "MLP.predict": Call(SMALL_MLP.predict, {"x": X}, {"x": no_inputs(X)}),
    "MLP.load_state": Call(
        SMALL_MLP.load_state,
        {"state": SMALL_MLP.state()},
        {
            "state": (
                *(None, "text", 3, [], {}),
                {name: None for name in SMALL_MLP.state()},
                {name: array.astype(str) for name, array in SMALL_MLP.state().items()},
                {name: array[1:] for name, array in SMALL_MLP.state().items()},
            )
        },
    ),
    "Optimizer": Call(
        step_once,
        RULES,
        {
            "parameters": (*NO_ARRAYS, np.ones(5), np.ones((2, 3)), np.ones(6, int)),
            "gradients": (*NO_ARRAYS, np.ones(5), np.ones((2, 3)), np.ones(6, int), np.ones(6, np.float32)),
            "n_decayed": (*NO_COUNTS, 7),
            "weight_decay": NO_NUMBERS,
            "learning_rate": NO_NUMBERS,
        },
    ),
    "clip_gradients": Call(
        clip_gradients,
        {"gradients": np.ones(6), "max_norm": 1.0},
        {"gradients": (*NO_ARRAYS, np.ones((2, 3)), np.ones(6, int)), "max_norm": (*NO_NUMBERS, 0.0)},
    ),
    "numerical_gradient": Call(
        numerical_gradient,
        {"function": lambda: 1.0, "x": np.ones(3), "step": 1e-5},
        {
            "function": (None, "f", 3),
            "x": (*NO_ARRAYS, np.ones(3, int), np.ones(3, np.float32)),
            "step": (*NO_NUMBERS, 0),
        },
    ),
    "relative_error": Call(
        relative_error,
        {"gradient": np.ones(3), "differences": np.ones(3)},
        {"gradient": (*NO_ARRAYS, np.ones(2)), "differences": (None, "text", object(), np.ones(2))},
    ),
    "gradient_check": Call(
        gradient_check,
        {"model": SMALL_MLP, "x": X.astype(np.float64), "labels": LABELS, "objective": cross_entropy},
        {
            "model": (*NO_OBJECTS, MLP(5, (4,), 10)),
            "x": no_inputs(X),
            "labels": NO_LABELS,
            "objective": (None, "cross_entropy", 3),
        },
    ),
    "best_epoch": Call(
        best_epoch, {"history": [{"validation_accuracy": 0.5}]}, {"history": (None, 3, "text", [], [{}], [None])}
    ),
    "check_batches": Call(
        check_batches,
        {"batch_norm": True, "batch_size": 8, "n_samples": 20},
        {"batch_size": (1, 19)},
    ),
    "measure": Call(
        measure,
        {"logits": LOGITS, "labels": LABELS, "class_names": dp.CLASS_NAMES},
        {
            "logits": (*NO_LOGITS, LOGITS + NAN, LOGITS + INFINITY),
            "labels": NO_LABELS,
            "class_names": (None, 3, (), dp.CLASS_NAMES[1:]),
        },
    ),
}

BAD_CALLS = [
    pytest.param(call.function, call.good, name, value, id=f"{call_name}-{name}-{number}")
    for call_name, call in CALLS.items()
    for name, values in call.bad.items()
    for number, value in enumerate(values)
]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_good_arguments_work(call):
    call.function(**call.good)


@pytest.mark.parametrize(("function", "good", "name", "value"), BAD_CALLS)
def test_a_bad_argument_is_named(function, good, name, value):
    with pytest.raises(ValueError, match=rf"^[^:]*\b{name}\b"):
        function(**good | {name: value})


@pytest.mark.parametrize("path", NO_PATHS)
@pytest.mark.parametrize(
    "function", [read_picture, lambda path: write_csv(path, [{"a": 1}]), lambda path: export_onnx(path, *PAIR)]
)
def test_what_is_no_path_is_refused(function, path):
    with pytest.raises(ValueError, match="path: expected a path, got"):
        function(path)


@pytest.mark.parametrize("rows", [None, 3, [], {}, "text", [[]], [{}], [{"a": 1}, {"b": 2}]])
def test_rows_of_a_table_have_the_same_columns(tmp_path, rows):
    with pytest.raises(ValueError, match="rows: expected"):
        write_csv(tmp_path / "table.csv", rows)
    assert not list(tmp_path.iterdir())
