"""Crops of photos have CIFAR's shape, and the two sides of their split share no pixel (DATA 2.3, 5.3)."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from specdyn.models.datasets.decoders.photos import Crops, photo_crops

SHIPPED = ("astronaut", "chelsea", "china", "coffee", "flower", "hubble_deep_field", "ihc", "retina", "rocket")


def pictures(folder: Path, *sizes: tuple[int, int]) -> Path:
    """Photos whose pixels tell their place: red the column, green the row, blue 0 for the first photo, 1 for ..."""
    for number, (height, width) in enumerate(sizes):
        row, column = np.indices((height, width))
        pixels = np.stack([column, row, np.full_like(row, number)], -1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{'abc'[number]}.png")
    return folder


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    return photo_crops(pictures(tmp_path, (256, 256), (128, 192)), train=3_000, validation=1_000, seed=3)


def test_a_crop_is_a_piece_of_the_photo_of_its_class(crops: Crops) -> None:
    assert crops.image.shape == (4_000, 3, 32, 32)
    assert (crops.image.dtype, crops.label.dtype) == (np.uint8, np.int64)
    red, green, blue = (crops.image[:, channel].astype(int) for channel in range(3))
    np.testing.assert_array_equal(blue, np.broadcast_to(crops.label[:, None, None], blue.shape))
    np.testing.assert_array_equal(red - red[:, :1, :1], np.broadcast_to(np.arange(32), red.shape))
    np.testing.assert_array_equal(green - green[:, :1, :1], np.broadcast_to(np.arange(32)[:, None], green.shape))
    assert crops.classes == ("a", "b")


def test_training_and_validation_crops_share_no_pixel(crops: Crops) -> None:
    def pixels(validation: bool, photo: int) -> set[tuple[int, int]]:
        chosen = crops.image[(crops.validation == validation) & (crops.label == photo)]
        return set(zip(chosen[:, 1].ravel().tolist(), chosen[:, 0].ravel().tolist(), strict=True))

    for photo, area in enumerate([256 * 256, 128 * 192]):
        train, validation = pixels(False, photo), pixels(True, photo)
        assert train.isdisjoint(validation)
        # each side covers nearly all of its half, so that the crops are not all of one block or one place
        assert min(len(train), len(validation)) > 0.45 * area


def test_every_crop_lies_in_one_block_of_its_colour(crops: Crops) -> None:
    left, top = crops.image[:, 0].astype(int), crops.image[:, 1].astype(int)
    for place in (left, top):
        np.testing.assert_array_equal(place.min((1, 2)) // 64, place.max((1, 2)) // 64)
    white = (left[:, 0, 0] // 64 + top[:, 0, 0] // 64) % 2 == 1
    np.testing.assert_array_equal(white, crops.validation)


def test_the_seed_decides_the_crops(tmp_path: Path) -> None:
    folder = pictures(tmp_path, (128, 128), (128, 128))
    first, again, other = (photo_crops(folder, train=40, validation=10, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image != other.image).any()
    np.testing.assert_array_equal(first.label, other.label)


def test_the_shipped_photos_give_a_set_of_nine_classes() -> None:
    crops = photo_crops()
    assert crops.classes == SHIPPED
    assert (crops.image.shape, int(crops.validation.sum())) == ((2_500, 3, 32, 32), 500)
    assert crops.validation[-500:].all()
    for side, least in ((False, 222), (True, 55)):
        counts = np.bincount(crops.label[crops.validation == side], minlength=9)
        assert (counts.min(), counts.max()) == (least, least + 1)
    # the blue sky over the temple and the ginger cat are told apart by their mean colours
    red_less_blue = [
        crops.image[crops.label == SHIPPED.index(name)].mean((0, 2, 3)) @ [1, 0, -1] for name in ("chelsea", "rocket")
    ]
    assert red_less_blue[0] > 20 > red_less_blue[1]


@pytest.mark.parametrize("size", [(100, 128), (128, 100), (64, 128), (128, 64)])
def test_a_photo_of_no_whole_blocks_is_named(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = pictures(tmp_path, (128, 128), size)
    message = rf"b.png: expected sides of 2 or more times 64 pixels, found {size[0]} x {size[1]}$"
    with pytest.raises(ValueError, match=message):
        photo_crops(folder)


def test_too_few_photos_or_crops_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^folder=.* expected a folder of two or more .jpg or .png photos$"):
        photo_crops(pictures(tmp_path, (128, 128)))
    with pytest.raises(ValueError, match=r"^train, validation=\(10, 0\) .* expected 1 or more crops each$"):
        photo_crops(train=10, validation=0)
