"""Access to sources that are only read: folders, buckets and repositories of the Hugging Face Hub."""

from typing import Any

from specdyn.storage.access.objects import HUB, StoreError, filesystem, normalise


def normalise_source(url: str) -> str:
    """An absolute path, or an `s3://` or `hf://organisation/name@revision/folder` URL, without a trailing slash."""
    if not url.startswith(HUB):
        return normalise(url)
    parts = [part for part in url.removeprefix(HUB).split("/") if part]
    if len(parts) < 2 or "@" in parts[0]:
        raise ValueError(f"source={url!r} is not allowed: expected hf://organisation/name, with @revision if wanted")
    return HUB + "/".join(parts)


def opened(url: str) -> Any:
    """Open an object as a file that is read in place, by ranged requests if it is remote."""
    return filesystem(url).open(url, "rb", block_size=2**20)


def hub_filesystem(url: str, **options: Any) -> Any:
    """The file system of the Hub; StoreError if its package is not installed."""
    try:
        from specdyn.storage.access.hub import hub
    except ImportError:
        raise StoreError(f"{url}: reading the Hub needs huggingface_hub: pip install 'specdyn[hub]'") from None
    return hub(**options)
