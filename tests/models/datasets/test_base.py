"""Every data set is declared completely, and arrays that break a rule are refused (DATA 3, 5)."""

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.mel import assert_near, of_recordings
from specdyn.models.datasets import base as declarations
from specdyn.models.datasets import cifar10, librispeech, wikitext103
from specdyn.models.datasets.base import Dataset, PackagedFile, RemoteFile, dataset_names, get_dataset
from specdyn.models.datasets.samples import FOLDER

ALL = [(name, variant) for name in dataset_names() for variant in declarations.variants_of(name)]
SAMPLES = [(name, variant) for name, variant in ALL if variant == "sample"]
NOTHING: Mapping[str, Path] = {}


def of(kind: str, params: Mapping[str, Any]) -> Dataset:
    file = RemoteFile(url="https://example.org/a")
    return Dataset(
        name="hand",
        variant="full",
        kind=kind,
        title="",
        files=(file,),
        decode=lambda paths: ({}, {}),
        licence="",
        attribution="",
        params=params,
    )


def test_the_data_sets_are_these() -> None:
    assert sorted(ALL) == [
        ("cifar10", "full"),
        ("cifar100", "full"),
        ("devils_dictionary", "sample"),
        ("fashion_mnist", "full"),
        ("librispeech", "full"),
        ("librispeech", "sample"),
        ("mnist", "full"),
        ("mnist", "sample"),
        ("photos", "sample"),
        ("wikitext103", "full"),
    ]


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_a_declaration_is_under_its_own_name_and_complete(name: str, variant: str) -> None:
    dataset = get_dataset(name, variant)
    assert dataset.label == f"{name}/{variant}"
    assert dataset.title and dataset.licence and dataset.attribution
    packaged = [isinstance(file, PackagedFile) for file in dataset.files]
    assert all(packaged) if variant == "sample" else not any(packaged)


@pytest.mark.parametrize(("name", "variant"), SAMPLES)
def test_a_sample_does_not_have_the_name_of_the_full_set(name: str, variant: str) -> None:
    assert ", not " in f", {get_dataset(name, variant).title}"


@pytest.mark.parametrize(("name", "variant"), SAMPLES)
def test_the_hash_of_a_packaged_file_is_that_of_the_file(name: str, variant: str) -> None:
    for file in get_dataset(name, variant).files:
        assert isinstance(file, PackagedFile)
        assert hashlib.sha256((FOLDER / file.path).read_bytes()).hexdigest() == file.sha256


def test_all_photos_that_are_shipped_are_declared() -> None:
    assert {file.name for file in get_dataset("photos", "sample").files} == {
        path.name for path in (FOLDER / "photos").iterdir()
    }


@pytest.mark.parametrize(("name", "variant"), SAMPLES)
def test_a_sample_decodes_to_what_is_declared(name: str, variant: str) -> None:
    dataset = get_dataset(name, variant)
    paths = {file.name: FOLDER / file.path for file in dataset.files if isinstance(file, PackagedFile)}
    arrays, report = dataset.decode(paths)
    dataset.validate(arrays)
    assert json.loads(json.dumps(report)) == report


def test_keys_differ_and_are_hashes_of_the_declaration() -> None:
    keys = {get_dataset(*label).key for label in ALL}
    assert len(keys) == len(ALL)
    plain = {
        "name": "hand",
        "variant": "full",
        "kind": "tokens",
        "files": [{"url": "https://example.org/a", "bytes": None, "md5": None, "sha256": None, "of": "file"}],
        "params": {"length": 3},
        "prep_version": declarations.PREP_VERSION,
    }
    expected = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
    assert of("tokens", {"length": 3}).key == expected


def test_the_key_depends_on_what_decides_the_arrays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = of("tokens", {"length": 3})
    file = dataset.files[0]
    assert isinstance(file, RemoteFile)
    same = (
        {"title": "other", "licence": "other", "attribution": "other", "about": "other", "decode": print},
        {"files": (dataclasses.replace(file, system="/usr/share/a"),)},
    )
    assert {dataclasses.replace(dataset, **changes).key for changes in same} == {dataset.key}
    other: tuple[dict[str, Any], ...] = (
        {"name": "other"},
        {"variant": "sample"},
        {"kind": "images"},
        {"params": {"length": 4}},
        {"files": (dataclasses.replace(file, sha256="0"),)},
        {"files": (dataclasses.replace(file, url="https://example.org/b"),)},
    )
    keys = {dataclasses.replace(dataset, **changes).key for changes in other} | {dataset.key}
    assert len(keys) == len(other) + 1
    monkeypatch.setattr(declarations, "PREP_VERSION", declarations.PREP_VERSION + 1)
    assert dataset.key not in keys


