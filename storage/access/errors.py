"""Errors of a store, which say where, why and what to do."""

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

UNANSWERED = {"ConnectionError", "HTTPClientError", "FSTimeoutError", "NotAnsweredError", "ClientPayloadError"}
"""Names of the errors of a request that got no answer or half of one; their modules are imported only for S3."""

FULL = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not be so large",
}
"""Errors of the operating system when a file cannot be written for lack of space."""


class StoreError(Exception):
    """A store cannot be used; the message says which, why and what to do."""


class NoSpace(StoreError):
    """A local store has no space for a write; the message says where, how much is free and, if known, needed."""


@contextlib.contextmanager
def space_needed(url: str, needed: int | None = None) -> Iterator[None]:
    """Turn a failed write of `needed` bytes (if known) below a local URL into NoSpace."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or "://" in url:
            raise
        facts = [f"{needed:,} bytes are needed"] if needed is not None else []
        if error.errno == errno.ENOSPC:
            facts.append(f"{_free(url):,} are free" if facts else f"{_free(url):,} bytes are free")
        if error.errno == errno.EFBIG:
            facts.append("see `ulimit -f`")
        raise NoSpace(
            f"{url}: {FULL[error.errno]} ({', '.join(facts) or 'see your quota'}); free some space, then call again: "
            "finished work is kept"
        ) from None


def _free(url: str) -> int:
    """Free bytes on the disk of a path that may not exist yet."""
    there = next(folder for folder in (Path(url), *Path(url).parents) if folder.exists())
    return shutil.disk_usage(there).free


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn a store's failure into a StoreError that says what to do; missing objects stay FileNotFoundError."""
    try:
        with space_needed(url):
            yield
    except Exception as error:
        if reason := reason_of(error):
            raise StoreError(f"{url}: {reason}") from None
        raise


def reason_of(error: Exception) -> str | None:
    """What failed in the store and what to do; None if the store is not the cause."""
    if isinstance(error, FileNotFoundError):
        return "the bucket does not exist; create it first" if "bucket does not exist" in str(error).lower() else None
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "a part of this path is a file, expected a folder; choose another place"
    if isinstance(error, PermissionError):
        return f"access denied ({short(error)}); check the credentials, or the folder's rights"
    return _remote_reason(error)


def _remote_reason(error: Exception) -> str | None:
    kinds = {base.__name__ for base in type(error).__mro__}
    if kinds & {"NoCredentialsError", "PartialCredentialsError"}:
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a profile)"
    if kinds & UNANSWERED or "Invalid endpoint" in str(error):
        return f"not reachable ({short(error)}); check AWS_ENDPOINT_URL_S3 and the network"
    if isinstance(error, OSError) or type(error).__module__.startswith("botocore"):
        return f"{type(error).__name__}: {short(error)}"
    return None


def short(error: BaseException) -> str:
    """The message on one line, without any user name and password in a URL."""
    line = " ".join(str(error).split())[:200] or type(error).__name__
    return re.sub(r"//[^/\s]*@", "//", line)
