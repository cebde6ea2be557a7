"""A multilayer perceptron whose forward and backward passes are written out by hand. NumPy does the arithmetic.

Notation: N images in a batch, D inputs, H units in a hidden layer, K classes. Layer l of m has weights W_l and
biases b_l:

    z_l = a_(l-1) W_l + b_l        a_l = f(z_l)        a_0 = x        logits = a_(m-1) W_m + b_m

The loss and its gradient with respect to the logits, where the backward pass starts, are in `losses`.
"""

import math

import numpy as np

from model_utils.checks import (
    MAX_SEED,
    MAX_UNITS,
    check_all_finite,
    check_choice,
    check_count,
    check_counts,
    check_dtype,
    check_flag,
    check_floats,
    check_inputs,
    check_is,
    check_n_parameters,
    check_number,
)
from model_utils.layers import ACTIVATIONS, INITS, BatchNorm, draw_dropout_mask, initial_std


class MLP:
    """A multilayer perceptron for classification.

    Parameters
    ----------
    n_inputs : int
        D, the width of an input row: 784 for a flattened 28 x 28 image.
    hidden_sizes : sequence of int
        Units of each hidden layer; empty for softmax regression.
    n_classes : int
        K.
    activation : {"relu", "leaky_relu", "elu", "sigmoid", "tanh"}
        f, after every hidden layer.
    init : {"random", "Xavier", "He"}
        How the weights are drawn, see `layers.initial_std`. Biases start at 0.
    dropout : float in [0, 1)
        Share of hidden activations set to zero in training.
    batch_norm : bool
        Normalise the pre-activations of the hidden layers over the batch: z_l = gamma_l x_hat(a_(l-1) W_l) + b_l.
    seed : int
        For the initial weights and the dropout masks.
    dtype : numpy dtype
        float32 for speed; float64 where gradients are checked.

    Attributes
    ----------
    sizes : tuple of int
        D, the hidden sizes and K.
    n_weights, n_parameters : int
        How many weights, and how many parameters in all.
    parameters, gradients : ndarray, shape (P,)
        All parameters, and the gradient of the loss with respect to them, each as one flat vector, so that an optimizer
        updates everything at once. The weights come first.
    W, b, dW, db : list of ndarray
        Per layer, of shapes (D_l, H_l) and (H_l,): views into the flat vectors.
    norms : list of BatchNorm
        One for each hidden layer; empty without batch normalisation.
    named_parameters, named_gradients : dict of str to ndarray
        All these views by name: W1, W2, ..., b1, ..., and gamma1, ... with batch normalisation.
    layer_inputs : list of ndarray or None
        a_0 ... a_(m-1) of the last forward pass in training mode, for `backward`; None after a pass for prediction.

    Raises
    ------
    ValueError
        If an argument is out of its range, or there would be too many parameters.
    """

    def __init__(
        self,
        n_inputs=784,
        hidden_sizes=(128,),
        n_classes=10,
        activation="relu",
        init="He",
        dropout=0.0,
        batch_norm=False,
        seed=0,
        dtype=np.float32,
    ):
        # Checked here too, because an MLP can also be made without a hyperparameters object.
        check_count("n_inputs", n_inputs, 1, MAX_UNITS)
        check_counts("hidden_sizes", hidden_sizes)
        check_count("n_classes", n_classes, 2, MAX_UNITS)
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("init", init, INITS)
        check_number("dropout", dropout, 0, 1)
        check_flag("batch_norm", batch_norm)
        check_count("seed", seed, 0, MAX_SEED)
        self.dtype = check_dtype("dtype", dtype)

        self.sizes = (n_inputs, *hidden_sizes, n_classes)
        self.activation = activation
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.rng = np.random.default_rng(seed)

        shapes = parameter_shapes(self.sizes, batch_norm)
        self.n_parameters = sum(map(math.prod, shapes.values()))
        check_n_parameters("hidden_sizes", self.sizes, self.n_parameters)
        self._take_vectors(np.zeros(self.n_parameters, dtype), np.zeros(self.n_parameters, dtype))
        self.n_weights = sum(W.size for W in self.W)
        for W in self.W:
            W[:] = self.rng.normal(0, initial_std(*W.shape, init), W.shape)
        for norm in self.norms:
            norm.gamma[:] = 1

    def _take_vectors(self, parameters, gradients):
        """Store parameters and gradients in these vectors, shape (P,); the layers' arrays become views of them."""
        shapes = parameter_shapes(self.sizes, self.batch_norm)
        self.parameters, self.gradients = parameters, gradients
        self.named_parameters = _views(parameters, shapes)
        self.named_gradients = _views(gradients, shapes)
        layers = range(1, len(self.sizes))
        self.W = [self.named_parameters[f"W{l}"] for l in layers]
        self.b = [self.named_parameters[f"b{l}"] for l in layers]
        self.dW = [self.named_gradients[f"W{l}"] for l in layers]
        self.db = [self.named_gradients[f"b{l}"] for l in layers]
        self.norms = [
            BatchNorm(self.named_parameters[name], self.named_gradients[name])
            for name in shapes
            if name.startswith("gamma")
        ]
        self._make_buffers(0)
        self.layer_inputs = None

    def forward(self, x, training=False):
        """Compute the logits of a batch.

        For each hidden layer l, z_l = a_(l-1) W_l + b_l and a_l = f(z_l); with batch normalisation
        z_l = gamma_l x_hat(a_(l-1) W_l) + b_l; in training with dropout a_l = mask * f(z_l), where each batch
        draws a mask of its own. Then logits = a_(m-1) W_m + b_m.

        Parameters
        ----------
        x : ndarray of float, shape (N, D)
            Kept by reference until `backward`, so do not change it in between.
        training : bool
            Draw dropout masks, normalise by the batch's own statistics, and prepare for `backward`. The inputs are not
            checked for NaN and infinity: `mlp.train` has already checked the whole data set.

        Returns
        -------
        ndarray, shape (N, K)

        Raises
        ------
        ValueError
            If x is empty, of the wrong width, not of floats, or (unless training) not finite in the network's dtype.
        """
        check_flag("training", training)
        x = self._checked(x, finite=not training)
        n = len(x)
        if n > self._buffer_rows:
            self._make_buffers(n)
        activate, _ = ACTIVATIONS[self.activation]

        a = x  # (N, D)
        inputs = [a]
        for l in range(len(self.W) - 1):
            z = np.matmul(a, self.W[l], out=self._activations[l][:n])  # (N, H)
            if self.batch_norm:
                self.norms[l].forward(z, training)  # (N, H)
            z += self.b[l]  # (N, H)
            activate(z)  # (N, H)  from here on z holds f(z)
            a = z
            if training and self.dropout:
                mask = self._masks[l][:n]  # (N, H)
                draw_dropout_mask(mask, self.dropout, self.rng)
                a = np.multiply(a, mask, out=self._dropped[l][:n])  # (N, H)
            inputs.append(a)
        logits = a @ self.W[-1] + self.b[-1]  # (N, K)

        self.layer_inputs = inputs if training else None
        return logits

    def backward(self, dlogits, return_dx=False):
        """Compute the gradient of the loss with respect to every parameter, and store it in `gradients`.

        Write dv for d(loss)/dv. From logits back to inputs, the chain rule is applied to each line of the forward pass:

            z = a W + b           db = sum_n dz_n        dW = a^T dz        da = dz W^T
            a = mask * f(z)       dz = mask * da * f'(z)

        Parameters
        ----------
        dlogits : ndarray of float, shape (N, K)
            d(loss)/d(logits) for the batch that `forward(x, training=True)` saw last.
        return_dx : bool
            Also return the gradient with respect to the inputs, so that a network in front of this one can learn.

        Returns
        -------
        ndarray, shape (N, D), or None
            d(loss)/dx, with `return_dx`.

        Raises
        ------
        RuntimeError
            If there was no forward pass in training mode before.
        ValueError
            If dlogits is not of shape (N, K).
        """
        if self.layer_inputs is None:
            raise RuntimeError("backward: call forward(x, training=True) first")
        n = len(self.layer_inputs[0])
        dlogits = check_floats("dlogits", dlogits)
        if dlogits.shape != (n, self.sizes[-1]):
            raise ValueError(f"dlogits: expected shape {(n, self.sizes[-1])}, got {dlogits.shape}")
        _, activation_backward = ACTIVATIONS[self.activation]

        dz = np.asarray(dlogits, self.dtype)  # (N, K)
        for l in reversed(range(len(self.W))):
            a = self.layer_inputs[l]  # (N, D), this layer's input
            np.sum(dz, axis=0, out=self.db[l])  # (H,)    db = sum_n dz_n
            if l < len(self.norms):
                self.norms[l].backward(dz)  # (N, H)  through z = gamma x_hat(a W) + b, down to a W
            np.matmul(a.T, dz, out=self.dW[l])  # (D, H)  dW = a^T dz
            if l == 0:
                return dz @ self.W[0].T if return_dx else None  # (N, D)  dx = dz W^T
            da = np.matmul(dz, self.W[l].T, out=self._dactivations[l - 1][:n])  # (N, D)  da = dz W^T
            if self.dropout:
                da *= self._masks[l - 1][:n]  # (N, D)
            activation_backward(da, self._activations[l - 1][:n])  # (N, D)  dz = da * f'(z)
            dz = da

    def predict_logits(self, x, batch_size=1000):
        """Compute the logits of any number of inputs, `batch_size` at a time.

        Parameters
        ----------
        x : ndarray of float, shape (N, D)
        batch_size : int

        Returns
        -------
        ndarray, shape (N, K)
        """
        check_count("batch_size", batch_size)
        x = check_inputs(x, self.sizes[0], finite=False)  # forward checks each batch
        return np.concatenate([self.forward(x[start : start + batch_size]) for start in range(0, len(x), batch_size)])

    def predict(self, x):
        """Return the most probable classes, ints of shape (N,), of inputs x, shape (N, D)."""
        return self.predict_logits(x).argmax(axis=1)

    def state(self):
        """Return everything that training changes, by name: weights, biases, batch-norm scales and running averages.

        Returns
        -------
        dict of str to ndarray
            Copies.
        """
        return {name: array.copy() for name, array in self.state_views().items()}

    def state_views(self):
        """Return the arrays of `state` themselves instead of copies: writing to them changes the MLP."""
        views = dict(self.named_parameters)
        for l, norm in enumerate(self.norms, start=1):
            views |= {f"running_mean{l}": norm.running_mean, f"running_var{l}": norm.running_var}
        return views

    def load_state(self, state):
        """Restore a state that was returned by `state`.

        Raises
        ------
        ValueError
            If a name is missing or unknown, or a shape differs; then nothing is changed.
        """
        views = self.state_views()
        check_is("state", state, dict)
        if state.keys() != views.keys():
            raise ValueError(f"state: expected the arrays {', '.join(views)}, got {', '.join(map(str, state))}")
        state = {name: check_floats(f"state: {name}", array) for name, array in state.items()}
        for name, view in views.items():
            if state[name].shape != view.shape:
                raise ValueError(f"state: expected {name} of shape {view.shape}, got {state[name].shape}")
        for name, view in views.items():
            view[:] = state[name]

    def __getstate__(self):
        """Return the state to copy or pickle, without views: a copied view would not share its vector's memory."""
        kept = ("dtype", "sizes", "activation", "dropout", "batch_norm", "rng", "n_weights", "n_parameters")
        running = [(norm.running_mean, norm.running_var) for norm in self.norms]
        return {name: getattr(self, name) for name in kept}, self.parameters, running

    def __setstate__(self, kept):
        attributes, parameters, running = kept
        vars(self).update(attributes)
        # Some tools restore arrays as read-only; only those are copied.
        parameters = np.require(parameters, requirements="W")
        self._take_vectors(parameters, np.zeros_like(parameters))
        for norm, arrays in zip(self.norms, running, strict=True):
            norm.running_mean, norm.running_var = (np.require(array, requirements="W") for array in arrays)

    def __repr__(self):
        """Return a line for each layer, with its formula, shape and number of parameters."""
        affine = "gamma{l} x_hat(a{k} W{l}) + b{l}" if self.batch_norm else "a{k} W{l} + b{l}"
        dropout = f", dropout {self.dropout}" if self.dropout else ""
        counts = [W.size + b.size for W, b in zip(self.W, self.b, strict=True)]
        formulas = []
        for l, norm in enumerate(self.norms):
            counts[l] += norm.gamma.size
        for l in range(1, len(self.W)):
            formulas.append(f"a{l} = {self.activation}({affine.format(l=l, k=l - 1)}){dropout}")
        formulas.append(f"logits = a{len(self.W) - 1} W{len(self.W)} + b{len(self.W)}")
        width = max(map(len, formulas))

        lines = [f"MLP {'-'.join(map(str, self.sizes))} with {self.n_parameters:,} parameters"]
        lines.append(f"  {'a0 = x':<{width}}  (N, {self.sizes[0]})")
        for formula, size, count in zip(formulas, self.sizes[1:], counts, strict=True):
            lines.append(f"  {formula:<{width}}  {f'(N, {size})':<10}{count:>11,}")
        return "\n".join(lines)

    def _checked(self, x, finite):
        """Check the inputs of `forward`; return them in the network's own dtype."""
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is caught below
            x = check_inputs(x, self.sizes[0], finite=False).astype(self.dtype, copy=False)
        if finite:
            check_all_finite("x", x)
        return x

    def _make_buffers(self, rows):
        """Make the arrays for the layers' values, of up to `rows` inputs; every batch reuses them."""

        def empty_arrays():
            return [np.empty((rows, size), self.dtype) for size in self.sizes[1:-1]]

        self._buffer_rows = rows
        self._activations = empty_arrays()
        self._dactivations = empty_arrays()
        self._masks = empty_arrays() if self.dropout else None
        self._dropped = empty_arrays() if self.dropout else None


def parameter_shapes(sizes, batch_norm):
    """Return the shapes of the parameters, by name, of an MLP of these sizes, in the order of its flat vector."""
    layers = range(1, len(sizes))
    shapes = {f"W{l}": tuple(sizes[l - 1 : l + 1]) for l in layers} | {f"b{l}": (sizes[l],) for l in layers}
    return shapes | ({f"gamma{l}": (sizes[l],) for l in layers[:-1]} if batch_norm else {})


def state_layout(sizes, batch_norm, dtype="float32"):
    """Return shape and dtype of each array of `MLP.state`, for `check_weights`, without making an MLP."""
    shapes = parameter_shapes(sizes, batch_norm)
    for l in range(1, len(sizes) - 1) if batch_norm else ():
        shapes |= {f"running_mean{l}": (sizes[l],), f"running_var{l}": (sizes[l],)}
    return {name: (shape, dtype) for name, shape in shapes.items()}


def _views(flat, shapes):
    """Cut a flat vector into arrays of the given shapes, by name, without copying."""
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    pieces = np.split(flat, ends[:-1])
    return {name: piece.reshape(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