def test_what_is_not_there_is_refused_with_what_is() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'cifar': known are cifar10, .*did you mean 'cifar10'"):
        get_dataset("cifar", "full")
    with pytest.raises(ValueError, match=r"'cifar10' has no variant 'sample': known are full; .*mnist, photos$"):
        get_dataset("cifar10", "sample")


@pytest.mark.parametrize("url", ["ftp://a/b", "/a/b", "https://a/../b", "https://a/", "https://a/b/../../c"])
def test_a_url_that_is_no_file_of_a_known_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url="):
        RemoteFile(url=url)


def test_a_file_has_a_place_of_its_own_in_the_cache() -> None:
    files = [
        RemoteFile(url=f"{start}/b/c.gz") for start in ("https://a.org", "http://127.0.0.1:80", "file://", "s3://a")
    ]
    assert [file.place for file in files] == ["a.org/b/c.gz", "127.0.0.1_80/b/c.gz", "file/b/c.gz", "a/b/c.gz"]
    assert {file.name for file in files} == {"c.gz"}


def test_two_files_of_one_name_are_refused() -> None:
    files = tuple(RemoteFile(url=f"https://a/{folder}/c") for folder in "ab")
    with pytest.raises(ValueError, match="files of hand"):
        dataclasses.replace(of("tokens", {}), files=files)


# --- Rules ---

IMAGES = of("images", {"classes": 2, "shape": (4, 1, 2, 2), "per_class": 2})
SPEECH = of("speech", {"features": 3})
TOKENS = of("tokens", {"length": 2, "vocabulary": 5})


def images(**changes: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": np.zeros((4, 1, 2, 2), np.uint8), "label": np.array([0, 1, 0, 1]), **changes}


def speech(**changes: np.ndarray) -> dict[str, np.ndarray]:
    each = {
        "frames": np.ones((5, 3), np.float32),
        "frame_offset": np.array([0, 3, 5]),
        "text": np.array([2, 3, 1], np.int32),
        "text_offset": np.array([0, 1, 3]),
    }
    return {f"train/{name}": array for name, array in (each | changes).items()} | {
        f"val/{name}": array for name, array in each.items()
    }


def tokens(**changes: np.ndarray) -> dict[str, np.ndarray]:
    chunk = np.arange(5, dtype=np.uint16)[None, :3]
    return {"train/chunk": chunk, "val/chunk": chunk, **{f"val/{name}": array for name, array in changes.items()}}


def test_arrays_as_declared_are_taken() -> None:
    IMAGES.validate(images())
    IMAGES.validate(images(validation=np.array([True, False, False, True])))
    SPEECH.validate(speech())
    TOKENS.validate(tokens())
    TOKENS.validate(tokens(chunk=np.zeros((1, 3), np.int32)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((4, 1, 2, 2), np.float32)}, "image: expected dtype uint8, found float32"),
        ({"image": np.zeros((3, 1, 2, 2), np.uint8)}, r"image: expected shape \(4, 1, 2, 2\), found \(3, 1, 2, 2\)"),
        ({"image": np.zeros((4, 2, 2, 1), np.uint8)}, "image: expected shape"),
        ({"label": np.array([0, 1, 0, 1], np.int32)}, "label: expected dtype int64"),
        ({"label": np.array([0, 1, 0])}, "label: expected shape"),
        ({"label": np.array([0, 1, 2, 1])}, "outside 0..1"),
        ({"label": np.array([0, 1, -1, 1])}, "outside 0..1"),
        ({"label": np.array([0, 0, 0, 0])}, r"classes without an image \[\], found \[1\]"),
        ({"label": np.array([0, 0, 0, 1])}, r"images of each class \[2, 2\], found \[3, 1\]"),
        ({"validation": np.array([True])}, "validation: expected shape"),
        ({"other": np.array([0])}, "expected arrays"),
    ],
)
def test_images_that_break_a_rule_are_refused(changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=f"hand/full.*{message}"):
        IMAGES.validate(images(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": np.ones((5, 3))}, "train/frames: expected dtype float32"),
        ({"frames": np.ones((5, 4), np.float32)}, "train/frames: expected features"),
        ({"frames": np.full((5, 3), np.nan, np.float32)}, "NaN or infinite values 0, found 15"),
        ({"frames": np.ones((4, 3), np.float32)}, r"frame_offset: expected first and last \(0, 4\), found \(0, 5\)"),
        ({"frame_offset": np.array([1, 3, 5])}, r"first and last \(0, 5\), found \(1, 5\)"),
        ({"frame_offset": np.array([0, 5, 5])}, "frame_offset: expected empty parts 0, found 1"),
        ({"frame_offset": np.array([0, 5])}, "as many texts as recordings 2, found 3"),
        ({"text_offset": np.array([0, 1, 2])}, "text_offset: expected first and last"),
        ({"text": np.array([2, 0, 1], np.int32)}, "blanks or negative symbols 0, found 1"),
    ],
)
def test_speech_that_breaks_a_rule_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=f"hand/full, train.*{message}|hand/full, {message}"):
        SPEECH.validate(speech(**changes))


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.zeros((1, 3), np.int64), "expected dtype uint16 or int32"),
        (np.zeros((1, 4), np.uint16), r"axes and length \(2, 3\), found \(2, 4\)"),
        (np.zeros(3, np.uint16), "axes and length"),
        (np.zeros((0, 3), np.uint16), "no block at all"),
        (np.array([[0, 1, 5]], np.uint16), "ids outside the vocabulary 0, found 1"),
        (np.array([[0, 1, -1]], np.int32), "ids outside the vocabulary 0, found 1"),
    ],
)
def test_tokens_that_break_a_rule_are_refused(chunk: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"hand/full, val/chunk.*{message}"):
        TOKENS.validate(tokens(chunk=chunk))


