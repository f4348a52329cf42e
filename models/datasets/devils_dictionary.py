"""The Devil's Dictionary as tokens: the small text for language modelling (METHOD 1.5, DATA 2.1)."""

from collections.abc import Mapping
from pathlib import Path

from specdyn.models.datasets.base import Dataset, Decoded, PackagedFile
from specdyn.models.datasets.decoders.text import chunks, load_sample

LENGTH, VOCABULARY = 64, 512
TOKENS = PackagedFile(
    path="devils_dictionary.bpe512.npz", sha256="0dc760019f38d29cc2ca41977a7f5869986c6f734417e0114afe85c99f92d5c8"
)


def decode(paths: Mapping[str, Path]) -> Decoded:
    """Blocks of the text in order; needs no tokenizer."""
    train, val = load_sample(paths[TOKENS.name].parent)
    return {"train/chunk": chunks(train, LENGTH), "val/chunk": chunks(val, LENGTH)}, {"vocabulary": train.vocabulary}


DATASETS = {
    "sample": Dataset(
        name="devils_dictionary",
        variant="sample",
        kind="tokens",
        title="The Devil's Dictionary, byte-level BPE of 512 ids, not Wikitext-103",
        files=(TOKENS,),
        decode=decode,
        params={"length": LENGTH, "vocabulary": VOCABULARY},
        licence="public domain",
        attribution="Ambrose Bierce, 1911 (Debian package dict-devil)",
    )
}
