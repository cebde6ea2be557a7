"""Properties that hold for all inputs, on inputs that Hypothesis makes up: few here, many with `make fuzz`."""

import contextlib
import hashlib
import io
import json
import struct

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import data_preparation as dp
import mlp
from model_utils.gradient_check import numerical_gradient
from model_utils.layers import ACTIVATIONS, INITS, BatchNorm
from model_utils.losses import OBJECTIVES, cross_entropy, softmax
from model_utils.mlp import MLP
from model_utils.pictures import read_picture
from model_utils.saved_models import SavedModelError


def examples(cost=1):
    """Let a test that takes `cost` times as long have as many times fewer examples than the profile asks for."""
    return settings(max_examples=max(1, settings.default.max_examples // cost))


def attempt(function, error, *arguments):
    """Return what a function returns, None if it raises an error of this kind, and the error's message."""
    try:
        return function(*arguments), ""
    except error as raised:
        return None, str(raised)


# Damages to a file: a bit flipped; a few bytes replaced, left out or put in; the end cut off.
PLACE = st.integers(0, 2**20)
DAMAGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
        st.tuples(st.just("splice"), PLACE, st.integers(0, 8), st.binary(max_size=8)),
        st.tuples(st.just("cut"), PLACE),
    ),
    min_size=1,
    max_size=3,
)


def damaged(content, damages):
    content = bytearray(content)
    for kind, place, *how in damages:
        place %= len(content) + 1
        if kind == "cut":
            del content[place:]
        elif kind == "splice":
            n, new = how
            content[place : place + n] = new
        elif place < len(content):
            content[place] ^= 1 << how[0]
    return bytes(content)


# Files ---------------------------------------------------------------------------------------------------------------


def as_idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


SHAPES = {"images": (28, 28), "labels": ()}


@pytest.mark.q1
@examples(2)
@given(st.sampled_from(tuple(SHAPES)), st.integers(0, 4), st.integers(0, 9), DAMAGES)
def test_idx_reader_reads_what_the_bytes_say_or_refuses_them(name, n, seed, damages):
    array = np.random.default_rng(seed).integers(0, 10, (n, *SHAPES[name]), np.uint8)
    np.testing.assert_array_equal(dp.parse_idx(as_idx(array), name), array)
    content = damaged(as_idx(array), damages)
    read, message = attempt(dp.parse_idx, dp.DataError, content, name)
    if read is None:
        assert message.startswith(f"{name}: ")
    else:
        assert as_idx(read) == content


def picture_files():
    """A picture in each kind of file and in each way of storing grey and colour that Pillow writes."""
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12), np.uint8))
    files = []
    for kind, modes in {
        "BMP": ("1", "L", "P", "RGB", "RGBA"),
        "GIF": ("L", "P"),
        "JPEG": ("L", "RGB", "CMYK"),
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "PPM": ("1", "L", "RGB", "F", "I;16"),
        "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F"),
        "WEBP": ("RGB", "RGBA"),
    }.items():
        for mode in modes:
            file = io.BytesIO()
            if mode == "F":
                picture = Image.fromarray(np.asarray(grey, np.float32) / 255)
            else:
                picture = Image.merge("LAB", [grey] * 3) if mode == "LAB" else grey.convert(mode)
            picture.save(file, kind)
            files.append(file.getvalue())
    for options in ({"save_all": True, "append_images": [grey]}, {"compression": "tiff_lzw"}):
        file = io.BytesIO()
        grey.save(file, "TIFF", **options)
        files.append(file.getvalue())
    return files


PICTURES = picture_files()


