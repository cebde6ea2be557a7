"""The NumPy MLP as a scikit-learn estimator: for any table, in pipelines, grid searches and cross-validation."""

import copy
from dataclasses import fields, replace

import numpy as np
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from model_utils.checks import MAX_SEED, check_callable, check_flag, check_number, check_sample_weights
from model_utils.losses import softmax
from model_utils.mlp_training import ClassifierHyperparameters, build, optimizer_of, run_epochs
from model_utils.training import check_batches

_BALANCED = "balanced"
_OF_NETWORK = ("activation", "dropout", "batch_norm")  # what cannot change after the network is built, like its sizes


class MLPClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that is trained by `mlp_training.run_epochs`, the loop that `mlp.train` uses.

    Its parameters have this project's names. In `sklearn.neural_network.MLPClassifier` they are called:

    ===================  =======================================================
    here                 in scikit-learn
    ===================  =======================================================
    hidden_sizes         hidden_layer_sizes
    activation           activation; `sigmoid` is its `logistic`
    optimizer            solver
    learning_rate        learning_rate_init
    schedule             learning_rate
    weight_decay         alpha, which is divided by the batch size there
    epochs               max_iter
    validation_fraction  validation_fraction, with early_stopping=True
    patience             n_iter_no_change, with early_stopping=True
    seed                 random_state; here an integer; scikit-learn's ensembles do not set it
    batch_size           batch_size
    warm_start           warm_start
    ===================  =======================================================

    The others exist only here: `init`, `dropout`, `batch_norm`, `objective`, `label_smoothing`, `clip_norm`,
    `class_weight` and `on_epoch`. There is no `tol`: every epoch runs, unless `patience` ends the training.

    Parameters
    ----------
    hidden_sizes, activation, init, dropout, batch_norm, objective, label_smoothing, optimizer, learning_rate, \
    schedule, weight_decay, clip_norm, batch_size, epochs, seed
        See `ClassifierHyperparameters`. There are more epochs by default, since tables are smaller than Fashion-MNIST.
    patience : int
        Stop after this many epochs without a better validation accuracy; 0 for never. Needs a `validation_fraction`.
    validation_fraction : float in [0, 1)
        Share of the samples, the same for each class, that is set aside to choose the epoch whose weights are kept.
        With 0, training uses every sample, and the last epoch's weights are kept.
    class_weight : dict, "balanced" or None
        How much a sample of each class counts in the loss: a number for each class, or "balanced" for the same total
        weight of every class.
    warm_start : bool
        Whether `fit` continues from the weights of an earlier call.
    on_epoch : callable or None
        Called with each row of `history_` as soon as its epoch is over.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
    model_ : MLP
        In float32 if the first call was given float32, else in float64.
    history_ : list of dict
        See `run_epochs`; it covers all calls of `partial_fit`.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (D,)
        If X had column names.

    Raises
    ------
    ValueError
        From `fit` and `partial_fit`, if a parameter is out of its range.
    TrainingDiverged
        From both, if the loss becomes NaN or infinite.
    """

    def __init__(
        self,
        hidden_sizes=(128,),
        activation="relu",
        init="He",
        dropout=0.0,
        batch_norm=False,
        objective="cross_entropy",
        label_smoothing=0.0,
        optimizer="momentum",
        learning_rate=0.05,
        schedule="constant",
        weight_decay=0.0,
        clip_norm=0.0,
        batch_size=128,
        epochs=100,
        patience=0,
        seed=0,
        validation_fraction=0.0,
        class_weight=None,
        warm_start=False,
        on_epoch=None,
    ):
        self.hidden_sizes = hidden_sizes
        self.activation = activation
        self.init = init
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.objective = objective
        self.label_smoothing = label_smoothing
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.seed = seed
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.on_epoch = on_epoch

    def fit(self, X, y, sample_weight=None):
        """Train on samples.

        Parameters
        ----------
        X : array or DataFrame of numbers, shape (N, D)
        y : array of int or str, shape (N,)
            Their classes.
        sample_weight : array of float, shape (N,), optional
            How much each sample counts, relative to the others: one of weight 2 counts as much as two of weight 1,
            except in the statistics of batch normalisation.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        continues = self.warm_start and hasattr(self, "model_")
        h = self._hyperparameters()
        X, y = self._checked(X, y, reset=not continues)
        classes = np.unique(y)
        if continues and not np.array_equal(classes, self.classes_):
            raise ValueError(f"y: expected the classes {self.classes_} with warm_start, got {classes}")
        if continues:
            self._check_network(h)
        labels = np.searchsorted(classes, y)
        training, validation = self._split(X, labels, self._weights(y, classes, sample_weight), h)
        # All checks have passed: from here on, what was fitted before is replaced.
        self._begin(h, X, classes, continues)
        self._learn(training, validation, h)
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one epoch on samples that may come in parts; the optimizer continues where it stopped.

        Parameters
        ----------
        X, y
            See `fit`.
        classes : array, shape (K,), optional
            All classes that will ever occur. The first call needs them unless its y contains them all.
        sample_weight : array of float, shape (N,), optional
            How much each sample counts, compared with a sample of weight 1 in any call.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        h = self._hyperparameters()
        if h.schedule != "constant" or self.validation_fraction or self.class_weight == _BALANCED:
            raise ValueError(
                "schedule, validation_fraction, class_weight: expected constant, 0 and not balanced for partial_fit, "
                f"since later calls are unknown, got {h.schedule}, {self.validation_fraction} and {self.class_weight}"
            )
        first = not hasattr(self, "model_")
        X, y = self._checked(X, y, reset=first)
        expected = np.unique(y if classes is None else classes) if first else self.classes_
        if classes is not None and not np.array_equal(np.unique(classes), expected):
            raise ValueError(f"classes: expected {expected}, as in the first call, got {np.unique(classes)}")
        if not np.isin(y, expected).all():
            raise ValueError(f"y: expected classes of {expected}, got {np.unique(y)}")
        if not first:
            self._check_network(h)
            if h.optimizer != self._begun_with.optimizer:
                raise ValueError(f"optimizer: expected {self._begun_with.optimizer}, as before, got {h.optimizer}")
        weights = self._weights(y, expected, sample_weight)
        check_batches(h.batch_norm, h.batch_size, len(X))
        if first:
            self._begin(h, X, expected, continues=False)
        self._optimizer.weight_decay = h.weight_decay
        # Each call shuffles its samples differently.
        h = replace(h, epochs=1, seed=(h.seed + len(self.history_)) % (MAX_SEED + 1))
        try:
            self._learn((X, np.searchsorted(expected, y), weights), None, h)
        except BaseException:  # back to the weights before this call, with a new optimizer
            self._optimizer = optimizer_of(self.model_, h)
            raise
        return self

    def predict_proba(self, X):
        """Return the probabilities of the classes, shape (N, K), of samples, shape (N, D). Each row sums to 1."""
        return softmax(self._logits(X))

    def predict_log_proba(self, X):
        """Return the logarithms of `predict_proba`, finite even where it rounds to 0."""
        return log_softmax(self._logits(X), axis=1)

    def predict(self, X):
        """Return the most probable classes, shape (N,), of samples, shape (N, D)."""
        most_probable = self._logits(X).argmax(axis=1)
        return self.classes_[most_probable]

    def _logits(self, X):
        check_is_fitted(self, "model_")
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return copy.copy(self.model_).predict_logits(X)  # with its own buffers: several threads may predict at once

    # Checks

    def _hyperparameters(self):
        check_flag("warm_start", self.warm_start)
        check_number("validation_fraction", self.validation_fraction, 0, 1)
        if self.on_epoch is not None:
            check_callable("on_epoch", self.on_epoch)
        if not (self.class_weight is None or isinstance(self.class_weight, dict) or self.class_weight == _BALANCED):
            raise ValueError(f"class_weight: expected a dict, {_BALANCED!r} or None, got {self.class_weight!r}")
        names = [field.name for field in fields(ClassifierHyperparameters)]
        h = ClassifierHyperparameters(**{name: getattr(self, name) for name in names})
        if h.patience and not self.validation_fraction:
            raise ValueError(f"patience: expected 0 without a validation_fraction, got {h.patience}")
        return h

    def _checked(self, X, y, reset):
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), reset=reset)
        check_classification_targets(y)
        return X, y

    def _check_network(self, h):
        """Raise a ValueError if the parameters describe a network other than the one that is to continue learning."""
        model = self.model_
        found = {"hidden_sizes": model.sizes[1:-1]} | {name: getattr(model, name) for name in _OF_NETWORK}
        for name, value in found.items():
            if getattr(h, name) != value:
                raise ValueError(f"{name}: expected {value}, with which the network was built, got {getattr(h, name)}")

    def _weights(self, y, classes, sample_weight):
        """Return the weight of each sample, shape (N,): the caller's weight times the weight of the class."""
        if len(classes) < 2:
            raise ValueError(f"y: expected at least two classes, got one class, {classes[0]}")
        weights = np.ones(len(y))
        if sample_weight is not None:
            weights = check_sample_weights("sample_weight", _as_floats("sample_weight", sample_weight), len(y))
        if self.class_weight is None:
            of_class = np.ones(len(classes))
        elif self.class_weight == _BALANCED:
            of_class = compute_class_weight(_BALANCED, classes=classes, y=y, sample_weight=weights)
        else:
            unknown = set(self.class_weight) - set(classes.tolist())
            if unknown:
                raise ValueError(f"class_weight: expected classes of {classes}, got {unknown}")
            of_class = _as_floats("class_weight", [self.class_weight.get(c, 1) for c in classes.tolist()])
            check_sample_weights("class_weight", of_class, len(classes))
        return _not_all_zero(weights * of_class[np.searchsorted(classes, y)], "some sample")

    # Learning

    def _split(self, X, labels, weights, h):
        """Return (X, labels, weights) for training, and for validation or None; weights are 1 on average in each."""
        check_batches(h.batch_norm, h.batch_size, len(X))
        if not self.validation_fraction:
            return (X, labels, _relative(weights)), None
        try:
            parts = train_test_split(
                np.arange(len(X)), test_size=self.validation_fraction, stratify=labels, random_state=h.seed
            )
        except ValueError as error:
            raise ValueError(
                f"validation_fraction: {self.validation_fraction} cannot be used with this y ({error})"
            ) from error
        check_batches(h.batch_norm, h.batch_size, len(parts[0]))
        named = zip(parts, ("some training sample", "some validation sample"), strict=True)
        return [(X[rows], labels[rows], _relative(_not_all_zero(weights[rows], where))) for rows, where in named]

    def _begin(self, h, X, classes, continues):
        if not continues:
            self.model_ = build(h, X.shape[1], len(classes), X.dtype)
            self.classes_ = classes
        self._begun_with = h
        self._optimizer = optimizer_of(self.model_, h)
        self.history_ = []

    def _learn(self, training, validation, h):
        X, labels, weights = training
        validate = None
        if validation is not None:
            X_validation, labels_validation, weights_validation = validation

            def validate(objective):
                logits = self.model_.predict_logits(X_validation)
                hits = logits.argmax(axis=1) == labels_validation
                loss, _ = objective(logits, labels_validation, weights=weights_validation)
                return loss, float(np.average(hits, weights=weights_validation))

        def epoch_batches(rng):
            order = rng.permutation(len(X))
            for start in range(0, len(X), h.batch_size):
                rows = order[start : start + h.batch_size]
                yield X[rows], labels[rows], weights[rows]

        def on_epoch(row):
            row["epoch"] = len(self.history_) + 1
            self.history_.append(row)
            if self.on_epoch is not None:
                self.on_epoch(row)

        run_epochs(self.model_, epoch_batches, len(X), validate, h, on_epoch, self._optimizer)

    # Copies and pickles

    def __getstate__(self):
        """Return the state to copy or pickle; of the optimizer, only its running averages and number of steps."""
        state = super().__getstate__()
        if "_optimizer" in state:
            state["_optimizer"] = self._optimizer.averages, self._optimizer.n_steps
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "_optimizer"):
            averages, n_steps = self._optimizer
            self._optimizer = optimizer_of(self.model_, self._begun_with)
            self._optimizer.averages[:], self._optimizer.n_steps = averages, n_steps


def _as_floats(name, values):
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers ({error})") from error


def _not_all_zero(weights, where):
    if not weights.any():
        raise ValueError(f"sample_weight, class_weight: expected a weight above zero for {where}, got none")
    return weights


def _relative(weights):
    """Scale weights to a mean of 1; first to a maximum of 1, because the mean of huge weights can overflow."""
    weights = weights / weights.max()
    return weights / weights.mean()
