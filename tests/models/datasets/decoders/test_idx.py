"""IDX files are read as written, and damaged ones refused with their name (DATA 3, 5.5)."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specdyn.models.datasets.decoders.idx import decompressed_sha256, read_idx, read_labelled_images
from specdyn.models.datasets.samples import FOLDER


def idx(*shape: int, content: bytes) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images"


CUBE = idx(2, 3, 4, content=bytes(range(24)))


@pytest.mark.parametrize(
    "packed",
    [CUBE, gzip.compress(CUBE), gzip.compress(CUBE[:9]) + gzip.compress(CUBE[9:])],
    ids=["plain", "compressed", "in two parts"],
)
def test_the_array_is_read_plain_and_compressed(path: Path, packed: bytes) -> None:
    path.write_bytes(packed)
    array = read_idx(path)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, np.arange(24).reshape(2, 3, 4))
    assert decompressed_sha256(path) == hashlib.sha256(CUBE).hexdigest()


@given(shape=st.lists(st.integers(0, 300), min_size=1, max_size=2))
def test_sides_of_more_than_a_byte_are_read(shape: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(idx(*shape, content=bytes(int(np.prod(shape)))))
    assert read_idx(path).shape == tuple(shape)


@pytest.mark.parametrize(("content", "found"), [(CUBE[:-1], 39), (CUBE + b"\0", 41), (CUBE[:16], 16)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_wrong_length_is_refused(path: Path, content: bytes, found: int, pack: type[bytes]) -> None:
    path.write_bytes(pack(content))
    with pytest.raises(ValueError, match=rf"images: expected 40 bytes for shape \(2, 3, 4\), found {found};"):
        read_idx(path)


def test_a_short_header_is_refused(path: Path) -> None:
    path.write_bytes(CUBE[:10])
    with pytest.raises(ValueError, match=r"images: expected a header of 16 bytes, found 10 bytes in all$"):
        read_idx(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "nothing"),
        (b"\0\0\x08", "00 00 08"),
        (b"\0\0\x08\0", "00 00 08 00"),
        (b"\0\0\x0d\x01" + bytes(8), "00 00 0d 01"),
        (b"\x89PNG....", "89 50 4e 47"),
    ],
)
def test_a_file_of_another_type_is_refused(path: Path, content: bytes, found: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"images: expected the first bytes 00 00 08 nn .* found {found}$"):
        read_idx(path)


def noise() -> bytes:
    """Bytes that gzip cannot shorten, so that a cut is felt where it is made."""
    return np.random.default_rng(0).integers(0, 256, 10_000, np.uint8).tobytes()


def test_a_truncated_gzip_names_the_bytes_expected_and_found(path: Path) -> None:
    path.write_bytes(gzip.compress(idx(100, 100, content=noise()))[:5_000])
    message = r"images: expected 10012 bytes .*, found (\d+) .the gzip stream is cut short"
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert 4_000 < int(str(caught.value).split("found ")[1].split()[0]) < 5_000
    with pytest.raises(ValueError, match=r"images: the gzip stream is cut short after \d+ bytes"):
        decompressed_sha256(path)


def test_a_gzip_that_lacks_its_checksum_is_refused(path: Path) -> None:
    path.write_bytes(gzip.compress(CUBE)[:-4])
    with pytest.raises(ValueError, match=r"found 40 .the gzip stream is cut short"):
        read_idx(path)


def test_a_flipped_bit_is_noticed(path: Path) -> None:
    packed = bytearray(gzip.compress(idx(100, 100, content=noise())))
    packed[5_000] ^= 1
    path.write_bytes(bytes(packed))
    with pytest.raises(ValueError, match="the gzip stream is damaged"):
        read_idx(path)
    with pytest.raises(ValueError, match=r"images: the gzip stream is damaged: .* after \d+ bytes"):
        decompressed_sha256(path)


def test_images_come_with_a_channel_and_their_labels(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(CUBE)
    labels.write_bytes(idx(2, content=bytes([9, 0])))
    image, label = read_labelled_images(images, labels)
    assert (image.shape, label.dtype, label.tolist()) == ((2, 1, 3, 4), np.int64, [9, 0])
    np.testing.assert_array_equal(image[1, 0], np.arange(12, 24).reshape(3, 4))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (idx(3, content=bytes(3)), r"images has 2 images, but .*labels has 3 labels"),
        (idx(2, content=bytes([0, 10])), r"labels: 1 of 2 labels lie outside 0..9, the first is 10 in record 1"),
        (idx(2, 1, content=bytes(2)), r"expected images of 3 axes and labels of 1, found 3 in .* and 2 in"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, label: bytes, message: str) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(CUBE)
    labels.write_bytes(label)
    with pytest.raises(ValueError, match=message):
        read_labelled_images(images, labels)


def test_the_shipped_digits_look_like_mnist() -> None:
    folder = FOLDER / "mnist"
    image, label = read_labelled_images(folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")
    assert (image.shape, label.shape) == ((3_000, 1, 28, 28), (3_000,))
    assert np.bincount(label).min() > 200
    # the published mean and deviation of the whole set
    assert abs(image.mean() / 255 - 0.1307) < 0.003
    assert abs(image.std() / 255 - 0.3081) < 0.003
    # a one is a thin stroke and a nought a ring: labels and images are in step
    ink = [image[label == digit].mean() for digit in range(10)]
    assert (np.argmin(ink), np.argmax(ink)) == (1, 0)
