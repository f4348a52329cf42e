"""Reads speech and transcripts in LibriSpeech's folder layout as features and character ids (METHOD 1.4, DATA 5)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from specdyn.models.datasets.decoders.extras import require_extra
from specdyn.models.datasets.decoders.sound import SAMPLE_RATE, SHORTEST
from specdyn.models.datasets.samples import FOLDER

BLANK, UNKNOWN = 0, 1
SPECIAL = ("<blank>", "<unk>")
CORRUPT_ALLOWED = 0.001
"""Fraction of the utterances."""

Frames = npt.NDArray[np.float32]
Text = npt.NDArray[np.int32]


class Unusable(ValueError):
    """An utterance to leave out: one of a few reasons, by which they are counted, and details."""

    def __init__(self, reason: str, details: str) -> None:
        super().__init__(details)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One recording; `text` is None if the transcript is missing, `sound` if the recording is."""

    id: str
    sound: Path | None
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """n utterances end to end; utterance i is `frames[frame_offset[i]:frame_offset[i + 1]]`, its text likewise."""

    frames: Frames
    """(all frames, 40), 33.3 a second, standardised per utterance and band"""
    frame_offset: npt.NDArray[np.int64]
    """(n + 1,)"""
    text: Text
    """(all characters,), ids of the vocabulary"""
    text_offset: npt.NDArray[np.int64]
    """(n + 1,)"""
    id: npt.NDArray[np.str_]
    """(n,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Ids left out, by reason, and the number of constant bands."""

    dropped: dict[str, list[str]] = field(default_factory=dict)
    constant_bands: int = 0


def _transcripts(path: Path) -> dict[str, str]:
    """Utterance -> text of one `.trans.txt`; ValueError, naming file and line, if it is not UTF-8."""
    texts = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            name, _, text = line.decode().partition(" ")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: expected UTF-8, found byte {error.object[error.start]:#04x}"
            ) from None
        if name:
            texts[name] = text.strip()
    return texts


def list_utterances(root: Path, split: str) -> list[Utterance]:
    """All utterances of `<root>/<split>/<speaker>/<chapter>/`, by id, with or without transcript or recording.

    ValueError if there is none, or if a transcript is not UTF-8.
    """
    sounds = {path.stem: path for path in (root / split).glob("*/*/*.flac")}
    texts: dict[str, str] = {}
    for path in (root / split).glob("*/*/*.trans.txt"):
        texts |= _transcripts(path)
    if not sounds:
        raise ValueError(f"{root / split}: expected <speaker>/<chapter>/<utterance>.flac, found no such file")
    return [Utterance(id=name, sound=sounds.get(name), text=texts.get(name)) for name in sorted(sounds | texts)]


def read_sound(path: Path) -> npt.NDArray[np.float32]:
    """The mean of the channels, float32 (samples,) in -1..1.

    Unusable if it does not decode, or not to as many samples as its header says; ValueError at any rate but 16 kHz,
    since nothing is resampled; ImportError, naming the extra, if soundfile is missing.
    """
    soundfile = require_extra("soundfile", "speech", "reading FLAC")
    try:
        with soundfile.SoundFile(path) as file:
            rate, promised = file.samplerate, file.frames
            sound = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise Unusable("corrupt", f"{path}: {error}") from error
    if len(sound) != promised:
        raise Unusable("corrupt", f"{path}: the header promises {promised} samples, {len(sound)} were read")
    if rate != SAMPLE_RATE:
        raise ValueError(f"{path}: expected {SAMPLE_RATE} Hz, found {rate} Hz; resample the files first")
    mono: npt.NDArray[np.float32] = sound.mean(axis=1)
    return mono


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """The output symbols: blank, unknown, then the sorted characters of the training transcripts.

    The network has one output per symbol. The paper's has 29 for 30 ids (METHOD 1.4, FIX).
    """
    return SPECIAL + tuple(sorted(set().union(*texts)))


