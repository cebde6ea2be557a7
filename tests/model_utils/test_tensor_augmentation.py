"""Augmentation of a batch of images as a tensor."""

import numpy as np
import pytest
import torch

from model_utils.cnn_backbone import preprocess
from model_utils.tensor_augmentation import augment

pytestmark = pytest.mark.q3b


def test_augmentation_mirrors_and_moves_and_nothing_else():
    torch.manual_seed(0)
    images = torch.zeros(400, 28, 28, dtype=torch.uint8)
    images[:, 10, 5] = 200
    moved = augment(images, flip=True, shift=2)
    assert moved.shape == images.shape
    assert moved.dtype == torch.uint8
    places = torch.nonzero(moved)
    assert len(places) == 400
    assert moved.max() == 200
    rows, columns = places[:, 1], places[:, 2]
    assert set(rows.tolist()) == {8, 9, 10, 11, 12}
    assert set(columns.tolist()) == {3, 4, 5, 6, 7} | {20, 21, 22, 23, 24}
    assert 150 < (columns < 14).sum() < 250
    assert torch.equal(augment(images, flip=False, shift=0), images)


def test_what_leaves_on_one_side_does_not_come_back_on_the_other():
    torch.manual_seed(0)
    white = torch.full((200, 28, 28), 255, dtype=torch.uint8)
    moved = augment(white, flip=False, shift=3)
    rows, columns = (moved != 0).any(dim=2).sum(dim=1), (moved != 0).any(dim=1).sum(dim=1)
    assert {*rows.tolist()} == {*columns.tolist()} == {25, 26, 27, 28}


def test_erasing_blackens_one_square_anywhere():
    torch.manual_seed(0)
    white = torch.full((3000, 28, 28), 255, dtype=torch.uint8)
    black = augment(white, flip=False, shift=0, erase=8) == 0
    rows, columns = black.any(dim=2), black.any(dim=1)
    assert torch.equal(black, rows[:, :, None] & columns[:, None, :])
    assert {*rows.sum(dim=1).tolist(), *columns.sum(dim=1).tolist()} == set(range(1, 9))
    share = black.float().mean(dim=0)
    np.testing.assert_allclose(share, (8 / 35) ** 2, atol=0.025)  # 35 places of the square's corner in each direction


def test_the_images_given_stay_as_they_were():
    images = torch.arange(5 * 28 * 28).remainder(256).to(torch.uint8).view(5, 28, 28)
    before = images.clone()
    augment(images, flip=True, shift=2, erase=6)
    assert torch.equal(images, before)


def test_pixels_are_augmented_as_the_inputs_made_of_them_would_be():
    images = torch.randint(256, (300, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    augmented = []
    for batch in (images, images.float() / 255):
        torch.manual_seed(7)
        augmented.append(augment(batch, flip=True, shift=2, erase=6))
    assert torch.equal(preprocess(augmented[0]), augmented[1].unsqueeze(1))
    assert not torch.equal(augmented[0], images)
