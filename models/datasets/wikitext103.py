"""Wikitext-103 as tokens of the GPT-NeoX tokenizer, in blocks of 2048 + 1 (METHOD 1.5, DATA 3)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from specdyn.models.datasets.base import Dataset, Decoded, RemoteFile
from specdyn.models.datasets.decoders.text import chunks, load_tokenizer, read_lines, tokenise

REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
SOURCE = f"https://huggingface.co/datasets/Salesforce/wikitext/resolve/{REVISION}/wikitext-103-v1"
FILES = {
    "train": ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"),
    "val": ("validation-00000-of-00001.parquet",),
}
BYTES = dict(zip((*FILES["train"], *FILES["val"]), (155_788_327, 155_928_670, 655_106), strict=True))
ROWS = {"train": 1_801_350, "val": 3_760}
TOKENIZER = RemoteFile(
    url="https://huggingface.co/EleutherAI/gpt-neox-20b/resolve/c292233c833e336628618a88a648727eb3dff0a7/tokenizer.json",
    roughly=2_110_000,
)
LENGTH, VOCABULARY = 2048, 50_277


def decode(paths: Mapping[str, Path]) -> Decoded:
    """Blocks of the cleaned and tokenised text in order; the remainder of every 1000 lines is dropped."""
    return decode_texts(paths, ROWS, LENGTH)


def decode_texts(paths: Mapping[str, Path], rows: Mapping[str, int], length: int) -> Decoded:
    """Blocks of both splits; ValueError if a split has another number of rows."""
    tokenizer = load_tokenizer(paths[TOKENIZER.name])
    arrays: dict[str, np.ndarray] = {}
    report: dict[str, object] = {}
    for split, names in FILES.items():
        lines = [line for name in names for line in read_lines(paths[name])]
        if len(lines) != rows[split]:
            raise ValueError(
                f"wikitext103, {split}: expected {rows[split]} rows, found {len(lines)}; fetch the files again"
            )
        tokens = tokenise(lines, tokenizer)
        arrays[f"{split}/chunk"] = chunks(tokens, length)
        report[split] = {"tokens": len(tokens.ids), "left_out": len(tokens.ids) - arrays[f"{split}/chunk"].size}
        report["vocabulary"] = tokens.vocabulary
    return arrays, report


DATASETS = {
    "full": Dataset(
        name="wikitext103",
        variant="full",
        kind="tokens",
        title="Wikitext-103, tokens of GPT-NeoX",
        files=(*(RemoteFile(url=f"{SOURCE}/{name}", bytes=size) for name, size in BYTES.items()), TOKENIZER),
        decode=decode,
        params={"length": LENGTH, "vocabulary": VOCABULARY, "rows": ROWS},
        licence="CC BY-SA 3.0 and GFDL (text); Apache-2.0 (tokenizer)",
        attribution="S. Merity, C. Xiong, J. Bradbury and R. Socher, Wikitext, 2016; EleutherAI",
        about="Needs the extras hub and text. The data set devils_dictionary comes with the package.",
    )
}
