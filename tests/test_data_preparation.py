"""The data set from its files to batches, and the pre-processing of images."""

import functools
import gzip
import http.server
import shutil
import struct
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST

import data_preparation as dp

RAW = dp.DATA_DIR / "FashionMNIST" / "raw"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"


# The files


@pytest.mark.q1
def test_checksums_are_those_that_torchvision_knows():
    assert list(dp.MD5.items()) == FashionMNIST.resources


@pytest.mark.q1
def test_numbers_are_those_published(official):
    assert official.images.shape == (70_000, 28, 28)
    assert np.bincount(official.labels[:60_000]).tolist() == [6000] * 10
    assert np.bincount(official.labels[60_000:]).tolist() == [1000] * 10
    pixels = official.images[:60_000] / 255
    # The mean and standard deviation that everyone normalises Fashion-MNIST with.
    assert pixels.mean() == pytest.approx(0.2860, abs=5e-5)
    assert pixels.std() == pytest.approx(0.3530, abs=5e-5)


def idx(array, magic=(0, 0, 8), dimensions=None):
    dimensions = array.shape if dimensions is None else dimensions
    return bytes([*magic, len(dimensions)]) + struct.pack(f">{len(dimensions)}I", *dimensions) + array.tobytes()


@pytest.mark.q1
def test_idx_reader_reads_what_was_written():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    np.testing.assert_array_equal(dp.parse_idx(idx(images), "images"), images)
    labels = np.array([0, 9, 4], np.uint8)
    np.testing.assert_array_equal(dp.parse_idx(idx(labels), "labels"), labels)


IMAGES = np.zeros((2, 28, 28), np.uint8)


@pytest.mark.q1
@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"\0\0\x08", "images", "header of 16 bytes, got 3"),
        (idx(IMAGES, magic=(0, 7, 8)), "images", "two zero bytes, got 0x00070803"),
        (idx(IMAGES, magic=(0, 0, 0x0D)), "images", "type 0x08, unsigned bytes, got 0x0d"),
        (idx(np.zeros(20, np.uint8)), "images", "3 dimensions, got 1"),
        (idx(IMAGES), "labels", "1 dimensions, got 3"),
        (idx(np.zeros((2, 32, 32), np.uint8)), "images", "28 x 28 pixels, got 32 x 32"),
        (idx(IMAGES, dimensions=(3, 28, 28)), "images", "expected 2,368 bytes .* got 1,584"),
        (idx(IMAGES) + b"\0", "images", "expected 1,584 bytes .* got 1,585"),
        (idx(np.array([3, 10], np.uint8)), "labels", "0 to 9, got 10"),
    ],
)
def test_idx_reader_refuses(content, name, message):
    with pytest.raises(dp.DataError, match=f"^{name}: .*{message}"):
        dp.parse_idx(content, name)


@pytest.fixture
def data_dir(tmp_path):
    """A copy of the data folder, free to damage."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in dp.MD5:
        shutil.copy(RAW / name, raw)
    return tmp_path


@pytest.fixture
def mirror(tmp_path_factory, monkeypatch):
    """A folder that a web server on this machine hands out, as torchvision's only mirror."""
    folder = tmp_path_factory.mktemp("mirror")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    yield folder
    server.shutdown()
    server.server_close()


def truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip_one_bit(path):
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)


@pytest.mark.q1
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), truncate, flip_one_bit], ids=["gone", "half", "bit"])
def test_damaged_file_is_fetched_again(data_dir, mirror, damage, official, capsys):
    shutil.copy(RAW / TEST_LABELS, mirror)
    damage(data_dir / "FashionMNIST" / "raw" / TEST_LABELS)
    np.testing.assert_array_equal(dp.load_official(data_dir).labels, official.labels)
    output = capsys.readouterr()
    assert TEST_LABELS in output.out
    assert "100%" in output.err  # the progress bar


@pytest.mark.q1
def test_broken_download_never_counts_as_present(data_dir, mirror):
    truncated = gzip.compress(b"not the labels")
    (mirror / TEST_LABELS).write_bytes(truncated)
    path = data_dir / "FashionMNIST" / "raw" / TEST_LABELS
    path.unlink()
    with pytest.raises(dp.DataError, match="no such file"):
        dp.load_official(data_dir)
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(set(dp.MD5) - {TEST_LABELS})