# --- Decoders of the full sets, on small files of the same form ---


def archive(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_cifar10_is_read_from_its_archive(tmp_path: Path) -> None:
    records = {f"cifar-10-batches-bin/data_batch_{n}.bin": bytes([n]) + bytes(3072) for n in range(1, 6)}
    path = archive(tmp_path / cifar10.ARCHIVE.name, records)
    arrays, _ = cifar10.decode({path.name: path})
    assert arrays["label"].tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"cifar10/full, image: expected shape \(50000, 3, 32, 32\)"):
        get_dataset("cifar10", "full").validate(arrays)


def test_librispeech_is_read_from_its_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("soundfile", reason="needs soundfile: pip install 'specdyn[speech]'")
    shipped = sorted((FOLDER / "speech/LibriSpeech/sample/austen/01").iterdir())
    texts = {path.name: path.read_bytes() for path in shipped}
    for folder in librispeech.FOLDERS.values():
        files = {f"LibriSpeech/{folder}/austen/01/{name}": content for name, content in texts.items()}
        archive(tmp_path / f"{folder}.tar.gz", files)
    paths = {path.name: path for path in tmp_path.iterdir()}
    monkeypatch.setattr(librispeech, "UTTERANCES", {"train": 5, "val": 5})
    arrays, report = librispeech.decode(paths)
    get_dataset("librispeech", "full").validate(arrays)
    assert len(arrays["train/frame_offset"]) == 5 + 1
    np.testing.assert_array_equal(arrays["train/frames"], arrays["val/frames"])
    assert_near(arrays["train/frames"], *of_recordings(path for path in shipped if path.suffix == ".flac"))
    assert report["train"]["left_out"] == {} and report["vocabulary"][:3] == ["<blank>", "<unk>", " "]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(paths)
    monkeypatch.setattr(librispeech, "UTTERANCES", {"train": 6, "val": 5})
    with pytest.raises(ValueError, match="train-clean-100: expected 6 utterances, found 5"):
        librispeech.decode(paths)


def test_wikitext_is_tokenised_and_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers", reason="needs tokenizers: pip install 'specdyn[text]'")
    tokenizer = (FOLDER / "devils_dictionary.bpe512.json").read_bytes()
    (tmp_path / wikitext103.TOKENIZER.name).write_bytes(tokenizer)
    lines = {"train-0": ["aaaa\n"], "train-1": ["BB-BB\n"], "val-0": ["aaaa\n"]}
    monkeypatch.setattr(wikitext103, "FILES", {"train": ("train-0", "train-1"), "val": ("val-0",)})
    monkeypatch.setattr(wikitext103, "read_lines", lambda path: lines[path.name])
    paths = {name: tmp_path / name for name in (*lines, wikitext103.TOKENIZER.name)}
    arrays, report = wikitext103.decode_texts(paths, {"train": 2, "val": 1}, length=1)
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    names = {number: text for text, number in vocabulary.items()}
    flat = arrays["train/chunk"].reshape(-1).tolist()
    assert "aaaa\u010abbbb\u010a".startswith("".join(names[number] for number in flat))
    assert report["train"]["tokens"] == len(flat) + report["train"]["left_out"]
    assert report["vocabulary"] == max(vocabulary.values()) + 1
    with pytest.raises(ValueError, match="wikitext103, train: expected 3 rows, found 2"):
        wikitext103.decode_texts(paths, {"train": 3, "val": 1}, length=1)
