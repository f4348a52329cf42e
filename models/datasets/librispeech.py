"""LibriSpeech train-clean-100 and dev-clean; the sample is five other readings (METHOD 1.4, DATA 3)."""

import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from specdyn.models.datasets.base import Dataset, Decoded, PackagedFile, RemoteFile
from specdyn.models.datasets.decoders.librispeech import (
    Skipped,
    Speech,
    list_utterances,
    load_sample,
    prepare,
    vocabulary,
)
from specdyn.models.datasets.decoders.sound import BANDS

SOURCE = "http://www.openslr.org/resources/12"
FOLDERS = {"train": "train-clean-100", "val": "dev-clean"}
UTTERANCES = {"train": 28_539, "val": 2_703}


def decode_sample(paths: Mapping[str, Path]) -> Decoded:
    """The prepared features of the shipped readings: four for training, one for validation."""
    train, val, names = load_sample(paths["train.npz"].parent)
    return _arrays(train, "train") | _arrays(val, "val"), {"vocabulary": list(names)}


def decode(paths: Mapping[str, Path]) -> Decoded:
    """Features and characters from the two archives, which are unpacked temporarily next to themselves."""
    with tempfile.TemporaryDirectory(dir=paths["train-clean-100.tar.gz"].parent, prefix=".unpacked-") as folder:
        for path in paths.values():
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        return decode_folder(Path(folder) / "LibriSpeech", UTTERANCES)


def decode_folder(root: Path, expected: Mapping[str, int]) -> Decoded:
    """Features and characters of both splits; ValueError if a split has another number of utterances."""
    utterances = {split: list_utterances(root, folder) for split, folder in FOLDERS.items()}
    for split, count in expected.items():
        if len(utterances[split]) != count:
            raise ValueError(
                f"{root / FOLDERS[split]}: expected {count} utterances, found {len(utterances[split])}; fetch it again"
            )
    names = vocabulary(utterance.text for utterance in utterances["train"] if utterance.text)
    train, val = (prepare(utterances[split], names) for split in FOLDERS)
    report = {"vocabulary": list(names), "train": _plain(train[1]), "val": _plain(val[1])}
    return _arrays(train[0], "train") | _arrays(val[0], "val"), report


def _plain(report: Skipped) -> dict[str, object]:
    """The ids left out by reason, with the count of each."""
    return {"left_out": {reason: len(ids) for reason, ids in report.dropped.items()}, **asdict(report)}


def _arrays(speech: Speech, split: str) -> dict[str, np.ndarray]:
    names = ("frames", "frame_offset", "text", "text_offset")
    return {f"{split}/{name}": getattr(speech, name) for name in names}


DATASETS = {
    "sample": Dataset(
        name="librispeech",
        variant="sample",
        kind="speech",
        title="five LibriVox readings of one book, not LibriSpeech",
        files=(
            PackagedFile(
                path="speech/train.npz", sha256="ca7df0ca7c1757ec9c7119f6bb37be47ffc71ddd54ef97917355220e5eb97da6"
            ),
            PackagedFile(
                path="speech/validation.npz", sha256="ab2764c25e4165a049cef1cad15e6da72f7a445f040bec051d1e322de4c066c2"
            ),
        ),
        decode=decode_sample,
        params={"features": BANDS},
        licence="public domain (recordings); BSD-2-Clause (Debian package pocketsphinx-testdata)",
        attribution="LibriVox; CMU Sphinx",
    ),
    "full": Dataset(
        name="librispeech",
        variant="full",
        kind="speech",
        title="LibriSpeech, train-clean-100 and dev-clean",
        files=(
            RemoteFile(
                url=f"{SOURCE}/train-clean-100.tar.gz",
                bytes=6_387_309_499,
                md5="2a93770f6d5c6c964bc36631d331a522",
                sha256="d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
            ),
            RemoteFile(
                url=f"{SOURCE}/dev-clean.tar.gz",
                bytes=337_926_286,
                md5="42e2234ba48799c1f50f24a7926300a1",
                sha256="76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
            ),
        ),
        decode=decode,
        params={"features": BANDS, "utterances": UTTERANCES},
        licence="CC BY 4.0",
        attribution="V. Panayotov, G. Chen, D. Povey and S. Khudanpur, LibriSpeech, 2015",
        about="Needs the extra speech, and about 7 GB of extra space while the archives are unpacked.",
    ),
}
