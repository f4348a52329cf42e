"""Content digests of other programs' checkpoints; a file is read once, and again only if it changes."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from specdyn.storage.access import objects
from specdyn.storage.access.codec import seal, unseal
from specdyn.storage.access.listing import listing
from specdyn.storage.access.objects import StoreError
from specdyn.storage.access.records import change_record, read_record
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.found import ForeignCheckpoint, Found
from specdyn.storage.identity import short_digest
from specdyn.storage.places import Store

Known = Mapping[str, list[str]]
"""Checkpoint name -> its listing when it was read, and the sha256 of its content."""


GONE = "gone"
"""Digest of a file that no longer exists."""


def content_digests(series: Found, store: Store) -> tuple[str, ...]:
    """A digest of each checkpoint's content, in order: the sha256 of its files, or on object storage their ETags.

    If a file holds several checkpoints, the digest covers the tensors of one, so adding others does not change it.
    Computed digests are kept in the store; a file is read again if its size, times or inode changed.
    """
    if _listed_alone(series):
        return tuple(checkpoint.tag for checkpoint in series.checkpoints)
    url = store.series(short_digest(series.url))
    known = _read(read_record(url))
    now: dict[str, list[str]] = {}
    for checkpoint in series.checkpoints:
        tag, before = _tag(checkpoint), known.get(checkpoint.name, ["", ""])
        # Reading gigabytes is expensive: a checkpoint is read again only if its listing changed.
        now[checkpoint.name] = before if before[0] == tag else [tag, _read_through(series, checkpoint)]
    if now != known:
        text = seal({"url": series.url, "checkpoints": now})
        change_record(url, lambda _: text)
    return tuple(digest for _, digest in now.values())


def known_digests(series: Found, store: Store) -> tuple[str, ...] | None:
    """The same digests, or None if a file would have to be read; writes nothing."""
    if _listed_alone(series):
        return content_digests(series, store)
    known = _read(read_record(store.series(short_digest(series.url))))
    notes = [(_tag(checkpoint), known.get(checkpoint.name)) for checkpoint in series.checkpoints]
    if len(known) != len(notes) or any(note is None or note[0] != tag for tag, note in notes):
        return None
    return tuple(note[1] for _, note in notes if note)


def refreshed(series: Found) -> Found:
    """The same checkpoints with a fresh listing of their files."""
    folders = {url.rpartition("/")[0] for checkpoint in series.checkpoints for url in checkpoint.urls}
    listed = {f"{folder}/{name}": item for folder in folders for name, item in listing(folder).items()}

    def now(checkpoint: ForeignCheckpoint) -> ForeignCheckpoint:
        items = [listed.get(url) for url in checkpoint.urls]
        size, tag = sum(item.bytes for item in items if item), " ".join(item.tag if item else GONE for item in items)
        return replace(checkpoint, bytes=size, tag=tag)

    return replace(series, checkpoints=tuple(map(now, series.checkpoints)))


def _read(text: bytes | None) -> Known:
    """The stored digests of the series; empty if the record is damaged, as files can be read again."""
    try:
        plain = unseal(text or b"{}")
        return {name: [str(tag), str(digest)] for name, (tag, digest) in plain.get("checkpoints", {}).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _tag(checkpoint: ForeignCheckpoint) -> str:
    return f"{checkpoint.bytes} {checkpoint.tag}"


def _listed_alone(series: Found) -> bool:
    """Whether listings suffice: on object storage, unless one file holds several checkpoints."""
    return not objects.is_local(series.url) and not _in_one_file(series)


def _in_one_file(series: Found) -> bool:
    return len({checkpoint.urls for checkpoint in series.checkpoints}) < len(series.checkpoints)


def _read_through(series: Found, checkpoint: ForeignCheckpoint) -> str:
    """The digest of a checkpoint, computed by reading it."""
    if _in_one_file(series):
        try:
            return _of_tensors(checkpoint)
        except (DamagedCheckpoint, StoreError):  # reported when its weights are read
            return checkpoint.tag
    return " ".join(map(_sha256, checkpoint.urls))


def _of_tensors(checkpoint: ForeignCheckpoint) -> str:
    """The sha256 of names, types, shapes and elements of all tensors, one in memory at a time."""
    import torch

    weights, digest = checkpoint.weights(), hashlib.sha256()
    for name, shape in weights.shapes.items():
        w = weights.read(name).contiguous()
        digest.update(f"{name} {w.dtype} {shape} ".encode())
        digest.update(w.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sha256(path: str) -> str:
    try:
        with objects.explained(path), open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return GONE
