"""Reads repositories of the Hugging Face Hub in place by ranged requests: `hf://org/name@revision/folder`.

The endpoint and the token come from HF_ENDPOINT and HF_TOKEN (or the file that `hf auth login` writes), never from a
URL, and are looked up in every process.
"""

import os
from typing import Any

from httpx2 import TransportError
from huggingface_hub import HfApi, HfFileSystem, constants, get_token, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
from huggingface_hub.hf_file_system import HfFileSystemFile
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

from specdyn.storage.access.objects import StoreError

TIMEOUT = 30.0
"""Seconds without a byte until a request is sent again."""
BEYOND = 416
"""HTTP status for a range that begins after the end of a file."""
PARTIAL = 206


def endpoint() -> str:
    """The address of the Hub in the current environment."""
    return os.environ.get("HF_ENDPOINT") or str(constants.ENDPOINT)


def api() -> HfApi:
    """The Hub's client for everything but files."""
    return HfApi(endpoint=endpoint(), token=get_token())


def hub(**options: Any) -> "Hub":
    """The file system of the Hub."""
    return Hub(endpoint=endpoint(), token=get_token(), **options)


class Hub(HfFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The Hub's file system, with one request per range of a file and no cached listings."""

    def ls(self, path: str, detail: bool = True, refresh: bool = True, **options: Any) -> list[Any]:
        """The contents of a folder; StoreError if the repository, revision or folder does not exist."""
        try:
            return super().ls(path, detail=detail, refresh=refresh, **options)
        except (FileNotFoundError, HfHubHTTPError, TransportError) as error:
            self.invalidate_cache()  # it also caches that something does not exist
            raise self.refusal(path, error) from None

    def revisions(self, repository: str) -> list[str]:
        """The names of a repository's branches and tags."""
        try:
            refs = api().list_repo_refs(repository)
        except (HfHubHTTPError, TransportError) as error:
            raise self.refusal(repository, error) from None
        return sorted({ref.name for ref in (*refs.branches, *refs.tags)})

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """The bytes [start, end) of a file; retries a request that is cut off or refused temporarily."""
        try:
            place = self.resolve_path(path)
            url = hf_hub_url(place.repo_id, place.path_in_repo, revision=place.revision, endpoint=self.endpoint)
            ranged = {} if start is None else {"range": f"bytes={start}-{'' if end is None else end - 1}"}
            answer = http_backoff("GET", url, headers={**build_hf_headers(token=self.token), **ranged}, timeout=TIMEOUT)
            if answer.status_code == BEYOND:
                return b""
            if answer.status_code == 404:
                raise FileNotFoundError(path)
            hf_raise_for_status(answer)
        except (HfHubHTTPError, TransportError) as error:
            raise self.refusal(path, error) from None
        data: bytes = answer.content
        return data if answer.status_code == PARTIAL or start is None else data[start:end]

    def refusal(self, path: str, error: Exception) -> StoreError:
        """The error to raise, without the request's headers (they hold the token)."""
        place, status = (
            f"hf://{path.removeprefix('hf://')}",
            getattr(getattr(error, "response", None), "status_code", 0),
        )
        if isinstance(error, GatedRepoError):
            return StoreError(f"{place}: this repository is gated; request access on its page and set HF_TOKEN")
        if status in (401, 403, 404) or isinstance(error, FileNotFoundError):
            return StoreError(
                f"{place}: no such repository, revision or folder on {self.endpoint}; "
                "check the name, and set HF_TOKEN if it is private"
            )
        if isinstance(error, TransportError):
            return StoreError(f"{place}: {self.endpoint} is not reachable ({type(error).__name__}); check HF_ENDPOINT")
        return StoreError(f"{place}: {self.endpoint} answers {status or type(error).__name__}; try again later")

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> "HubFile":
        return HubFile(self, path, mode=mode, block_size=block_size or self.block_size, **options)


class HubFile(HfFileSystemFile):  # type: ignore[misc]
    """A file of the Hub that is read in place."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.cat_file(self.path, start, end)
        return data
