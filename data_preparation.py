"""Fashion-MNIST from the files on disk to batches: load, check, split, scale, flatten, augment, batch.

Two functions give the same images, labels and split: `load_splits` as NumPy arrays, `load_dataloaders` as PyTorch
DataLoaders. The NumPy images are uint8 of shape (N, 28, 28); `preprocess` turns them into the inputs of the MLP.
"""

import gzip
import hashlib
import os
import struct
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from model_utils import checks
from model_utils.files import replacing

DATA_DIR = Path(__file__).parent / "data"

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# The MD5 sums that Zalando Research published.
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}

N_OFFICIAL_TRAIN, N_OFFICIAL = 60_000, 70_000
N_VIEWS = 10  # of `ten_views`


class DataError(Exception):
    """A data file is missing, damaged or not what its name says, and could not be replaced."""


class Split(NamedTuple):
    """Images with their labels.

    Attributes
    ----------
    images : ndarray of uint8, shape (N, 28, 28)
        0 is the black background.
    labels : ndarray of int64, shape (N,)
        Indices into `CLASS_NAMES`.
    """

    images: np.ndarray
    labels: np.ndarray


class Splits(NamedTuple):
    """The three parts of the data set, each a `Split`."""

    train: Split
    validation: Split
    test: Split


# Files -------------------------------------------------------------------------------------------------------------


def read_checked(name, data_dir=DATA_DIR):
    """Read one official file; download it first if it is missing or damaged.

    Parameters
    ----------
    name : str
        A key of `MD5`.
    data_dir : path
        The folder that holds `FashionMNIST/raw/`.

    Returns
    -------
    bytes
        The gzip-compressed content, with the published MD5 sum.

    Raises
    ------
    DataError
        If the file is missing or damaged and no mirror has a good copy. The file on disk is left as it was.
    """
    checks.check_choice("name", name, MD5)
    checks.check_path("data_dir", data_dir)
    path = Path(data_dir) / "FashionMNIST" / "raw" / name
    found = "no such file"
    if path.exists():
        content = path.read_bytes()
        digest = hashlib.md5(content).hexdigest()
        if digest == MD5[name]:
            return content
        found = f"{len(content):,} bytes with MD5 {digest}"
    _download(path, found)
    return path.read_bytes()


def _download(path, found):
    # Only a damaged or missing file needs torchvision, which takes seconds to import.
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.utils import download_url

    path.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    # A download replaces the file only if its checksum is right; a broken one is deleted with its temporary folder.
    with tempfile.TemporaryDirectory(dir=path.parent, suffix=".tmp") as folder:
        for mirror in FashionMNIST.mirrors:
            print(f"{path.name}: {found}; downloading it from {mirror}")
            try:
                download_url(mirror + path.name, folder, md5=MD5[path.name])
            except (OSError, RuntimeError) as error:
                failures.append(f"{mirror}: {error}")
            else:
                os.replace(Path(folder) / path.name, path)
                return
    raise DataError(
        f"{path}\n  expected: MD5 {MD5[path.name]}\n  found: {found}\n  tried: {'; '.join(failures)}\n"
        f"  to do: restore the file with 'git checkout -- data', or download {path.name} from "
        "https://github.com/zalandoresearch/fashion-mnist and put it there"
    )


def parse_idx(content, name):
    """Decode an IDX file of unsigned bytes, the format of MNIST (Y. LeCun et al., 1998).

    Parameters
    ----------
    content : bytes
        Two zero bytes, the element type, the number of dimensions, each dimension as a big-endian 32-bit integer,
        then the elements, the last dimension changing fastest.
    name : str
        For error messages. If the name contains "labels", the file holds labels, otherwise images.

    Returns
    -------
    ndarray of uint8
        Images, shape (N, 28, 28), or labels, shape (N,).

    Raises
    ------
    DataError
        If the magic number, the element type, the dimensions, the length or a label is wrong.
    """
    checks.check_is("content", content, bytes)
    checks.check_is("name", name, str)
    shape_after_n = () if "labels" in name else (28, 28)
    n_dimensions = 1 + len(shape_after_n)
    header_size = 4 + 4 * n_dimensions
    if len(content) < header_size:
        raise DataError(f"{name}: expected a header of {header_size} bytes, got {len(content)} bytes in all")
    zeros, element_type, found_dimensions = struct.unpack(">HBB", content[:4])
    if zeros != 0:
        raise DataError(f"{name}: expected a magic number that starts with two zero bytes, got 0x{content[:4].hex()}")
    if element_type != 0x08:
        raise DataError(f"{name}: expected elements of type 0x08, unsigned bytes, got 0x{element_type:02x}")
    if found_dimensions != n_dimensions:
        raise DataError(f"{name}: expected {n_dimensions} dimensions, got {found_dimensions}")
    shape = struct.unpack(f">{n_dimensions}I", content[4:header_size])
    if shape[1:] != shape_after_n:
        raise DataError(f"{name}: expected images of 28 x 28 pixels, got {' x '.join(map(str, shape[1:]))}")
    expected_size = header_size + int(np.prod(shape))
    if len(content) != expected_size:
        raise DataError(f"{name}: expected {expected_size:,} bytes for shape {shape}, got {len(content):,}")
    array = np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)
    if "labels" in name and array.size and array.max() >= len(CLASS_NAMES):
        raise DataError(f"{name}: expected labels from 0 to {len(CLASS_NAMES) - 1}, got {array.max()}")
    return array


