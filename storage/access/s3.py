"""The S3 client: s3fs with one loop that sends a failed request again, and creates that know their own object.

Four layers can send a request again: aiohttp, botocore, s3fs' calls and s3fs' reads. Their attempts multiply, their
pauses add up, and none can tell an object that it put itself from another process's. Here one loop does it: until
`patience` is over, with short pauses of random length. Only bodies that break off are left to s3fs, which counts them
by themselves.
"""

import asyncio
import contextlib
import itertools
import random
import time
import uuid
from collections.abc import Callable
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
# also sends slower after each refusal, though most refusals do not depend on one client's rate; and its budget of
# retries runs out where a third of all requests fails. Ten objects put at once, 50 ms away, took (10 % and 30 % of
# requests refused as 503 SlowDown, 6 % cut; 104 ms where none is):
#   3 attempts of botocore times 5 of s3fs   0.79 s   2.3 s
#   botocore `standard`, 10 attempts         0.83 s   3.2 s
#   botocore `adaptive`, 10 attempts         3.0 s    15 s
#   this loop                                0.20 s   0.53 s
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds: a pause is of any length up to a limit, which begins with the first and doubles to the longest."""
LEAST_ATTEMPTS = 2
"""Of a request that failed after a long time, as one does that nobody answers."""
BUSY = {429, 500, 502, 503, 504}
"""Status of an answer that another attempt may change."""
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
"""The same by the code in it; a refusal of one key of many has no status."""
TOKEN = "specdyn-put"
"""Name of the metadata by which a create knows the object that it put itself."""
WHOLE = 2 * 50 * 2**20
"""From this size on s3fs puts an object in parts."""

_jitter = random.Random()


class NotAnsweredError(OSError):
    """No answer came, or none that can be read: s3fs does not send such a request again."""


class PutTwiceError(OSError):
    """A put that was sent again is refused as the object is there: it may be the one of the attempt before."""


class _OneAttempt(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """A session of aiohttp that does not send a request again by itself, as it does once for all but a POST."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False
        return session


class PatientS3(S3FileSystem):  # type: ignore[misc]  # s3fs has no types
    """S3 for work that a busy server or a cut connection should not end."""

    patience = 60.0
    """Seconds for which a request is sent again that the server was too busy for, or whose connection was cut."""
    patience_silent = 60.0
    """The same where nothing came within the read timeout."""
    patience_absent = 5.0
    """The same where nothing listens at the address, or it is another one than expected."""
    retries = 10
    """Times that s3fs reads a body that breaks off; those of requests are counted by nobody but the loop."""

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
        """Put an object; where the answer was lost, its token tells whether the one that is there is this one."""
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

    async def _metadata(self, path: str) -> dict[str, str]:
        """What was noted with an object when it was put; nothing where there is none."""
        bucket, key, _ = self.split_path(path)
        try:
            found: dict[str, str] = (await self._call_s3("head_object", Bucket=bucket, Key=key))["Metadata"]
        except FileNotFoundError:
            return {}
        return found

    async def _empty(self, path: str) -> None:
        """Make an object empty, and keep its token: a create whose answer was lost still knows it."""
        bucket, key, _ = self.split_path(path)
        await self._call_s3("put_object", Bucket=bucket, Key=key, Body=b"", Metadata=await self._metadata(path))

    empty = sync_wrapper(_empty)

    async def _abort_mpu(self, bucket: str, key: str, mpu: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # it was completed, and the answer lost
            await super()._abort_mpu(bucket, key, mpu)

    def _patience_with(self, error: Exception) -> float:
        """Seconds for which a request that failed like this is sent again; 0 where that is its answer."""
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
    """S3 for asking whether a server is there at all: a busy one is asked again, any other failure is the answer."""

    patience = 10.0
    patience_silent = 0.0
    patience_absent = 0.0


async def _answer(call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What the server says; a delete that it was too busy to do for some keys has failed."""
    answer = await call(**arguments)
    for refused in answer.get("Errors", []):
        if refused.get("Code") in BUSY_CODES:
            raise ClientError({"Error": refused}, "DeleteObjects")
    return answer


def _final(error: Exception, again: bool) -> Exception:
    """The error to raise for the last one, such that nobody else sends the request again."""
    if not isinstance(error, ClientError):
        passing = HTTPClientError | ConnectionError | ClientPayloadError | ResponseParserError
        return NotAnsweredError(str(error)) if isinstance(error, passing) else translate_boto_error(error)
    if again and error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "NoSuchUpload"):
        return PutTwiceError(str(error))
    return translate_boto_error(error)
