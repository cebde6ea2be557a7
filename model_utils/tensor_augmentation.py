"""Augmentation of a batch of images as a tensor, on any device."""

import torch
import torch.nn.functional as F

from model_utils.checks import MAX_ERASE, MAX_SHIFT, check_count, check_flag, check_is


def augment(images, flip=True, shift=1, erase=0):
    """Vary a batch at random, as `data_preparation.augment` does, and erase a square in each image.

    Parameters
    ----------
    images : tensor of uint8, shape (N, 28, 28)
    flip : bool
        Mirror each image left to right with probability 1/2.
    shift : int
        Shift each image by -shift to shift pixels in each direction; black (0) moves in from outside.
    erase : int
        Side of a square that is made black in each image; part of it may lie outside. Cutout, after T. DeVries and
        G. Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.

    Returns
    -------
    tensor of uint8, shape (N, 28, 28)

    Raises
    ------
    ValueError
        If images are not such a tensor, or another argument is out of its range.
    """
    check_is("images", images, torch.Tensor)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise ValueError(f"images: expected shape (N, 28, 28) with N at least 1, got {tuple(images.shape)}")
    check_flag("flip", flip)
    check_count("shift", shift, 0, MAX_SHIFT)
    check_count("erase", erase, 0, MAX_ERASE)
    n = len(images)
    if flip:
        is_mirrored = (torch.rand(n) < 0.5).to(images.device)
        images = torch.where(is_mirrored[:, None, None], images.flip(2), images)
    if shift:
        rows, columns = torch.randint(0, 2 * shift + 1, (2, n)).to(images.device)
        windows = F.pad(images, (shift,) * 4).unfold(1, 28, 1).unfold(2, 28, 1)  # (N, 2s+1, 2s+1, 28, 28)
        images = windows[torch.arange(n, device=images.device), rows, columns]
    if erase:
        first = torch.randint(1 - erase, 28, (2, n, 1)).to(images.device)  # the square's first row and first column
        pixels = torch.arange(28, device=images.device)
        rows, columns = (pixels >= first) & (pixels < first + erase)  # (N, 28) each
        images = images.masked_fill(rows[:, :, None] & columns[:, None, :], 0)
    return images