def load_official(data_dir=DATA_DIR):
    """Load all 70,000 images: the official 60,000 training images, then the official 10,000 test images.

    Returns
    -------
    Split

    Raises
    ------
    DataError
        See `read_checked`.
    """
    arrays = {name: parse_idx(gzip.decompress(read_checked(name, data_dir)), name) for name in MD5}
    images = np.concatenate([array for name, array in arrays.items() if "images" in name])
    labels = np.concatenate([array for name, array in arrays.items() if "labels" in name])
    return Split(images, labels.astype(np.int64))


# Splits ------------------------------------------------------------------------------------------------------------


def split_indices(labels, train=48_000, validation=12_000, test="official", seed=0):
    """Split the indices of the 70,000 images into three parts; every class has the same share in each part.

    Parameters
    ----------
    labels : ndarray of int, shape (70000,)
        In the order of `load_official`.
    train, validation : int
        Numbers of images.
    test : "official" or int
        "official" for the 10,000 test images that Zalando set aside, so that results can be compared with published
        ones; train and validation then come from the other 60,000. With a number, all three parts are drawn from the
        70,000 images: (56_000, 7_000, 7_000) is the 80/10/10 split.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    tuple of three ndarrays of int
        Indices in random order; the official test images keep their own order.

    Raises
    ------
    ValueError
        If a part would have fewer images than there are classes, or all parts together have more than there are.
    """
    check_split_sizes(train, validation, test, seed)
    labels = checks.check_labels(labels, N_OFFICIAL, len(CLASS_NAMES))
    if test == "official":
        available, test_indices = np.split(np.arange(N_OFFICIAL), [N_OFFICIAL_TRAIN])
    else:
        available, test_indices = _stratified_draw(labels, np.arange(N_OFFICIAL), train + validation, test, seed)
    train_indices, validation_indices = _stratified_draw(labels, available, train, validation, seed)
    return train_indices, validation_indices, test_indices


def check_split_sizes(train, validation, test, seed):
    """Raise a ValueError unless `split_indices` accepts these arguments; no image is loaded."""
    checks.check_count("seed", seed, 0, checks.MAX_SEED)
    is_official = isinstance(test, str) and test == "official"
    available = N_OFFICIAL_TRAIN if is_official else N_OFFICIAL
    sizes = {"train": train, "validation": validation} | ({} if is_official else {"test": test})
    for name, size in sizes.items():
        checks.check_count(name, size, len(CLASS_NAMES), available)
    if (n := sum(sizes.values())) > available:
        raise ValueError(f"{', '.join(sizes)}: expected at most {available:,} images with test={test!r}, got {n:,}")


def _stratified_draw(labels, indices, n_first, n_second, seed):
    return train_test_split(
        indices, train_size=n_first, test_size=n_second, stratify=labels[indices], random_state=seed
    )


def load_splits(train=48_000, validation=12_000, test="official", seed=0, data_dir=DATA_DIR):
    """Load the data set, split into three parts, as NumPy arrays.

    For parameters and errors, see `split_indices` and `read_checked`.

    Returns
    -------
    Splits
    """
    check_split_sizes(train, validation, test, seed)  # before loading the files, which takes seconds
    official = load_official(data_dir)
    parts = split_indices(official.labels, train, validation, test, seed)
    return Splits(*(Split(official.images[part], official.labels[part]) for part in parts))


def load_dataloaders(batch_size=128, train=48_000, validation=12_000, test="official", seed=0, data_dir=DATA_DIR):
    """Load the data set, split into three parts, with torchvision.

    Parameters
    ----------
    batch_size : int
    train, validation, test, seed, data_dir
        See `split_indices`. The same arguments give the same split as `load_splits`, in the same order. The training
        loader shuffles its images, reproducibly from `seed`.

    Returns
    -------
    tuple of three torch.utils.data.DataLoader
        Batches of images, float32 of shape (N, 1, 28, 28) in [0, 1], and labels, int64 of shape (N,).
    """
    # Importing torch takes seconds, and `load_splits` does not need it.
    import torch
    from torch.utils.data import ConcatDataset, DataLoader, Subset
    from torchvision.datasets import FashionMNIST
    from torchvision.transforms import ToTensor

    checks.check_count("batch_size", batch_size)
    check_split_sizes(train, validation, test, seed)
    _unpack_for_torchvision(data_dir)
    halves = [FashionMNIST(data_dir, train=is_train, transform=ToTensor()) for is_train in (True, False)]
    labels = torch.cat([half.targets for half in halves]).numpy()
    official = ConcatDataset(halves)
    subsets = [Subset(official, part) for part in split_indices(labels, train, validation, test, seed)]
    generator = torch.Generator().manual_seed(seed)
    training, *others = subsets
    # Each pass through a loader draws from its generator. With one generator for all, the training order would depend
    # on how often the other loaders are used.
    return (
        DataLoader(training, batch_size, shuffle=True, generator=generator),
        *(DataLoader(subset, batch_size) for subset in others),
    )