@pytest.fixture(scope="module")
def picture_path(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures") / "picture"


@pytest.mark.q2b
@examples(2)
@given(st.sampled_from(range(len(PICTURES))), DAMAGES)
def test_a_damaged_picture_is_read_as_an_image_or_refused_by_name(picture_path, number, damages):
    picture_path.write_bytes(damaged(PICTURES[number], damages))
    image, message = attempt(read_picture, ValueError, picture_path)
    if image is None:
        assert message.startswith(f"{picture_path}: ")
    else:
        assert image.shape == (28, 28)
        assert image.dtype == np.uint8


# The split -----------------------------------------------------------------------------------------------------------


@pytest.mark.q1
@examples(20)
@given(st.booleans(), *[st.floats(0.001, 0.999)] * 3, st.integers(0, 2**32 - 1))
def test_any_split_is_disjoint_stratified_and_of_the_sizes_asked_for(official, is_official, a, b, c, seed):
    available = 60_000 if is_official else 70_000
    train = round(a * available)
    validation = round(b * (available - train))
    test = "official" if is_official else round(c * (available - train - validation))
    sizes = {"train": train, "validation": validation} | ({} if is_official else {"test": test})
    if min(sizes.values()) < 10:
        with pytest.raises(ValueError, match=r"^(train|validation|test): expected"):
            dp.split_indices(official.labels, train, validation, test, seed)
        return
    parts = dp.split_indices(official.labels, train, validation, test, seed)
    assert [len(part) for part in parts[: len(sizes)]] == list(sizes.values())
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    assert together.min() >= 0
    assert together.max() < 70_000
    for part in parts:
        counts = np.bincount(official.labels[part], minlength=10)
        assert np.abs(counts - len(part) / 10).max() <= 1
    for part, again in zip(parts, dp.split_indices(official.labels, train, validation, test, seed), strict=True):
        np.testing.assert_array_equal(part, again)


# Layers and losses, in float64 ---------------------------------------------------------------------------------------

# At 0, ReLU has no derivative to compare with.
AWAY_FROM_ZERO = st.one_of(st.floats(0.01, 20), st.floats(-20, -0.01))


@pytest.mark.q2d
@examples(4)
@given(
    st.sampled_from(tuple(ACTIVATIONS)),
    arrays(np.float64, (2, 3), elements=AWAY_FROM_ZERO),
    arrays(np.float64, (2, 3), elements=st.floats(-5, 5)),
)
def test_the_derivative_of_each_activation_is_that_of_its_differences(name, z, da):
    forward, backward = ACTIVATIONS[name]

    def loss():
        a = z.copy()
        forward(a)
        return float(np.sum(da * a))

    differences = numerical_gradient(loss, z)
    a, dz = z.copy(), da.copy()
    forward(a)
    backward(dz, a)
    np.testing.assert_allclose(dz, differences, rtol=1e-5, atol=1e-7)


def normal(shape, seed, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape)


@pytest.mark.q2d
@examples(4)
@given(st.integers(4, 8), st.integers(1, 4), st.floats(0.3, 30), st.integers(0, 2**32 - 1))
def test_batch_normalisation_goes_back_as_its_differences_do(n, width, scale, seed):
    x, ds, gamma = normal((n, width), seed, scale), normal((n, width), seed + 1), normal(width, seed + 2)
    assume(x.std(axis=0).min() > 0.1)
    dgamma = np.empty(width)

    def layer():
        norm = BatchNorm(gamma.copy(), dgamma)
        norm.gamma[:] = gamma
        return norm

    def loss():
        s = x.copy()
        layer().forward(s, training=True)
        return float(np.sum(ds * s))

    dx_differences, dgamma_differences = numerical_gradient(loss, x), numerical_gradient(loss, gamma)
    norm, s, dx = layer(), x.copy(), ds.copy()
    norm.forward(s, training=True)
    norm.backward(dx)
    np.testing.assert_allclose(dx, dx_differences, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(dgamma, dgamma_differences, rtol=1e-4, atol=1e-6)


@pytest.mark.q2d
@examples(4)
@given(
    sizes=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    n_inputs=st.integers(1, 4),
    n_classes=st.integers(2, 4),
    n=st.integers(1, 5),
    # The others bend at 0, where dropout puts many units; away from it the test above has them all.
    activation=st.sampled_from(("sigmoid", "tanh")),
    init=st.sampled_from(INITS),
    dropout=st.sampled_from((0.0, 0.3)),
    objective=st.sampled_from(tuple(OBJECTIVES)),
    label_smoothing=st.sampled_from((0.0, 0.2)),
    seed=st.integers(0, 2**32 - 3),
)
def test_any_mlp_goes_back_as_its_differences_do(
    sizes, n_inputs, n_classes, n, activation, init, dropout, objective, label_smoothing, seed
):
    model = MLP(n_inputs, sizes, n_classes, activation, init, dropout, seed=seed, dtype=np.float64)
    x, labels = normal((n, n_inputs), seed + 1), np.random.default_rng(seed + 2).integers(0, n_classes, n)

    def loss_and_gradient():
        model.rng = np.random.default_rng(seed)  # for the same masks
        return OBJECTIVES[objective](model.forward(x, training=True), labels, label_smoothing)

    _, dlogits = loss_and_gradient()
    dx = model.backward(dlogits, return_dx=True)
    gradients = model.gradients.copy()
    for array, gradient in ((model.parameters, gradients), (x, dx)):
        differences = numerical_gradient(lambda: loss_and_gradient()[0], array)
        np.testing.assert_allclose(gradient, differences, rtol=1e-4, atol=1e-8)


def any_logits(dtype):
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 5))
    widths = {np.float32: 32, np.float64: 64}
    return arrays(dtype, shapes, elements=st.floats(allow_nan=False, allow_infinity=False, width=widths[dtype]))


@pytest.mark.q2e
@examples(4)
@given(st.sampled_from((np.float32, np.float64)).flatmap(any_logits), st.sampled_from((0.0, 0.1)), st.data())
def test_all_finite_logits_give_probabilities_and_finite_losses(logits, label_smoothing, data):
    n, k = logits.shape
    p = softmax(logits)
    assert p.dtype == logits.dtype
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    order = np.argsort(logits, axis=1)
    assert (np.diff(np.take_along_axis(p, order, axis=1), axis=1) >= 0).all(), "a larger logit is no less probable"
    labels = data.draw(arrays(np.int64, n, elements=st.integers(0, k - 1)))
    for objective in OBJECTIVES.values():
        loss, dlogits = objective(logits, labels, label_smoothing)
        assert np.isfinite(loss)
        assert loss >= -1e-6
        assert np.isfinite(dlogits).all()


