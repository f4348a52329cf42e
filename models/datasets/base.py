"""Dataset: the declaration in a module of models/datasets or a plug-in, and rules for its arrays (DATA 5).

Arrays by kind: images have `image` (N, C, H, W) uint8, `label` (N,) int64 and, if the split is fixed, `validation`
(N,) bool; speech has `frames`, `frame_offset`, `text` and `text_offset`, and tokens `chunk` (N, length + 1), each after
`train/` or `val/`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from specdyn.models.datasets.decoders.labels import require_labels
from specdyn.models.plugins import kinds
from specdyn.models.spec.checks import require, require_known

PREP_VERSION = 1
"""Increase when a decoder returns different arrays than before."""
VARIANTS = ("sample", "full")
SPLITS = ("train", "val")

Decoded = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Arrays by name, and a report as JSON: what was left out, names of classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file that is downloaded once into the cache; without a published hash the first one seen is binding."""

    url: str
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None
    of: str = "file"
    """What the hashes cover: the `file`, or its `decompressed` content, if mirrors compress it again."""
    roughly: int | None = None
    """Approximate bytes if no exact number is published; shown to users only."""
    system: str | None = None
    """Path at which a system package installs the same content; used if it exists."""

    def __post_init__(self) -> None:
        require(self.of in {"file", "decompressed"}, "of", self.of, "'file' or 'decompressed'")
        parts = urlsplit(self.url)
        require(parts.scheme in {"http", "https", "file", "s3"}, "url", self.url, "http(s)://, file:// or s3://")
        require(".." not in parts.path.split("/") and bool(self.name), "url", self.url, "a path to a file")

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def place(self) -> str:
        """Relative path in the cache: the host, then the URL's path."""
        parts = urlsplit(self.url)
        return f"{(parts.netloc or 'file').replace(':', '_')}/{parts.path.lstrip('/')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedFile:
    """A file that comes with the package, by its path below models/datasets/samples."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name


File = RemoteFile | PackagedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The declaration of a data set: its sources, its decoder, and the requirements on its arrays."""

    name: str
    variant: str
    """`full` is the published set. A `sample` comes with the package and may hold other data, as its title says."""
    kind: str
    """`images`, `speech` or `tokens`."""
    title: str
    files: tuple[File, ...]
    decode: Callable[[Mapping[str, Path]], Decoded]
    """Turns the paths of the files, by name, into arrays and a report."""
    licence: str
    attribution: str
    params: Mapping[str, Any] = field(default_factory=dict)
    """JSON values on which the arrays depend or with which they must agree.

    Images: `classes`, `shape` (N, C, H, W) and, if all classes are equally frequent, `per_class`; speech:
    `features`; tokens: `length` and `vocabulary`.
    """
    about: str = ""
    source: str = ""
    """Digest of the source of a plug-in; empty for data sets of the package."""

    def __post_init__(self) -> None:
        require_known("variant", self.variant, VARIANTS)
        require_known("kind of data set", self.kind, RULES)
        names = [file.name for file in self.files]
        require(len(set(names)) == len(names) > 0, f"files of {self.name}", names, "one or more, names of their own")

    @property
    def label(self) -> str:
        """Name and variant."""
        return f"{self.name}/{self.variant}"

    @property
    def key(self) -> str:
        """First 16 hex digits of the sha256 of everything that determines the arrays, without descriptive texts."""
        files = [asdict(file) for file in self.files]
        for file in files:
            for told in ("system", "roughly"):
                file.pop(told, None)
        plain = {
            "name": self.name,
            "variant": self.variant,
            "kind": self.kind,
            "files": files,
            "params": dict(self.params),
            "prep_version": PREP_VERSION,
            **({"source": self.source} if self.source else {}),
        }
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]

    def validate(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raise ValueError, naming set and array, unless the arrays match the declaration (DATA 5.5)."""
        RULES[self.kind](self, arrays)


def _of_plugin(declared: object, name: str, source: str) -> Mapping[str, Dataset]:
    """The variants that a plug-in declares, each with the digest of its source."""
    variants = kinds.named(declared, name, dict)
    require(bool(variants), "DATASETS", variants, "one or more variants")
    for variant, dataset in variants.items():
        found = kinds.named(dataset, name, Dataset)
        require(found.variant == variant, "variant", found.variant, f"{variant!r}, by which it is in DATASETS")
    return {variant: replace(dataset, source=source) for variant, dataset in variants.items()}


DATASETS = kinds.Kind(group="datasets", noun="data set", package="specdyn.models.datasets", checked=_of_plugin)


def dataset_names() -> list[str]:
    """Names of all data sets, without importing them."""
    return kinds.names(DATASETS)


def get_dataset(name: str, variant: str) -> Dataset:
    """The data set of that name and variant; ValueError lists the known ones."""
    variants = variants_of(name)
    if variant not in variants:
        others = ", ".join(other for other, has in kinds.usable(DATASETS).items() if variant in has)
        having = f"; {variant!r} have: {others}" if others else ""
        raise ValueError(f"data set {name!r} has no variant {variant!r}: known are {', '.join(variants)}{having}")
    return variants[variant]


def variants_of(name: str) -> Mapping[str, Dataset]:
    """The variants of a data set by name; ValueError lists the known data sets."""
    return kinds.get(DATASETS, name)


def _expect(where: str, what: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise ValueError(
            f"{where}: expected {what} {expected}, found {actual}; the files are of another set or damaged"
        )


def _require_arrays(where: str, arrays: Mapping[str, np.ndarray], dtypes: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ValueError unless these arrays and no others exist, each with an allowed dtype."""
    _expect(where, "arrays", sorted(dtypes), sorted(arrays))
    for name, allowed in dtypes.items():
        if str(arrays[name].dtype) not in allowed:
            raise ValueError(f"{where}, {name}: expected dtype {' or '.join(allowed)}, found {arrays[name].dtype}")


def _images(dataset: Dataset, arrays: Mapping[str, np.ndarray]) -> None:
    fixed = {"validation": ("bool",)} if "validation" in arrays else {}
    _require_arrays(dataset.label, arrays, {"image": ("uint8",), "label": ("int64",), **fixed})
    shape, classes = tuple(dataset.params["shape"]), int(dataset.params["classes"])
    _expect(f"{dataset.label}, image", "shape", shape, arrays["image"].shape)
    for name in sorted(arrays.keys() - {"image"}):
        _expect(f"{dataset.label}, {name}", "shape", shape[:1], arrays[name].shape)
    require_labels(arrays["label"], classes, dataset.label)
    counts = np.bincount(arrays["label"], minlength=classes)
    _expect(dataset.label, "classes without an image", [], np.flatnonzero(counts == 0).tolist())
    if per_class := dataset.params.get("per_class"):
        _expect(dataset.label, "images of each class", [per_class] * classes, counts.tolist())


def _speech(dataset: Dataset, arrays: Mapping[str, np.ndarray]) -> None:
    each = {"frames": ("float32",), "frame_offset": ("int64",), "text": ("int32",), "text_offset": ("int64",)}
    _require_arrays(
        dataset.label, arrays, {f"{split}/{name}": dtypes for split in SPLITS for name, dtypes in each.items()}
    )
    for split in SPLITS:
        frames, where = arrays[f"{split}/frames"], f"{dataset.label}, {split}"
        _expect(f"{where}/frames", "features", (dataset.params["features"],), frames.shape[1:])
        _expect(f"{where}/frames", "NaN or infinite values", 0, int((~np.isfinite(frames)).sum()))
        lengths = [len(arrays[f"{split}/{name}_offset"]) for name in ("frame", "text")]
        _expect(where, "as many texts as recordings", lengths[0], lengths[1])
        for name, ragged in (("frame", frames), ("text", arrays[f"{split}/text"])):
            offset = arrays[f"{split}/{name}_offset"]
            _expect(f"{where}/{name}_offset", "first and last", (0, len(ragged)), (int(offset[0]), int(offset[-1])))
            _expect(f"{where}/{name}_offset", "empty parts", 0, int((np.diff(offset) <= 0).sum()))
        _expect(f"{where}/text", "blanks or negative symbols", 0, int((arrays[f"{split}/text"] <= 0).sum()))


def _tokens(dataset: Dataset, arrays: Mapping[str, np.ndarray]) -> None:
    _require_arrays(dataset.label, arrays, {f"{split}/chunk": ("uint16", "int32") for split in SPLITS})
    for split in SPLITS:
        chunk, where = arrays[f"{split}/chunk"], f"{dataset.label}, {split}/chunk"
        _expect(where, "axes and length", (2, dataset.params["length"] + 1), (chunk.ndim, chunk.shape[-1]))
        _expect(where, "no block at all", False, len(chunk) == 0)
        wrong = (chunk < 0) | (chunk >= dataset.params["vocabulary"])
        _expect(where, "ids outside the vocabulary", 0, int(wrong.sum()))


RULES: Mapping[str, Callable[[Dataset, Mapping[str, np.ndarray]], None]] = {
    "images": _images,
    "speech": _speech,
    "tokens": _tokens,
}
"""Kind -> a function that raises ValueError unless the arrays match the declaration."""
