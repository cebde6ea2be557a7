"""From images to features to classes: the features of images, their standardisation, and the pair with the MLP."""

import numpy as np
import pytest
import torch

import cnn
import mlp
from data_preparation import CLASS_NAMES, Split, Splits
from model_utils.cnn_backbone import CNNBackbone, CNNHyperparameters, preprocess
from model_utils.mlp import state_layout
from model_utils.pair import Pair, Standardizer, extract_features, head_logits, standardized_features
from model_utils.training import measure

pytestmark = pytest.mark.q3d

H = CNNHyperparameters(
    channels=(4, 8, 8, 8, 8), n_features=16, epochs=1, batch_size=64, learning_rate=0.02, dropout=0.5
)
MLP_H = mlp.MLPHyperparameters(hidden_sizes=(16,), epochs=2)


@pytest.fixture(scope="module")
def splits(small_splits):
    sizes = (640, 300, 1000)
    parts = (Split(images[:n], labels[:n]) for (images, labels), n in zip(small_splits, sizes, strict=True))
    return Splits(*parts)


@pytest.fixture(scope="module")
def backbone(splits):
    """A trained one: its batch norm has statistics of its own."""
    backbone = cnn.build(H)
    cnn.train(backbone, splits.train, splits.validation, H)
    return backbone


@pytest.fixture(scope="module")
def pair_and_features(backbone, splits):
    standardizer, features = standardized_features(backbone, splits, progress=False)
    classifier = mlp.build(MLP_H, backbone.n_features)
    mlp.train(classifier, *features[:2], MLP_H)
    return Pair(backbone, standardizer, classifier), features


def test_features_are_deterministic_and_blind_to_mirroring(backbone, splits):
    backbone.train()  # dropout and batch norm must not reach the features
    images = splits.test.images[:700]
    features = extract_features(backbone, images)
    assert features.shape == (700, 16)
    assert features.dtype == np.float32
    assert np.array_equal(features, extract_features(backbone, images))
    np.testing.assert_allclose(features, extract_features(backbone, images[:, :, ::-1]), atol=1e-5)


def test_features_are_the_mean_over_a_step_in_each_direction_and_both_sides(backbone, splits):
    here = splits.test.images[:20]
    up, down, left, right = (np.zeros_like(here) for _ in range(4))
    up[:, :-1], down[:, 1:] = here[:, 1:], here[:, :-1]
    left[:, :, :-1], right[:, :, 1:] = here[:, :, 1:], here[:, :, :-1]
    views = [side for moved in (here, up, down, left, right) for side in (moved, moved[:, :, ::-1])]
    with torch.inference_mode():
        inputs = [preprocess(torch.from_numpy(np.ascontiguousarray(view))) for view in views]
        expected = np.mean([backbone.eval().features(x).numpy() for x in inputs], axis=0)
    np.testing.assert_allclose(extract_features(backbone, here), expected, atol=1e-5)


def test_the_logits_of_the_head_are_those_of_each_image_alone(backbone, splits):
    images = splits.test.images[: backbone.n_at_once + 1]  # more than are computed at a time
    logits = head_logits(backbone.train(), images)
    assert logits.shape == (len(images), 10)
    assert not backbone.training
    for i in (0, -1):
        np.testing.assert_allclose(logits[i], head_logits(backbone, images[i][np.newaxis])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 28, 28), np.float32), "images: expected pixels as uint8, 0 to 255, got float32"),
        (np.zeros((2, 1, 28, 28), np.uint8), r"images: expected shape \(N, 28, 28\)"),
        (np.zeros((0, 28, 28), np.uint8), "images: expected .* at least 1"),
    ],
)
def test_images_of_another_kind_are_refused(backbone, images, message):
    with pytest.raises(ValueError, match=message):
        extract_features(backbone, images)


def test_standardizer_uses_training_statistics_and_survives_a_dead_feature():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (500, 4)).astype(np.float32)
    features[:, 2] = 0.1
    standardizer = Standardizer.fit(features)
    standardized = standardizer(features)
    np.testing.assert_allclose(standardized.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standardized.std(axis=0), [1, 1, 0, 1], atol=1e-5)
    other = np.ones((1, 4), np.float32)
    np.testing.assert_allclose(standardizer(other)[0, 0], (1 - features[:, 0].mean()) / features[:, 0].std(), rtol=1e-4)


def test_all_splits_are_standardised_by_the_training_images(pair_and_features, backbone, splits):
    pair, features = pair_and_features
    raw = [extract_features(backbone, part.images) for part in splits]
    expected = Standardizer.fit(raw[0])
    for part, raw_part, split in zip(features, raw, splits, strict=True):
        assert np.array_equal(part.images, expected(raw_part))
        assert part.images.dtype == np.float32
        assert part.labels is split.labels
    assert all(map(np.array_equal, pair.standardizer, expected))


def test_the_pair_on_raw_images_is_the_mlp_on_cached_features(pair_and_features, splits):
    pair, (_, _, test) = pair_and_features
    on_images = measure(pair.predict_logits(splits.test.images), splits.test.labels, CLASS_NAMES)
    assert on_images == mlp.evaluate(pair.classifier, test)
    probabilities = pair.predict_proba(splits.test.images[:50])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    logits = pair.predict_logits(splits.test.images[:50])
    assert np.array_equal(probabilities.argmax(axis=1), logits.argmax(axis=1))


def test_a_pair_is_made_again_of_its_arrays(pair_and_features, splits):
    pair, _ = pair_and_features
    images = splits.test.images[:50]
    again = Pair.from_state(pair.state(), CNNBackbone(H).train(), mlp.build(MLP_H, H.n_features))
    assert np.array_equal(again.predict_logits(images), pair.predict_logits(images))
    assert not again.backbone.training
    Pair.check_state(pair.state(), CNNBackbone(H), state_layout((16, 16, 10), MLP_H.batch_norm))
    for lost in ("backbone.head.bias", "standardizer.std", "mlp.W1"):
        state = {name: array for name, array in pair.state().items() if name != lost}
        with pytest.raises((KeyError, RuntimeError, ValueError), match=lost.split(".", 1)[1]):
            Pair.from_state(state, CNNBackbone(H), mlp.build(MLP_H, H.n_features))
