"""A local S3 server for tests: moto in a process, which checks credentials and logs its requests."""

import argparse
import functools
import json
import os
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "specdyn-tests"
REGION = "us-east-1"
ACTIONS: dict[str, str | list[str]] = {"tests": "s3:*", "reader": ["s3:GetObject", "s3:ListBucket"]}
"""The permissions of each user."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server: its address, the accepted keys, and the log of its requests."""

    endpoint: str
    access_key: str
    secret_key: str
    reading_key: tuple[str, str]
    """Access and secret key of a user who may only read and list."""
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for access to the server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_DEFAULT_REGION": REGION,
        }

    @property
    def reading(self) -> dict[str, str]:
        """The same for the read-only user."""
        access, secret = self.reading_key
        return {**self.environment, "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}

    def fresh_store(self) -> str:
        """A store with a new prefix."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex}"

    def requests(self) -> list[str]:
        """All requests so far as `METHOD /path?query`, in order."""
        return self.log.read_text().splitlines()

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """A list that contains, after the block, the requests made within it."""
        before, made = len(self.requests()), []
        yield made
        made += self.requests()[before:]


@contextmanager
def s3_server(folder: Path, honours_conditions: bool = True) -> Iterator[S3Server]:
    """Start a server on a free port of 127.0.0.1 with one bucket and one user; stop it at the end."""
    log = folder / "requests.log"
    log.touch()
    command = [sys.executable, __file__, "--log", str(log)]
    if not honours_conditions:
        command.append("--ignore-conditions")
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "unused", "AWS_SECRET_ACCESS_KEY": "unused"}
    with (
        (folder / "server.log").open("w") as output,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, f"the S3 server did not start: {(folder / 'server.log').read_text()}"
            yield _with_users(f"http://127.0.0.1:{port}", log, enforced=honours_conditions)
        finally:
            process.terminate()


def _with_users(endpoint: str, log: Path, enforced: bool) -> S3Server:
    """Create the bucket, a user with full access and a read-only one, then enforce permissions if `enforced`.

    A server that drops headers cannot verify signatures, so nothing is enforced there.
    """
    import boto3

    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id="unused",
            aws_secret_access_key="unused",
        )

    client("s3").create_bucket(Bucket=BUCKET)
    iam, keys = client("iam"), []
    for user, actions in ACTIONS.items():
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="s3", PolicyDocument=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        keys.append((key["AccessKeyId"], key["SecretAccessKey"]))
    if enforced:
        enforce = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
        urllib.request.urlopen(enforce).close()
    return S3Server(endpoint, *keys[0], keys[1], log)


def forget_clients() -> None:
    """Close and forget the S3 clients of this process, since they keep the environment in which they were made."""
    import s3fs
    from fsspec.asyn import sync
    from zarr.core.sync import _get_loop

    from specdyn.storage.access.s3 import HastyS3, PatientS3

    for kind in (s3fs.S3FileSystem, PatientS3, HastyS3):
        for client in list(kind._cache.values()):
            if client._s3 is not None:
                sync(_get_loop() if client.asynchronous else client.loop, client._s3.close)
        kind.clear_instance_cache()


Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def noted(application: Application, log: Path, honours_conditions: bool) -> Application:
    """The application with logged requests; PUTs are serialised, as moto does not lock its conditional put."""
    noting, putting = threading.Lock(), threading.Lock()

    def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
        with noting, log.open("a") as file:
            file.write(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}\n")
        if not honours_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if environ["REQUEST_METHOD"] != "PUT":
            return application(environ, start)
        with putting:
            return list(application(environ, start))

    return answer


def main() -> None:
    """Serve until terminated; prints the port."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    parser = argparse.ArgumentParser(description="moto's S3 and IAM on a free port of 127.0.0.1")
    parser.add_argument("--log", type=Path, required=True, help="file that requests are appended to")
    parser.add_argument("--ignore-conditions", action="store_true", help="ignore If-None-Match, as some servers do")
    options = parser.parse_args()
    services = DomainDispatcherApplication(create_backend_app)
    # Otherwise it lists moto's folder and tries all services' patterns for every request, a quarter of the time.
    services.get_backend_for_host = functools.cache(services.get_backend_for_host)  # type: ignore[method-assign]
    application = noted(services, options.log, not options.ignore_conditions)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