@pytest.mark.q2e
@examples(4)
@given(arrays(np.float64, (3, 4), elements=st.floats(-30, 30)), st.floats(-1e3, 1e3))
def test_the_same_number_added_to_all_logits_changes_nothing(logits, number):
    np.testing.assert_allclose(softmax(logits + number), softmax(logits), rtol=1e-9, atol=1e-12)
    labels = np.array([0, 3, 1])
    loss = cross_entropy(logits, labels)[0]
    assert cross_entropy(logits + number, labels)[0] == pytest.approx(loss, rel=1e-9, abs=1e-11)
    # By the formula as it is written.
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.log(p[np.arange(3), labels]).mean(), rel=1e-9, abs=1e-12)


# Saved models --------------------------------------------------------------------------------------------------------

SAVED_FILES = ("weights.safetensors", "model.json", "history.csv", "metrics.json")


class DamagedMLP:
    """A saved MLP whose files can be replaced.

    Parameters
    ----------
    folder : path
        Where it is saved.
    """

    def __init__(self, folder):
        self.folder = folder
        self.files = {name: (folder / name).read_bytes() for name in SAVED_FILES}
        self.model, self.saved = mlp.load(folder)

    def load(self, files):
        """Load the model with other contents of some files; return it, or None if it is refused by name."""
        try:
            for name, content in files.items():
                (self.folder / name).write_bytes(content)
            loaded, message = attempt(mlp.load, SavedModelError, self.folder)
            assert loaded or self.folder.name in message
            if loaded:
                with contextlib.redirect_stdout(io.StringIO()):
                    assert mlp.main(["inspect", str(self.folder)]) == 0
            return loaded
        finally:
            for name in files:
                (self.folder / name).write_bytes(self.files[name])

    def signed(self, files):
        """Return files of which model.json has the checksums: what somebody made up, and not what a disk did."""
        description = json.loads(files.get("model.json", self.files["model.json"]))
        sums = description.pop("sha256") | {name: sha256(content) for name, content in files.items()}
        sums["model.json"] = sha256(as_json(description))
        return files | {"model.json": as_json(description | {"sha256": sums})}


def as_json(content):
    return (json.dumps(content, indent=2) + "\n").encode()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def damaged_mlp(tmp_path_factory):
    h = mlp.MLPHyperparameters(hidden_sizes=(3,), batch_norm=True, epochs=2)
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    split = dp.Split(images, np.arange(40) % 10)
    model = mlp.build(h)
    history = mlp.train(model, split, split, h)
    folder = tmp_path_factory.mktemp("models") / h.name
    metrics = mlp.measure_mlp(model, dp.Splits(split, split, split), h)
    mlp.save(folder, model, h, history, {"train": 40, "validation": 40, "test": 40, "seed": 0}, metrics)
    saved_mlp = DamagedMLP(folder)
    assert saved_mlp.load(saved_mlp.signed({"metrics.json": saved_mlp.files["metrics.json"]})), "signed as it should be"
    return saved_mlp


@pytest.mark.q2f
@examples()
@given(st.sampled_from(SAVED_FILES), DAMAGES)
def test_a_damaged_saved_model_is_refused_or_loaded_as_it_was(damaged_mlp, name, damages):
    loaded = damaged_mlp.load({name: damaged(damaged_mlp.files[name], damages)})
    if loaded:
        model, saved = loaded
        np.testing.assert_array_equal(model.parameters, damaged_mlp.model.parameters)
        assert saved[1:] == damaged_mlp.saved[1:]


@pytest.mark.q2f
@examples(2)
@given(st.sampled_from([name for name in SAVED_FILES if name != "model.json"]), DAMAGES)
def test_a_damaged_file_with_the_right_checksum_is_refused_or_can_be_inspected(damaged_mlp, name, damages):
    damaged_mlp.load(damaged_mlp.signed({name: damaged(damaged_mlp.files[name], damages)}))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NOTHING = object()


def containers(value):
    """All dicts and lists in what JSON gives, that are not empty."""
    if isinstance(value, dict | list) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner)


@pytest.mark.q2f
@examples(2)
@given(st.sampled_from(("model.json", "metrics.json")), PLACE, PLACE, st.just(NOTHING) | ANY_JSON)
def test_a_saved_model_that_says_anything_else_is_refused_or_can_be_inspected(damaged_mlp, name, where, which, new):
    content = json.loads(damaged_mlp.files[name])
    choices = [inside for inside in containers(content) if inside is not content.get("sha256")]
    inside = choices[where % len(choices)]
    keys = [key for key in (inside if isinstance(inside, dict) else range(len(inside))) if key != "sha256"]
    if new is NOTHING:
        del inside[keys[which % len(keys)]]
    else:
        inside[keys[which % len(keys)]] = new
    damaged_mlp.load(damaged_mlp.signed({name: as_json(content)}))