@pytest.mark.q1
def test_error_without_network_says_what_to_do(data_dir, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:1/"])  # nobody listens there
    path = data_dir / "FashionMNIST" / "raw" / TEST_LABELS
    truncate(path)
    with pytest.raises(dp.DataError) as caught:
        dp.load_official(data_dir)
    message = str(caught.value)
    for part in (str(path), dp.MD5[TEST_LABELS], "1,000 bytes with MD5", "127.0.0.1:1", "git checkout", "download"):
        assert part in message
    assert path.stat().st_size == 1000, "what was there should be left"


# The split


@pytest.mark.q1
@pytest.mark.parametrize("sizes", [(48_000, 12_000, "official"), (56_000, 7_000, 7_000), (5_000, 1_000, "official")])
def test_split_is_disjoint_and_stratified(official, sizes):
    parts = dp.split_indices(official.labels, *sizes)
    expected_sizes = [10_000 if size == "official" else size for size in sizes]
    assert [len(part) for part in parts] == expected_sizes
    assert len(np.unique(np.concatenate(parts))) == sum(expected_sizes)
    for part in parts:
        assert np.bincount(official.labels[part]).tolist() == [len(part) // 10] * 10


@pytest.mark.q1
def test_official_test_images_are_the_test_split(official):
    np.testing.assert_array_equal(dp.split_indices(official.labels)[2], np.arange(60_000, 70_000))


@pytest.mark.q1
def test_split_is_fixed_by_its_seed(official):
    first, again, other = (dp.split_indices(official.labels, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.q1
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((60_000, 1_000, "official"), "at most 60,000 images .* got 61,000"),
        ((60_000, 7_000, 7_000), "at most 70,000 images .* got 74,000"),
        ((0, 12_000, "official"), "train: .* got 0"),
        ((48_000, 0.2, "official"), "validation: .* got 0.2"),
        ((48_000, 12_000, "oficial"), "test: .* got 'oficial'"),
    ],
)
def test_split_refuses(official, sizes, message):
    with pytest.raises(ValueError, match=message):
        dp.split_indices(official.labels, *sizes)


@pytest.mark.q1
@pytest.mark.parametrize("sizes", [(4_800, 1_200, "official"), (5_600, 700, 700)])
def test_numpy_and_torchvision_loaders_agree(sizes):
    splits = dp.load_splits(*sizes)
    loaders = dp.load_dataloaders(500, *sizes)
    for split, loader in zip(splits, loaders, strict=True):
        images, labels = map(torch.cat, zip(*DataLoader(loader.dataset, 1000), strict=True))
        np.testing.assert_array_equal(images.reshape(-1, 784).numpy(), dp.preprocess(split.images))
        np.testing.assert_array_equal(labels.numpy(), split.labels)


@pytest.mark.q1
def test_training_loader_shuffles_reproducibly_and_the_others_do_not():
    def first_labels(loader):
        return next(iter(loader))[1].tolist()

    first, again = (dp.load_dataloaders(100, 1000, 200) for _ in range(2))
    splits = dp.load_splits(1000, 200)
    assert first_labels(first[0]) == first_labels(again[0]) != splits.train.labels[:100].tolist()
    for loader, split in zip(first[1:], splits[1:], strict=True):
        assert first_labels(loader) == split.labels[:100].tolist()


@pytest.mark.q1
def test_order_of_training_images_does_not_depend_on_the_other_loaders():
    orders = []
    for looks_at_others in (False, True):
        training, *others = dp.load_dataloaders(100, 1000, 200)
        order = []
        for _ in range(2):
            order += [labels.tolist() for _, labels in training]
            if looks_at_others:
                for loader in others:
                    next(iter(loader))
        orders.append(order)
    assert orders[0] == orders[1]
    assert orders[0][:10] != orders[0][10:]


@pytest.mark.q1
def test_torchvision_road_mends_a_half_unpacked_file(data_dir):
    half = data_dir / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    half.write_bytes(b"\0\0\x08\x03")
    *_, test_loader = dp.load_dataloaders(100, 1000, 200, data_dir=data_dir)
    assert len(test_loader.dataset) == 10_000
    assert half.stat().st_size == 16 + 10_000 * 784


# Pre-processing


@pytest.mark.q2a
def test_flatten_keeps_the_order_of_pixels():
    images = np.arange(2 * 784).reshape(2, 28, 28)
    flat = dp.flatten(images)
    assert flat.shape == (2, 784)
    assert flat[1, 28 * 3 + 5] == images[1, 3, 5]
    with pytest.raises(ValueError, match=r"images: expected shape \(N, 28, 28\), got \(2, 784\)"):
        dp.flatten(flat)


@pytest.mark.q2b
def test_preprocess_scales_to_0_1_and_nothing_is_scaled_twice():
    images = np.zeros((3, 28, 28), np.uint8)
    images[0, 0, :3] = 255, 51, 0
    x = dp.preprocess(images)
    assert x.dtype == np.float32
    assert x.shape == (3, 784)
    np.testing.assert_array_equal(x[0, :3], np.float32([1, 0.2, 0]))
    out = np.empty_like(x)
    assert dp.preprocess(images, out) is out
    np.testing.assert_array_equal(out, x)
    with pytest.raises(ValueError, match="images: expected pixels as uint8, 0 to 255, got float32"):
        dp.scale(x)


@pytest.mark.q2b
def test_augment_flips_about_half_and_changes_nothing_else(small_splits):
    images = small_splits.train.images
    flipped = dp.augment(images, np.random.default_rng(0), flip=True, shift=0)
    assert flipped.dtype == np.uint8
    is_mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2))
    assert (is_mirrored | (flipped == images).all(axis=(1, 2))).all()
    assert 0.45 < is_mirrored.mean() < 0.55