def _unpack_for_torchvision(data_dir):
    """Unpack the official files for torchvision, which does not check whether an unpacked file is complete."""
    for name in MD5:
        content = gzip.decompress(read_checked(name, data_dir))
        path = Path(data_dir) / "FashionMNIST" / "raw" / name.removesuffix(".gz")
        if not path.exists() or path.read_bytes() != content:
            with replacing(path) as unfinished:
                unfinished.write_bytes(content)


# Pre-processing ----------------------------------------------------------------------------------------------------


def flatten(images):
    """Lay the rows of each image end to end: shape (N, 28, 28) becomes (N, 784), without a copy."""
    images = checks.as_array("images", images)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(f"images: expected shape (N, 28, 28), got {images.shape}")
    return images.reshape(len(images), 28 * 28)


def scale(images, out=None):
    """Scale pixels from uint8, 0 to 255, to float32, 0 to 1; write them into `out` if it is given."""
    images = checks.as_array("images", images)
    if images.dtype != np.uint8:
        raise ValueError(f"images: expected pixels as uint8, 0 to 255, got {images.dtype}")
    if out is not None:
        checks.check_out(out, images.shape)
    return np.divide(images, np.float32(255), out=out)


def preprocess(images, out=None):
    """Turn images into the inputs of the MLP: flatten, then scale.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 28, 28)
    out : ndarray of float32, shape (N, 784), optional
        Where to put the result.

    Returns
    -------
    ndarray of float32, shape (N, 784)
        Values from 0 to 1.

    Raises
    ------
    ValueError
        If the images have the wrong shape, or are not uint8 (for example, already scaled).
    """
    return scale(flatten(images), out)


def augment(images, rng, flip=True, shift=2):
    """Mirror and shift images at random; a garment that is mirrored or shifted a little is still the same garment.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 28, 28)
    rng : numpy.random.Generator
    flip : bool
        Mirror each image left to right with probability 1/2.
    shift : int
        Move each image by -shift to shift pixels in each direction; the gap is filled with black (0).

    Returns
    -------
    ndarray of uint8, shape (N, 28, 28)
        New images; the originals are unchanged.

    Raises
    ------
    ValueError
        If images are not uint8 of shape (N, 28, 28), or shift is not an integer from 0 to 13.
    """
    images = checks.check_images(images)
    checks.check_rng("rng", rng)
    checks.check_flag("flip", flip)
    checks.check_count("shift", shift, 0, checks.MAX_SHIFT)
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift)))
    if flip:
        mirrored = rng.random(len(images)) < 0.5
        padded[mirrored] = padded[mirrored, :, ::-1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), axis=(1, 2))
    rows, columns = rng.integers(0, 2 * shift + 1, (2, len(images)))
    return windows[np.arange(len(images)), rows, columns]


def ten_views(images):
    """Return ten views of each image: as it is, shifted a pixel up, down, left and right, and all five mirrored.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 28, 28)

    Returns
    -------
    ndarray of uint8, shape (10, N, 28, 28)
    """
    padded = np.pad(checks.check_images(images), ((0, 0), (1, 1), (1, 1)))
    corners = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    shifted = np.stack([padded[:, row : row + 28, column : column + 28] for row, column in corners])
    return np.concatenate([shifted, shifted[..., ::-1]])


def batches(x, labels, batch_size, rng):
    """Yield the data once, in batches and in random order.

    Parameters
    ----------
    x : ndarray, shape (N, ...)
        Images or features.
    labels : ndarray of int, shape (N,)
    batch_size : int
        B. The last batch is smaller if B does not divide N.
    rng : numpy.random.Generator

    Yields
    ------
    tuple of ndarrays, shapes (B, ...) and (B,)
        The first is reused: the next batch overwrites it.
    """
    x, labels = checks.check_rows(x, labels)
    checks.check_count("batch_size", batch_size)
    checks.check_rng("rng", rng)
    order = rng.permutation(len(x))
    x_batch = np.empty((min(batch_size, len(x)), *x.shape[1:]), x.dtype)
    for start in range(0, len(x), batch_size):
        chosen = order[start : start + batch_size]
        # mode="clip" writes straight into `out`; the default would first fill a copy.
        yield np.take(x, chosen, axis=0, out=x_batch[: len(chosen)], mode="clip"), labels[chosen]
