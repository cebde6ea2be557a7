"""The MLP as an estimator: scikit-learn's own checks, its tools around it, and its own MLP on its own digits."""

import copy
import inspect
import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier as ScikitLearnMLP
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import mlp
from data_preparation import Split, preprocess
from model_utils.mlp_classifier import MLPClassifier
from model_utils.mlp_training import ClassifierHyperparameters
from model_utils.training import TrainingDiverged

pytestmark = pytest.mark.q2f

DIGITS = load_digits(return_X_y=True)
X, Y = DIGITS[0][:300] / 16, DIGITS[1][:300]
# One batch with all samples: the order in it then changes no more than rounding.
WHOLE = {"hidden_sizes": (16,), "batch_size": 2000}


@parametrize_with_checks([MLPClassifier()])
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


def test_its_defaults_are_the_projects_but_for_the_epochs():
    parameters = inspect.signature(MLPClassifier).parameters
    defaults = {name: parameters[name].default for name in asdict(ClassifierHyperparameters())}
    assert defaults == asdict(ClassifierHyperparameters(epochs=100))


def test_it_learns_what_mlp_train_learns(small_splits):
    """The weights come from one loop, whether images or a table go in."""
    settings = {"hidden_sizes": (16,), "epochs": 2, "dropout": 0.1, "label_smoothing": 0.1, "schedule": "cosine"}
    training = Split(preprocess(small_splits.train.images), small_splits.train.labels)
    h = mlp.MLPHyperparameters(**settings)
    model = mlp.build(h)
    history = mlp.train(model, training, training, h)
    estimator = MLPClassifier(**settings).fit(*training)
    best = max(history, key=lambda row: row["validation_accuracy"])
    assert best is history[-1]  # validated on what was learned, so that the last weights stay in both
    np.testing.assert_array_equal(estimator.model_.parameters, model.parameters)
    assert estimator.history_[-1]["train_accuracy"] == history[-1]["train_accuracy"]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # scikit-learn's wants more epochs than its default
def test_it_reaches_scikit_learns_own_mlp_on_digits():
    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def accuracy(classifier):
        return cross_val_score(make_pipeline(MinMaxScaler(), classifier), *DIGITS, cv=folds).mean()

    ours = MLPClassifier(epochs=40, batch_size=32, schedule="cosine", dropout=0.2, label_smoothing=0.1)
    with threadpool_limits(1):  # arrays this small are faster so
        assert accuracy(ours) >= accuracy(ScikitLearnMLP(random_state=0))


# Weights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["cross_entropy", "mean_squared_error"])
def test_a_weight_of_two_is_the_sample_twice_and_of_zero_is_no_sample(objective):
    counts = np.random.default_rng(0).integers(0, 3, len(X))
    estimator = MLPClassifier(**WHOLE, epochs=20, objective=objective, label_smoothing=0.1)
    weighted = clone(estimator).fit(X, Y, sample_weight=counts)
    repeated = clone(estimator).fit(np.repeat(X, counts, axis=0), np.repeat(Y, counts))
    np.testing.assert_allclose(weighted.model_.parameters, repeated.model_.parameters, rtol=1e-8, atol=1e-10)
    for quantity in ("train_loss", "train_accuracy"):
        assert weighted.history_[-1][quantity] == pytest.approx(repeated.history_[-1][quantity])


def test_weights_count_relative_to_each_other():
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    one, ten = (MLPClassifier(**WHOLE, epochs=5).fit(X, Y, sample_weight=w) for w in (weights, 10 * weights))
    np.testing.assert_allclose(one.model_.parameters, ten.model_.parameters, rtol=1e-10, atol=1e-12)


def test_class_weight_is_the_weight_of_each_sample_of_a_class():
    few = np.flatnonzero((Y != 3) | (np.arange(len(Y)) % 3 == 0))
    x, y = X[few], Y[few]
    by_hand = (len(y) / (10 * np.bincount(y)))[y]
    balanced = MLPClassifier(**WHOLE, epochs=5, class_weight="balanced").fit(x, y)
    weighted = MLPClassifier(**WHOLE, epochs=5).fit(x, y, sample_weight=by_hand)
    np.testing.assert_allclose(balanced.model_.parameters, weighted.model_.parameters, rtol=1e-10, atol=1e-12)
    given = MLPClassifier(**WHOLE, epochs=5, class_weight={3: 50.0}).fit(x, y)
    assert np.mean(given.predict(x) == 3) > 2 * np.mean(balanced.predict(x) == 3)