def encode(text: str, names: Sequence[str]) -> Text:
    """Ids of the characters, int32 (characters,); 1 for one that the vocabulary lacks."""
    ids = {name: number for number, name in enumerate(names)}
    return np.array([ids.get(character, UNKNOWN) for character in text], np.int32)


def frames_needed(text: Text) -> int:
    """The fewest frames in which CTC can spell the text: one per character, and a blank between equal neighbours."""
    return len(text) + int((text[1:] == text[:-1]).sum())


def _features(utterance: Utterance, names: Sequence[str]) -> tuple[Frames, Text, int]:
    """Feature frames, character ids and the number of constant bands; Unusable if it is to be left out."""
    from specdyn.models.datasets.decoders.mel import mel_features

    if utterance.sound is None:
        raise Unusable("no recording", utterance.id)
    if not utterance.text:
        raise Unusable("no transcript" if utterance.text is None else "empty transcript", utterance.id)
    sound = read_sound(utterance.sound)
    if len(sound) < SHORTEST:
        raise Unusable("too short", f"{utterance.id}: {len(sound)} samples")
    text = encode(utterance.text, names)
    frames, constant_bands = mel_features(sound)
    if len(frames) < frames_needed(text):
        raise Unusable("fewer frames than CTC needs", f"{utterance.id}: {len(frames)} of {frames_needed(text)}")
    return frames, text, constant_bands


def prepare(
    utterances: Sequence[Utterance], names: Sequence[str], *, corrupt_allowed: float = CORRUPT_ALLOWED
) -> tuple[Speech, Skipped]:
    """Features and character ids of the utterances, in order, and a report of those left out.

    Leaves out utterances without a recording, a transcript or any character in it, those too short
    for a feature frame or for CTC to spell their text, and corrupt recordings. ValueError, listing the ids, if more
    than the allowed fraction are corrupt, or if nothing is left.
    """
    dropped: defaultdict[str, list[str]] = defaultdict(list)
    kept: dict[str, tuple[Frames, Text, int]] = {}
    for utterance in utterances:
        try:
            kept[utterance.id] = _features(utterance, names)
        except Unusable as error:
            dropped[error.reason].append(utterance.id)
    _require_enough(kept, dropped.get("corrupt", []), len(utterances), corrupt_allowed)
    frames, texts, constant_bands = zip(*kept.values(), strict=True)
    speech = Speech(
        frames=np.concatenate(frames),
        frame_offset=_offsets(frames),
        text=np.concatenate(texts),
        text_offset=_offsets(texts),
        id=np.array(list(kept)),
    )
    return speech, Skipped(dropped=dict(dropped), constant_bands=sum(constant_bands))


def _require_enough(kept: Collection[str], corrupt: Sequence[str], n: int, allowed: float) -> None:
    """ValueError if too many recordings are corrupt or none is left."""
    if len(corrupt) > allowed * n:
        raise ValueError(
            f"{len(corrupt)} of {n} recordings are corrupt, {allowed:.1%} are allowed; "
            f"fetch them again: {', '.join(corrupt)}"
        )
    if not kept:
        raise ValueError(f"expected utterances to prepare, found none usable of {n}")


def _offsets(parts: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.int64]:
    """Where each part begins, and the end of the last."""
    return np.cumsum([0, *map(len, parts)], dtype=np.int64)


def load_speech(path: Path) -> tuple[Speech, tuple[str, ...]]:
    """The arrays and the vocabulary that one `.npz` holds."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    names = tuple(arrays.pop("vocabulary").tolist())
    return Speech(**arrays), names


def load_sample(folder: Path = FOLDER / "speech") -> tuple[Speech, Speech, tuple[str, ...]]:
    """Training and validation speech of the five shipped readings, prepared, and the vocabulary of the former.

    The first four are trained on and the fifth validates, all of one reader and one book: enough to show that the code
    runs, and no measure of recognition.
    """
    train, names = load_speech(folder / "train.npz")
    validation, _ = load_speech(folder / "validation.npz")
    return train, validation, names
