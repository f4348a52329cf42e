"""CIFAR's binary records are read from files and from the archive (METHOD 1.2, DATA 5.5)."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from specdyn.models.datasets.decoders.cifar import read_cifar_binary


def records(labels: list[tuple[int, ...]], seed: int = 0) -> tuple[bytes, list[bytes]]:
    """Records of the label bytes and random planes, and the planes."""
    random = np.random.default_rng(seed)
    planes = [random.integers(0, 256, 3072, np.uint8).tobytes() for _ in labels]
    return b"".join(bytes(label) + plane for label, plane in zip(labels, planes, strict=True)), planes


def archive(path: Path, files: dict[str, bytes], folder: str = "cifar-10-batches-bin/") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_a_record_is_a_label_and_red_green_and_blue_planes(tmp_path: Path) -> None:
    planes = bytes([1]) * 1024 + bytes([2]) * 1024 + bytes(range(256)) * 4
    (tmp_path / "one.bin").write_bytes(b"\x07" + planes)
    image, label = read_cifar_binary([tmp_path / "one.bin"])
    assert (image.shape, image.dtype, label.dtype, label.tolist()) == ((1, 3, 32, 32), np.uint8, np.int64, [7])
    assert (image[0, 0] == 1).all() and (image[0, 1] == 2).all()
    # rows of 32: pixel (row 1, column 2) of blue is the plane's byte 34
    assert image[0, 2, 1, 2] == 34


def test_files_are_read_in_the_order_given(tmp_path: Path) -> None:
    second, first = tmp_path / "a.bin", tmp_path / "b.bin"
    contents = [records([(3,), (4,)], seed=1), records([(5,)], seed=2)]
    first.write_bytes(contents[0][0])
    second.write_bytes(contents[1][0])
    image, label = read_cifar_binary([first, second])
    assert label.tolist() == [3, 4, 5]
    assert [one.tobytes() for one in image] == contents[0][1] + contents[1][1]


def test_the_fine_label_of_cifar_100_is_the_second(tmp_path: Path) -> None:
    content, planes = records([(19, 99), (0, 3)])
    (tmp_path / "train.bin").write_bytes(content)
    image, label = read_cifar_binary([tmp_path / "train.bin"], classes=100)
    assert label.tolist() == [99, 3]
    assert [one.tobytes() for one in image] == planes


def test_the_archive_is_read_by_split_and_number_of_the_batch(tmp_path: Path) -> None:
    files = {f"data_batch_{n}.bin": records([(n,)], seed=n)[0] for n in (5, 3, 1, 2, 4)}
    files |= {"test_batch.bin": records([(0,), (9,)])[0], "batches.meta.txt": b"airplane\n"}
    path = archive(tmp_path / "cifar-10-binary.tar.gz", files)
    image, label = read_cifar_binary(path)
    assert label.tolist() == [1, 2, 3, 4, 5]
    assert image[2].tobytes() == records([(3,)], seed=3)[1][0]
    assert read_cifar_binary(path, split="test")[1].tolist() == [0, 9]
    assert [entry.name for entry in tmp_path.iterdir()] == ["cifar-10-binary.tar.gz"]


def test_the_archive_of_cifar_100_is_read(tmp_path: Path) -> None:
    files = {"train.bin": records([(1, 42)])[0], "test.bin": records([(1, 43)])[0]}
    path = archive(tmp_path / "cifar-100-binary.tar.gz", files, "cifar-100-binary/")
    assert read_cifar_binary(path, classes=100)[1].tolist() == [42]
    assert read_cifar_binary(path, classes=100, split="test")[1].tolist() == [43]


@pytest.mark.parametrize(
    ("content", "classes", "message"),
    [
        (b"", 10, r"expected whole records of 3073 bytes \(CIFAR-10\), found 0 bytes"),
        (records([(1,), (2,)])[0][:-1], 10, r"expected whole records of 3073 bytes \(CIFAR-10\), found 6145 bytes"),
        (records([(1,), (2,)])[0], 100, r"expected whole records of 3074 bytes \(CIFAR-100\), found 6146 bytes"),
        (records([(1,), (10,)])[0], 10, r"one.bin: 1 of 2 labels lie outside 0..9, the first is 10 in record 1"),
        (records([(1, 100)])[0], 100, r"one.bin: 1 of 1 labels lie outside 0..99, the first is 100 in record 0"),
        (records([(20, 1)])[0], 100, r"one.bin \(coarse\): 1 of 1 labels lie outside 0..19, the first is 20"),
    ],
)
def test_bad_records_are_refused(tmp_path: Path, content: bytes, classes: int, message: str) -> None:
    (tmp_path / "one.bin").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_cifar_binary([tmp_path / "one.bin"], classes=classes)


def test_an_archive_without_a_batch_is_refused(tmp_path: Path) -> None:
    files = {f"data_batch_{n}.bin": records([(n,)])[0] for n in (1, 2, 4, 5)}
    path = archive(tmp_path / "cifar.tar.gz", files)
    with pytest.raises(ValueError, match=r"cifar.tar.gz: expected data_batch_3.bin, found data_batch_1.bin, "):
        read_cifar_binary(path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_archive_is_refused(tmp_path: Path, kept: float) -> None:
    path = archive(tmp_path / "cifar.tar.gz", {f"data_batch_{n}.bin": records([(n,)], n)[0] for n in range(1, 6)})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"cifar.tar.gz: the archive is damaged or cut short"):
        read_cifar_binary(path)


def test_a_flipped_bit_in_the_archive_is_noticed(tmp_path: Path) -> None:
    path = archive(tmp_path / "cifar.tar.gz", {f"data_batch_{n}.bin": records([(n,)], n)[0] for n in range(1, 6)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cifar.tar.gz: the archive is damaged or cut short"):
        read_cifar_binary(path)


def test_wrong_class_counts_are_refused(tmp_path: Path) -> None:
    labels = [(n % 10,) for n in range(20)]
    (tmp_path / "one.bin").write_bytes(records(labels)[0])
    assert len(read_cifar_binary([tmp_path / "one.bin"], per_class=2)[1]) == 20
    (tmp_path / "one.bin").write_bytes(records([*labels[:-1], (8,)])[0])
    with pytest.raises(ValueError, match="expected 2 images of each class, found 3 of class 8"):
        read_cifar_binary([tmp_path / "one.bin"], per_class=2)


def test_other_numbers_of_classes_and_no_file_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^classes=20 is not allowed: expected 10 or 100$"):
        read_cifar_binary([], classes=20)
    with pytest.raises(ValueError, match=r"^source=.. is not allowed: expected an archive, or one or more files$"):
        read_cifar_binary([])