def test_balanced_classes_count_samples_by_their_weights():
    counts = np.random.default_rng(0).integers(0, 3, len(X))
    estimator = MLPClassifier(**WHOLE, epochs=5, class_weight="balanced")
    weighted = clone(estimator).fit(X, Y, sample_weight=counts)
    repeated = clone(estimator).fit(np.repeat(X, counts, axis=0), np.repeat(Y, counts))
    np.testing.assert_allclose(weighted.model_.parameters, repeated.model_.parameters, rtol=1e-8, atol=1e-10)


def test_huge_weights_are_weights():
    huge, ones = (MLPClassifier(**WHOLE, epochs=3).fit(X, Y, sample_weight=w * np.ones(300)) for w in (1e307, 1))
    np.testing.assert_allclose(huge.model_.parameters, ones.model_.parameters)


def test_weights_of_the_samples_kept_apart_are_no_weights_of_the_others():
    settings = {"hidden_sizes": (16,), "validation_fraction": 0.2}
    learned, kept = train_test_split(np.arange(300), test_size=0.2, stratify=Y, random_state=0)
    weights = np.ones(300)
    weights[kept] = 100
    heavy = MLPClassifier(**settings, epochs=3).fit(X, Y, sample_weight=weights)
    light = MLPClassifier(**settings, epochs=3).fit(X, Y)
    np.testing.assert_array_equal(heavy.model_.parameters, light.model_.parameters)
    for rows, where in ((learned, "validation"), (kept, "training")):
        weights = np.zeros(300)
        weights[rows] = 1
        with pytest.raises(ValueError, match=f"above zero for some {where} sample"):
            MLPClassifier(**settings).fit(X, Y, sample_weight=weights)


def test_class_weight_counts_between_parts_with_one_class_each():
    def train(class_weight=None, weight_of_3=1.0):
        estimator = MLPClassifier(hidden_sizes=(16,), class_weight=class_weight)
        for k in range(10):
            weights = np.full(np.count_nonzero(Y == k), weight_of_3 if k == 3 else 1.0)
            estimator.partial_fit(X[Y == k], Y[Y == k], range(10), weights)
        return estimator.model_.parameters

    np.testing.assert_array_equal(train({3: 5.0}), train(weight_of_3=5.0))
    assert not np.allclose(train({3: 5.0}), train())
    with pytest.raises(ValueError, match=r"class_weight: expected .* not balanced for partial_fit"):
        train("balanced")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"sample_weight: expected shape \(300,\)"),
        (np.r_[-1.0, np.ones(299)], "sample_weight: expected finite numbers of at least 0"),
        (np.r_[np.nan, np.ones(299)], "sample_weight: expected finite numbers of at least 0"),
        (["a"] * 300, "sample_weight: expected numbers"),
        (np.zeros(300), "sample_weight, class_weight: expected a weight above zero"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier().fit(X, Y, sample_weight=weights)


# Going on -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_partial_fit_goes_on_as_if_it_had_never_stopped(optimizer):
    settings = WHOLE | {"optimizer": optimizer, "learning_rate": 0.01}
    whole = MLPClassifier(**settings, epochs=6).fit(X, Y)
    parts = MLPClassifier(**settings)
    for _ in range(6):
        parts.partial_fit(X, Y)
    np.testing.assert_allclose(parts.model_.parameters, whole.model_.parameters, rtol=1e-7, atol=1e-9)
    assert [row["epoch"] for row in parts.history_] == [1, 2, 3, 4, 5, 6]


def through_joblib(estimator):
    """Written to a file, and read from it as memory that nobody may write to."""
    with tempfile.TemporaryDirectory() as folder:
        joblib.dump(estimator, f"{folder}/estimator")
        return joblib.load(f"{folder}/estimator", mmap_mode="r")


@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy, through_joblib])
def test_partial_fit_goes_on_in_a_copy(copied):
    through, straight = (MLPClassifier(hidden_sizes=(16,), batch_norm=True, dropout=0.1) for _ in range(2))
    for part in np.array_split(np.arange(300), 3):
        through = copied(through.partial_fit(X[part], Y[part], classes=range(10)))
        straight.partial_fit(X[part], Y[part], classes=range(10))
    np.testing.assert_array_equal(through.predict_proba(X), straight.predict_proba(X))


