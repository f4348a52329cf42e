"""The S3 client: s3fs with a single retry loop, and creates that recognise their own object.

Four layers can retry a request: aiohttp, botocore, s3fs' calls and s3fs' reads. Their attempts multiply, their
pauses add up, and none can tell its own object from another process's. Here one loop retries: until
`patience` runs out, with short pauses of random length. Only truncated bodies are left to s3fs, which counts them
separately.
"""

import asyncio
import contextlib
import itertools
import random
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from aiohttp import ClientConnectorError, ClientPayloadError
from botocore.exceptions import (
    ClientError,
    ConnectionError,
    ConnectTimeoutError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error

# Why not botocore's own loop: its pauses begin at up to 1 s and double to 20 s, and cannot be set; its `adaptive` mode
# also slows down after each refusal, though most refusals do not depend on one client's rate; and its budget of
# retries runs out if a third of all requests fail. Ten objects put at once, 50 ms away, took (10 % and 30 % of
# requests refused as 503 SlowDown, 6 % cut; 104 ms without failures):
#   botocore 3 attempts, s3fs 5 attempts     0.79 s   2.3 s
#   botocore `standard`, 10 attempts         0.83 s   3.2 s
#   botocore `adaptive`, 10 attempts         3.0 s    15 s
#   this loop                                0.20 s   0.53 s
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds: a pause has a random length up to a limit, which starts at the first and doubles up to the longest."""
LEAST_ATTEMPTS = 2
"""The same after a request that failed slowly, such as one that timed out."""
BUSY = {429, 500, 502, 503, 504}
"""HTTP status codes that are worth a retry."""
BUSY_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
}
"""S3 error codes that are worth a retry; the refusal of one key among many has no HTTP status."""
TOKEN = "specdyn-put"
"""Metadata key by which a create recognises its own object."""
WHOLE = 2 * 50 * 2**20
"""Size from which s3fs uploads an object in parts."""

_jitter = random.Random()


class NotAnsweredError(OSError):
    """No readable answer came; s3fs does not retry this error."""


class PutTwiceError(OSError):
    """A retried put was refused because the object exists: it may come from the previous attempt."""


class _OneAttempt(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """An aiohttp session without its own retry (by default, one for everything but a POST)."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False
        return session


class PatientS3(S3FileSystem):  # type: ignore[misc]  # s3fs has no types
    """S3 for work that must survive a busy server or a broken connection."""

    patience = 60.0
    """Seconds for which a request is retried if the server is busy or the connection breaks."""
    patience_silent = 60.0
    """The same after a read timeout."""
    patience_absent = 5.0
    """The same if nothing listens at the address, or something unexpected does."""
    retries = 10
    """How often s3fs reads a truncated body again; requests are counted by the loop alone."""

    def _prepare_config_kwargs(self) -> dict[str, Any]:
        once = {"total_max_attempts": 1, "mode": "standard"}
        return {**super()._prepare_config_kwargs(), "retries": once, "http_session_cls": _OneAttempt}

    async def _call_s3(self, method: str, *akwarglist: Any, **kwargs: Any) -> Any:
        await self.set_session()
        call = getattr(await self.get_s3(kwargs.get("Bucket")), method)
        arguments = self._get_s3_method_kwargs(call, *akwarglist, **kwargs)
        began = time.monotonic()
        for attempt in itertools.count(1):
            try:
                return await _answer(call, arguments)
            except Exception as error:
                least = LEAST_ATTEMPTS if (patience := self._patience_with(error)) else 0
                if attempt >= least and time.monotonic() - began >= patience:
                    raise _final(error, again=attempt > 1) from error
            await asyncio.sleep(_jitter.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1))))

    call_s3 = sync_wrapper(_call_s3)

    async def _pipe_file(
        self, path: str, data: bytes, chunksize: int = WHOLE // 2, mode: str = "overwrite", **kwargs: Any
    ) -> Any:
        """Put an object; if the answer was lost, the token tells whether the stored object is this one."""
        if mode != "create" and len(data) < 2 * chunksize:
            return await super()._pipe_file(path, data, chunksize=chunksize, **kwargs)
        token = uuid.uuid4().hex
        try:
            return await super()._pipe_file(
                path, data, chunksize=chunksize, mode=mode, Metadata={TOKEN: token}, **kwargs
            )
        except PutTwiceError as error:
            if token != (await self._metadata(path)).get(TOKEN):
                raise translate_boto_error(error.__cause__) from None
            return None

    async def _read_each(self, paths: Sequence[str]) -> list[bytes | BaseException]:
        """The content of each object, or the error, all read at once; `cat` would treat names as patterns."""
        return await asyncio.gather(*map(self._cat_file, paths), return_exceptions=True)

    read_each = sync_wrapper(_read_each)

    async def _first_below(self, path: str, count: int) -> dict[str, dict[str, Any]]:
        """The first objects below a prefix, as `find` with details has them, and one more if there are others."""
        bucket, prefix, _ = self.split_path(path)
        answer = await self._call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/", MaxKeys=count)
        entries = [{**one, "type": "file", "size": one["Size"]} for one in answer.get("Contents", [])]
        return {f"{bucket}/{one['Key']}": one for one in entries} | ({"": entries[-1]} if answer["IsTruncated"] else {})

    first_below = sync_wrapper(_first_below)

    async def _metadata(self, path: str) -> dict[str, str]:
        """The metadata of an object; empty if the object does not exist."""
        bucket, key, _ = self.split_path(path)
        try:
            found: dict[str, str] = (await self._call_s3("head_object", Bucket=bucket, Key=key))["Metadata"]
        except FileNotFoundError:
            return {}
        return found

    async def _empty(self, path: str) -> None:
        """Empty an object but keep its token, so that a create whose answer was lost still recognises it."""
        bucket, key, _ = self.split_path(path)
        await self._call_s3("put_object", Bucket=bucket, Key=key, Body=b"", Metadata=await self._metadata(path))

    empty = sync_wrapper(_empty)

    async def _abort_mpu(self, bucket: str, key: str, mpu: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # it was completed, and the answer lost
            await super()._abort_mpu(bucket, key, mpu)

    def _patience_with(self, error: Exception) -> float:
        """Seconds for which a request with this error is retried; 0 if the error is final."""
        if isinstance(error, ClientError):
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = error.response.get("Error", {}).get("Code")
            return self.patience if status in BUSY or code in BUSY_CODES else 0.0
        if isinstance(error, ConnectTimeoutError | SSLError | ProxyConnectionError):
            return self.patience_absent
        if isinstance(error, ReadTimeoutError):
            return self.patience_silent
        if isinstance(error, HTTPClientError | ConnectionError):
            absent = isinstance(error.kwargs.get("error"), ClientConnectorError)
            return self.patience_absent if absent else self.patience
        return self.patience if isinstance(error, ClientPayloadError | ResponseParserError) else 0.0


class HastyS3(PatientS3):
    """S3 for checking whether a server answers at all: retries only if the server is busy."""

    patience = 10.0
    patience_silent = 0.0
    patience_absent = 0.0


async def _answer(call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """The server's answer; a delete that was refused for some keys because the server was busy raises."""
    answer = await call(**arguments)
    for refused in answer.get("Errors", []):
        if refused.get("Code") in BUSY_CODES:
            raise ClientError({"Error": refused}, "DeleteObjects")
    return answer


def _final(error: Exception, again: bool) -> Exception:
    """The error to raise in the end, of a kind that no other layer retries."""
    if not isinstance(error, ClientError):
        passing = HTTPClientError | ConnectionError | ClientPayloadError | ResponseParserError
        return NotAnsweredError(str(error)) if isinstance(error, passing) else translate_boto_error(error)
    if again and error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "NoSuchUpload"):
        return PutTwiceError(str(error))
    return translate_boto_error(error)
