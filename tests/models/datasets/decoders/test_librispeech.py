"""Speech in LibriSpeech's folders becomes features and ids, and what is unusable is reported (METHOD 1.4, DATA 5.5)."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.packaged_samples import prepare_speech, save_speech
from reference.mel import assert_near, of_recordings
from specdyn.models.datasets.decoders.librispeech import (
    Speech,
    Unusable,
    Utterance,
    encode,
    frames_needed,
    list_utterances,
    load_sample,
    load_speech,
    prepare,
    read_sound,
    vocabulary,
)
from specdyn.models.datasets.decoders.mel import mel_features
from specdyn.models.datasets.samples import FOLDER

HAS_SOUNDFILE = importlib.util.find_spec("soundfile") is not None
needs_soundfile = pytest.mark.skipif(not HAS_SOUNDFILE, reason="needs soundfile: pip install 'specdyn[speech]'")
NAMES = vocabulary(["ABC"])


def noise(samples: int, *, channels: int = 1, seed: int = 0) -> np.ndarray:
    sound = np.random.default_rng(seed).integers(-9_000, 9_000, (samples, channels)).astype(np.int16)
    return sound if channels > 1 else sound[:, 0]


def record(path: Path, sound: np.ndarray, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    importlib.import_module("soundfile").write(path, sound, rate, subtype="PCM_16")
    return path


def transcribe(chapter: Path, *lines: bytes) -> None:
    chapter.mkdir(parents=True, exist_ok=True)
    (chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt").write_bytes(b"\n".join(lines) + b"\n")


def pieces(speech: Speech, i: int) -> tuple[np.ndarray, list[int]]:
    frames = speech.frames[speech.frame_offset[i] : speech.frame_offset[i + 1]]
    return frames, speech.text[speech.text_offset[i] : speech.text_offset[i + 1]].tolist()


def test_utterances_are_found_in_all_chapters_and_sorted(tmp_path: Path) -> None:
    for name in ("dev/2/1/2-1-0000", "dev/1/7/1-7-0001", "dev/1/7/1-7-0000", "other/1/1/1-1-0000"):
        path = tmp_path / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    transcribe(tmp_path / "dev/1/7", b"1-7-0000 A B", b"1-7-0001 ", b"1-7-0002 LOST")
    found = {utterance.id: utterance for utterance in list_utterances(tmp_path, "dev")}
    assert list(found) == ["1-7-0000", "1-7-0001", "1-7-0002", "2-1-0000"]
    assert [utterance.text for utterance in found.values()] == ["A B", "", "LOST", None]
    assert found["1-7-0000"].sound == tmp_path / "dev/1/7/1-7-0000.flac"
    assert found["1-7-0002"].sound is None


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dev: expected <speaker>/<chapter>/<utterance>.flac, found no such file$"):
        list_utterances(tmp_path, "dev")


def test_a_transcript_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    transcribe(tmp_path / "dev/1/7", b"1-7-0000 GOOD", b"1-7-0001 CAF\xc9")
    with pytest.raises(ValueError, match=r"1-7.trans.txt, line 2: expected UTF-8, found byte 0xc9$"):
        list_utterances(tmp_path, "dev")


def test_the_vocabulary_is_sorted_after_blank_and_unknown() -> None:
    names = vocabulary(["CAB'S", "A B"])
    assert names == ("<blank>", "<unk>", " ", "'", "A", "B", "C", "S")
    assert encode("S CZ", names).tolist() == [7, 2, 6, 1]
    assert encode("S", names).dtype == np.int32


def test_the_alphabet_of_librispeech_has_thirty_outputs() -> None:
    names = vocabulary(["ABCDEFGHIJKLMNOPQRSTUVWXYZ '"])
    assert len(names) == 30
    assert encode("Z", names).tolist() == [29]


@pytest.mark.parametrize(("text", "frames"), [("ABC", 3), ("AAB", 4), ("AAA", 5), ("ABA", 3), ("A", 1), ("AABB", 6)])
def test_ctc_needs_a_blank_between_equal_characters(text: str, frames: int) -> None:
    assert frames_needed(encode(text, NAMES)) == frames


def test_the_extra_is_named_where_soundfile_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ImportError, match=r"^reading FLAC needs 'soundfile': .*pip install 'specdyn\[speech\]'"):
        read_sound(tmp_path / "some.flac")


@needs_soundfile
def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = noise(1_000, channels=2)
    sound = read_sound(record(tmp_path / "a.flac", stereo))
    assert sound.dtype == np.float32
    np.testing.assert_allclose(sound, stereo.astype(float).mean(1) / 2**15, atol=1e-7)


@needs_soundfile
def test_another_sample_rate_is_refused(tmp_path: Path) -> None:
    path = record(tmp_path / "a.flac", noise(1_000), rate=22_050)
    with pytest.raises(ValueError, match=r"a.flac: expected 16000 Hz, found 22050 Hz; resample"):
        prepare([Utterance(id="a", sound=path, text="A")], NAMES)


@needs_soundfile
@pytest.mark.parametrize("kept", [0, 100, 40_000, -1])
def test_a_truncated_file_is_corrupt(tmp_path: Path, kept: int) -> None:
    path = record(tmp_path / "a.flac", noise(40_000))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(Unusable, match=r"a.flac: ") as caught:
        read_sound(path)
    assert caught.value.reason == "corrupt"


@needs_soundfile
def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = record(tmp_path / "a.flac", noise(40_000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Unusable, match=r"a.flac: .*flac decoder"):
        read_sound(path)


@needs_soundfile
def test_fewer_samples_than_the_header_promises_are_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(tmp_path / "a.flac", noise(1_000))
    monkeypatch.setattr("soundfile.SoundFile.read", lambda *_, **__: np.zeros((900, 1), np.float32))
    with pytest.raises(Unusable, match=r"a.flac: the header promises 1000 samples, 900 were read$") as caught:
        read_sound(path)
    assert caught.value.reason == "corrupt"


@needs_soundfile
def test_what_is_unusable_is_left_out_and_reported(tmp_path: Path) -> None:
    good, more = record(tmp_path / "good.flac", noise(4_000)), record(tmp_path / "more.flac", noise(3_200, seed=1))
    # 4,000 samples are 26 frames and 8 groups; 3,200 are 21 and 7
    short, silent = (
        record(tmp_path / "short.flac", noise(319)),
        record(tmp_path / "silent.flac", np.zeros(4_000, np.int16)),
    )
    cut = tmp_path / "cut.flac"
    cut.write_bytes(good.read_bytes()[:3_000])
    utterances = [
        Utterance(id="good", sound=good, text="ABCABCAB"),
        Utterance(id="long", sound=good, text="ABCABCABC"),
        Utterance(id="doubled", sound=more, text="AABCABC"),
        Utterance(id="empty", sound=good, text=""),
        Utterance(id="untold", sound=good, text=None),
        Utterance(id="lost", sound=None, text="A"),
        Utterance(id="short", sound=short, text="A"),
        Utterance(id="cut", sound=cut, text="A"),
        Utterance(id="more", sound=more, text="AABCAX"),
        Utterance(id="silent", sound=silent, text="B"),
    ]
    speech, report = prepare(utterances, NAMES, corrupt_allowed=0.1)
    assert speech.id.tolist() == ["good", "more", "silent"]
    assert report.dropped == {
        "fewer frames than CTC needs": ["long", "doubled"],
        "empty transcript": ["empty"],
        "no transcript": ["untold"],
        "no recording": ["lost"],
        "too short": ["short"],
        "corrupt": ["cut"],
    }
    assert report.constant_bands == 40
    assert (speech.frame_offset.tolist(), speech.text_offset.tolist()) == ([0, 8, 15, 23], [0, 8, 14, 15])
    assert [speech.frames.dtype, speech.frame_offset.dtype, speech.text.dtype] == [np.float32, np.int64, np.int32]
    for i, (samples, seed, ids) in enumerate([(4_000, 0, [2, 3, 4] * 2 + [2, 3]), (3_200, 1, [2, 2, 3, 4, 2, 1])]):
        frames, text = pieces(speech, i)
        assert text == ids
        np.testing.assert_array_equal(frames, mel_features(noise(samples, seed=seed) / np.float32(2**15))[0])


@needs_soundfile
def test_too_many_corrupt_files_are_refused_by_name(tmp_path: Path) -> None:
    good, cut = record(tmp_path / "good.flac", noise(4_000)), tmp_path / "cut.flac"
    cut.write_bytes(good.read_bytes()[:3_000])
    utterances = [Utterance(id="1", sound=good, text="A"), Utterance(id="2", sound=cut, text="A")]
    with pytest.raises(ValueError, match=r"^1 of 2 recordings are corrupt, 0.1% are allowed; fetch them again: 2$"):
        prepare(utterances, NAMES)
    assert prepare(utterances, NAMES, corrupt_allowed=0.5)[1].dropped == {"corrupt": ["2"]}


def test_nothing_usable_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^expected utterances to prepare, found none usable of 1$"):
        prepare([Utterance(id="lost", sound=None, text="A")], NAMES)


def test_saved_speech_is_loaded_as_it_was(tmp_path: Path) -> None:
    speech = Speech(
        frames=np.arange(120, dtype=np.float32).reshape(3, 40),
        frame_offset=np.array([0, 1, 3]),
        text=np.array([2, 3, 4], np.int32),
        text_offset=np.array([0, 2, 3]),
        id=np.array(["a", "bc"]),
    )
    save_speech(tmp_path / "speech.npz", speech, NAMES)
    loaded, names = load_speech(tmp_path / "speech.npz")
    assert names == NAMES
    for name in Speech.__slots__:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(speech, name), strict=True)


def test_the_shipped_arrays_are_four_readings_and_one() -> None:
    train, validation, names = load_sample()
    assert train.id.tolist() == [f"austen-01-0{number}" for number in (870, 880, 890, 920)]
    assert validation.id.tolist() == ["austen-01-0930"]
    text = "".join(names[number] for number in pieces(validation, 0)[1])
    assert text == "HE MIGHT EVEN HAVE BEEN MADE AMIABLE HIMSELF"
    assert names[:3] == ("<blank>", "<unk>", " ") and len(names) == 25
    for speech in (train, validation):
        assert np.isfinite(speech.frames).all() and speech.frames.shape[1] == 40
        assert speech.text.max() < len(names)


@needs_soundfile
def test_the_shipped_arrays_match_the_shipped_recordings() -> None:
    *prepared, names = prepare_speech(FOLDER / "speech/LibriSpeech")
    *shipped, shipped_names = load_sample()
    assert names == shipped_names
    for ours, theirs in zip(prepared, shipped, strict=True):
        for name in ("frame_offset", "text", "text_offset", "id"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), strict=True)
        # Another processor's Fourier transform rounds otherwise: each is as near to the exact features as float32 is.
        exact, missed = of_recordings(FOLDER / f"speech/LibriSpeech/sample/austen/01/{name}.flac" for name in ours.id)
        for speech in (ours, theirs):
            assert_near(speech.frames, exact, missed)