def test_a_part_that_diverges_is_forgotten():
    estimator = MLPClassifier(hidden_sizes=(16,)).partial_fit(X, Y)
    with pytest.raises(TrainingDiverged):
        estimator.partial_fit(X * 1e200, Y)
    for _ in range(40):
        estimator.partial_fit(X, Y)
    assert estimator.score(X, Y) > 0.9


def test_several_threads_predict_at_once():
    x = np.tile(X, (30, 1))
    estimator = MLPClassifier(hidden_sizes=(64, 32), batch_norm=True, epochs=2).fit(X, Y)
    expected = estimator.predict_proba(x)
    with ThreadPoolExecutor(4) as threads:
        for probabilities in threads.map(lambda _: estimator.predict_proba(x), range(8)):
            np.testing.assert_array_equal(probabilities, expected)


@pytest.mark.parametrize(
    "refused",
    [{"sample_weight": -np.ones(300)}, {"class_weight": {77: 1.0}}, {"batch_norm": True, "batch_size": 299}],
)
def test_what_is_refused_leaves_what_was_fitted(refused):
    estimator = MLPClassifier(hidden_sizes=(16,), epochs=3).fit(X, Y)
    expected = estimator.predict_proba(X)
    weights = refused.get("sample_weight")
    changed = {name: value for name, value in refused.items() if name != "sample_weight"}
    with pytest.raises(ValueError, match=r"sample_weight|class_weight|batch_size"):
        estimator.set_params(**changed).fit(X, Y % 5, sample_weight=weights)
    np.testing.assert_array_equal(estimator.predict_proba(X), expected)
    unfitted = MLPClassifier(**changed)
    with pytest.raises(ValueError, match=r"sample_weight|class_weight|batch_size"):
        unfitted.fit(X, Y, sample_weight=weights)
    with pytest.raises(NotFittedError):
        unfitted.predict(X)


def test_classes_that_come_later_are_named_first():
    low = Y < 5
    estimator = MLPClassifier(hidden_sizes=(16,)).partial_fit(X[low], Y[low], classes=np.arange(10))
    for _ in range(30):
        estimator.partial_fit(X, Y)
    assert estimator.score(X, Y) > 0.9
    with pytest.raises(ValueError, match=r"y: expected classes of \[0 1 2 3 4\], got \[5 6 7 8 9\]"):
        MLPClassifier().partial_fit(X[low], Y[low]).partial_fit(X[~low], Y[~low])
    with pytest.raises(ValueError, match=r"classes: expected \[0 .* 9\], as in the first call, got \[0 1\]"):
        estimator.partial_fit(X, Y, classes=[0, 1])


@pytest.mark.parametrize("settings", [{"schedule": "cosine"}, {"validation_fraction": 0.2}])
def test_partial_fit_refuses_what_needs_to_know_the_end(settings):
    with pytest.raises(ValueError, match="schedule, validation_fraction, class_weight: expected constant, 0 and not"):
        MLPClassifier(**settings).partial_fit(X, Y)


def test_a_warm_start_begins_where_the_last_fit_ended():
    estimator = MLPClassifier(**WHOLE, epochs=30, warm_start=True).fit(X, Y)
    end = estimator.history_[-1]["train_loss"]
    assert estimator.fit(X, Y).history_[0]["train_loss"] < end
    assert estimator.set_params(warm_start=False).fit(X, Y).history_[0]["train_loss"] > 2
    with pytest.raises(ValueError, match=r"y: expected the classes .* with warm_start, got \[0 1\]"):
        estimator.set_params(warm_start=True).fit(X[Y < 2], Y[Y < 2])


def test_another_optimizer_does_not_go_on_where_the_first_one_was():
    estimator = MLPClassifier(hidden_sizes=(16,)).partial_fit(X, Y).set_params(optimizer="adam")
    with pytest.raises(ValueError, match="optimizer: expected momentum, as before, got adam"):
        estimator.partial_fit(X, Y)


