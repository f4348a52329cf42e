"""How the prepared files of the packaged samples were made from the texts and recordings beside them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from specdyn.models.datasets.decoders.extras import require_extra
from specdyn.models.datasets.decoders.librispeech import Speech, list_utterances, prepare, vocabulary
from specdyn.models.datasets.decoders.text import GROUP, Tokens, clean, read_lines
from specdyn.models.datasets.samples import FOLDER

HEADER_LINES = 34
"""Of the shipped text; the preface follows. The last line of the file is no text either."""
SPEECH_TRAIN = 4
"""Of the five shipped readings."""


def prepare_speech(root: Path) -> tuple[Speech, Speech, tuple[str, ...]]:
    """Training and validation speech of the five shipped readings, by id, and the vocabulary of the former."""
    utterances = list_utterances(root, "sample")
    train, validation = utterances[:SPEECH_TRAIN], utterances[SPEECH_TRAIN:]
    names = vocabulary(utterance.text for utterance in train if utterance.text)
    return prepare(train, names)[0], prepare(validation, names)[0], names


def save_speech(path: Path, speech: Speech, names: Sequence[str]) -> None:
    """Write the arrays and the vocabulary to one `.npz`."""
    np.savez_compressed(path, **asdict(speech), vocabulary=np.array(names))


def sample_lines(folder: Path = FOLDER) -> tuple[list[str], list[str]]:
    """Training and validation lines of the Devil's Dictionary, without header: whole groups, and the lines after them.

    Validation is the end of the alphabet.
    """
    lines = read_lines(folder / "devils_dictionary.txt.gz")[HEADER_LINES:-1]
    cut = len(lines) // GROUP * GROUP
    return lines[:cut], lines[cut:]


def train_tokenizer(lines: Sequence[str], vocabulary: int) -> Any:
    """Byte-level BPE of at most the given number of ids, trained on cleaned lines; the same lines give the same one."""
    library = require_extra("tokenizers", "text", "tokenising")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(map(clean, lines), trainer)
    return tokenizer


def save_tokens(path: Path, **parts: Tokens) -> None:
    """Write tokens by name to one `.npz`."""
    arrays: dict[str, Any] = {
        f"{name}_{key}": value for name, part in parts.items() for key, value in asdict(part).items()
    }
    np.savez_compressed(path, **arrays)