@pytest.mark.q2b
def test_augment_shifts_by_up_to_the_given_number_of_pixels(small_splits):
    images = small_splits.train.images[:500].copy()
    original = images.copy()
    shifted = dp.augment(images, np.random.default_rng(0), flip=False, shift=2)
    np.testing.assert_array_equal(images, original)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    candidates = {(r, c): (shifted == padded[:, r : r + 28, c : c + 28]).all((1, 2)) for r, c in np.ndindex(5, 5)}
    assert np.any(list(candidates.values()), axis=0).all(), "each image is one of the 25 shifts of itself"
    assert all(matches.any() for matches in candidates.values()), "each of the 25 shifts happens"


@pytest.mark.q2b
@pytest.mark.parametrize(
    ("images", "shift", "message"),
    [
        (np.zeros((2, 784), np.uint8), 1, r"images: expected shape \(N, 28, 28\) .* got \(2, 784\)"),
        (np.zeros((2, 28, 28), np.float32), 1, "images: expected pixels as uint8, 0 to 255, got float32"),
        (IMAGES, -1, "shift: expected an integer from 0 to 13, got -1"),
        (IMAGES, 0.5, "shift: expected an integer from 0 to 13, got 0.5"),
    ],
)
def test_augment_refuses(images, shift, message):
    with pytest.raises(ValueError, match=message):
        dp.augment(images, np.random.default_rng(0), shift=shift)


@pytest.mark.q2b
def test_ten_views_are_the_image_its_neighbours_and_their_mirror_images(small_splits):
    images = small_splits.train.images[:5].copy()
    images[:, [0, -1]] = images[:, :, [0, -1]] = 0  # so that nothing is lost when an image moves by a pixel
    views = dp.ten_views(images)
    assert views.shape == (10, *images.shape)
    assert views.dtype == np.uint8
    moved = [images, *(np.roll(images, step, axis) for step, axis in ((1, 1), (-1, 1), (1, 2), (-1, 2)))]
    for view, expected in zip(views, [*moved, *(image[:, :, ::-1] for image in moved)], strict=True):
        np.testing.assert_array_equal(view, expected)


@pytest.mark.q1
def test_batches_visit_every_image_once_with_its_label():
    x = np.arange(10.0)[:, np.newaxis] * np.ones(3)
    labels = np.arange(10)
    sizes, seen = [], []
    for x_batch, labels_batch in dp.batches(x, labels, 4, np.random.default_rng(0)):
        np.testing.assert_array_equal(x_batch[:, 0], labels_batch)
        sizes.append(len(x_batch))
        seen += labels_batch.tolist()
    assert sizes == [4, 4, 2]
    assert sorted(seen) == list(range(10)) != seen