@pytest.mark.parametrize("changed", [{"hidden_sizes": (8,)}, {"activation": "tanh"}, {"dropout": 0.1}])
def test_a_network_that_goes_on_is_the_one_that_was_built(changed):
    (name,) = changed
    estimator = MLPClassifier(**WHOLE, epochs=1, warm_start=True).fit(X, Y).set_params(**changed)
    for go_on in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError, match=f"{name}: expected .*, with which the network was built"):
            go_on(X, Y)


# Validation and callbacks -------------------------------------------------------------------------------------------


def test_the_epoch_that_is_best_on_samples_kept_apart_stays():
    after_epochs = []
    estimator = MLPClassifier(hidden_sizes=(16,), epochs=60, validation_fraction=0.2, patience=3)
    estimator.set_params(on_epoch=lambda _: after_epochs.append(estimator.model_.parameters.copy())).fit(X, Y)
    accuracies = [row["validation_accuracy"] for row in estimator.history_]
    _, kept = train_test_split(np.arange(300), test_size=0.2, stratify=Y, random_state=0)
    assert estimator.score(X[kept], Y[kept]) == pytest.approx(max(accuracies))
    np.testing.assert_array_equal(estimator.model_.parameters, after_epochs[np.argmax(accuracies)])
    assert not np.array_equal(estimator.model_.parameters, after_epochs[-1])
    assert len(accuracies) == int(np.argmax(accuracies)) + 1 + 3 < 60
    with pytest.raises(ValueError, match="patience: expected 0 without a validation_fraction, got 3"):
        MLPClassifier(patience=3).fit(X, Y)


def test_on_epoch_sees_every_epoch_and_may_end_the_training():
    seen = []

    def on_epoch(row):
        seen.append(row["epoch"])
        if row["epoch"] == 15:
            raise StopIteration

    estimator = MLPClassifier(hidden_sizes=(16,), on_epoch=on_epoch)
    with pytest.raises(StopIteration):
        estimator.fit(X, Y)
    assert seen == list(range(1, 16))
    assert estimator.score(X, Y) > 0.8  # it has the weights of the last epoch


def test_a_training_that_diverges_says_so():
    with pytest.raises(TrainingDiverged, match="epoch 1, step 2 of 3"):
        MLPClassifier().fit(X * 1e200, Y)


# Among scikit-learn's tools -----------------------------------------------------------------------------------------


def test_names_of_classes_and_columns():
    table = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    names = np.array([*"zero one two three four five six seven eight nine".split()])[Y]
    estimator = MLPClassifier(epochs=30).fit(table, names)
    assert estimator.score(table, names) > 0.95
    assert list(estimator.classes_) == sorted(set(names))
    assert list(estimator.feature_names_in_) == list(table.columns)
    np.testing.assert_allclose(estimator.predict_proba(table).sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(estimator.predict_log_proba(table)), estimator.predict_proba(table))
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(table.rename(columns={"pixel 0": "pixel"}))


def test_a_grid_search_finds_the_setting_that_learns():
    pipeline = make_pipeline(MinMaxScaler(), MLPClassifier(epochs=20))
    search = GridSearchCV(pipeline, {"mlpclassifier__learning_rate": [1e-6, 0.1]}, cv=3).fit(X, Y)
    assert search.best_params_ == {"mlpclassifier__learning_rate": 0.1}
    assert search.best_score_ > LogisticRegression(C=1e-3).fit(X[:150], Y[:150]).score(X[150:], Y[150:])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation_fraction": 0.01}, "validation_fraction: 0.01 cannot be used with this y"),
        ({"class_weight": {1: -2.0}}, "class_weight: expected"),
        ({"hidden_sizes": (0,)}, "hidden_sizes: expected"),
        ({"activation": "gelu"}, "activation: expected"),
        ({"dropout": 1.0}, "dropout: expected"),
        ({"validation_fraction": 1.0}, "validation_fraction: expected"),
        ({"warm_start": "no"}, "warm_start: expected"),
        ({"on_epoch": 3}, "on_epoch: expected"),
        ({"epochs": 0}, "epochs: expected"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**settings).fit(X, Y)
