"""Hyperparameters that check themselves."""

import json
from dataclasses import FrozenInstanceError, asdict, dataclass, fields

import numpy as np
import pytest

from mlp import MLPHyperparameters
from model_utils.hyperparameters import Hyperparameters, choice, count, counts, flag, number

pytestmark = pytest.mark.q2f

OUT_OF_RANGE = [
    ("hidden_sizes", (128, 0)),
    ("hidden_sizes", (128, 2.5)),
    ("hidden_sizes", 128),
    ("hidden_sizes", "128"),
    ("activation", "relo"),
    ("init", "he"),
    ("dropout", 1.0),
    ("dropout", -0.1),
    ("batch_norm", "no"),
    ("batch_norm", 1),
    ("objective", "hinge"),
    ("label_smoothing", 1.0),
    ("optimizer", "lion"),
    ("learning_rate", -0.1),
    ("learning_rate", float("nan")),
    ("learning_rate", float("inf")),
    ("learning_rate", "0.1"),
    ("schedule", "linear"),
    ("weight_decay", -1e-4),
    ("clip_norm", -1.0),
    ("batch_size", 0),
    ("batch_size", 128.0),
    ("epochs", 0),
    ("epochs", True),
    ("learning_rate", True),
    ("learning_rate", 10**400),
    ("label_smoothing", 2),
    ("shift", 14),
    ("seed", 2**32),
    ("hidden_sizes", (100_001,)),
    ("patience", -1),
    ("flip", "no"),
    ("n_views", "ten"),
    ("n_views", 11),
    ("flip", None),
    ("shift", -1),
    ("seed", -1),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .* got"):
        MLPHyperparameters(**{name: value})


def test_every_hyperparameter_is_checked():
    assert {name for name, _ in OUT_OF_RANGE} == {f.name for f in fields(MLPHyperparameters)}


@dataclass(frozen=True)
class Example(Hyperparameters):
    """One field of each sort."""

    sizes: tuple = counts((3, 2), "of what", maximum=9)
    share: float = number(0.5, "of what", high=1)
    rule: str = choice("a", "which", ("a", "b"))
    rounds: int = count(2, "how many", minimum=2, maximum=5)
    mirror: bool = flag(False, "whether")


@pytest.mark.parametrize(
    ("name", "allowed", "refused", "expected"),
    [
        ("sizes", (), (0,), r"a tuple of up to 100 integers from 1 to 9, such as \(128, 64\)"),
        ("sizes", (9,) * 100, (10,), "a tuple of up to 100 integers from 1 to 9"),
        ("sizes", (1,), (1,) * 101, "a tuple of up to 100 integers from 1 to 9"),
        ("share", 0, 1, "a number from 0 to below 1"),
        ("rule", "b", "c", "one of a, b"),
        ("rounds", 2, 1, "an integer from 2 to 5"),
        ("rounds", 5, 6, "an integer from 2 to 5"),
        ("mirror", True, "no", "True or False"),
    ],
)
def test_each_sort_of_field_has_its_range(name, allowed, refused, expected):
    assert getattr(Example(**{name: allowed}), name) == allowed
    with pytest.raises(ValueError, match=f"^{name}: expected {expected}.* got "):
        Example(**{name: refused})


def test_hyperparameters_survive_json_and_cannot_be_changed():
    example = Example(sizes=(5,), mirror=True)
    assert Example(**json.loads(json.dumps(asdict(example)))) == example
    with pytest.raises(ValueError, match="rounds: expected"):
        Example(rounds=0)
    with pytest.raises(FrozenInstanceError):
        example.share = 2


def test_numbers_of_numpy_and_lists_become_what_json_can_keep():
    given = Example(sizes=[np.int64(5)], share=np.float32(0.25), rounds=np.int16(3))
    assert given == Example(sizes=(5,), share=0.25, rounds=3)
    assert json.loads(json.dumps(given.changed())) == {"sizes": [5], "share": 0.25, "rounds": 3}


def test_changed_are_the_fields_that_are_not_at_their_defaults():
    assert MLPHyperparameters().changed() == {}
    h = MLPHyperparameters(hidden_sizes=(8,), dropout=0.0, seed=3)
    assert h.changed() == {"hidden_sizes": (8,), "seed": 3}
    assert MLPHyperparameters(**h.changed()) == h
