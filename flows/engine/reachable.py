"""Whether what the environment names can be reached, seen within seconds and before Prefect or Ray is imported."""

import os
import socket
import tempfile
import time
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

THIS_MACHINE = ("127.0.0.1", "127.0.0.2", "localhost", "::1")
PROXIES = {"http_proxy", "https_proxy", "all_proxy"}
TRY_SECONDS = 3.0
SLOW_SECONDS = 30.0
"""For the first answer of a server that takes connections."""
LONGEST_SOCKET = 103
"""Bytes of a socket's path: macOS allows so many, Linux 107."""
OURS, RAYS = "/specdyn-12345678/r", "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""What our folder, and Ray below it, add to the path of the folder for temporary files."""


def spare_this_machine(environment: MutableMapping[str, str]) -> None:
    """Have no proxy asked for what runs on this machine, as Prefect's server does; without proxies nothing changes."""
    if not PROXIES & {name.lower() for name in environment}:
        return
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        spared = [host.strip() for host in environment.get(name, environment.get(other, "")).split(",") if host.strip()]
        if "*" not in spared:
            environment[name] = ",".join(dict.fromkeys([*spared, *THIS_MACHINE]))


def require_cluster(address: str, named: str, patience: float) -> None:
    """ValueError where nothing listens at a Ray cluster's `host:port` for that many seconds; `named` says who gave it.

    `auto`, `local` and the like, which Ray itself looks up, pass.
    """
    place = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = place.hostname, place.port
    except ValueError:
        raise ValueError(f"{named}={address}: expected the address of a Ray cluster, such as 10.0.0.1:6379") from None
    if host is None or port is None:
        return
    end = time.monotonic() + patience
    while why := refusal(host, port):
        if time.monotonic() > end:
            raise ValueError(
                f"{named}={address}: no Ray cluster answers there ({why}); start it, correct the address, "
                "or leave it out to start a cluster on this machine"
            )
        time.sleep(0.5)


def refusal(host: str, port: int) -> str:
    """Why no connection is accepted there; empty where one is."""
    try:
        socket.create_connection((host, port), TRY_SECONDS).close()
    except OSError as error:
        return _reason(error)
    return ""


def require_prefect(url: str, named: str) -> None:
    """ValueError where no Prefect server answers at the URL of its API; `named` says who gave it."""
    end = time.monotonic() + SLOW_SECONDS
    while why := silence(url):
        if not accepts(url) or time.monotonic() > end:
            raise ValueError(
                f"{named}={url}: no Prefect server answers there ({why}); start it, correct the URL, "
                "or remove the setting to use a temporary server"
            )


def silence(url: str) -> str:
    """Why the API at the URL gives no answer; empty where it gives one, whatever it is."""
    import ssl
    import urllib.error
    import urllib.request  # late, as every command imports this module first

    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=TRY_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
    except urllib.error.URLError as error:
        # A certificate that only Prefect was told to trust is an answer, too.
        return "" if isinstance(error.reason, ssl.SSLError) else _reason(error.reason)
    except (OSError, ValueError) as error:
        return _reason(error)
    return ""


def accepts(url: str) -> bool:
    """Whether a server takes connections at the URL, however long its answers take: a busy one is not gone."""
    place = urlsplit(url)
    port = place.port or (443 if place.scheme == "https" else 80)
    return place.hostname is not None and not refusal(place.hostname, port)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {TRY_SECONDS:g} s"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def short_folder(usual: Sequence[str] = ("/tmp",)) -> str:
    """Where temporary files go, or one of the `usual` folders where its path is too long for Ray's sockets.

    ValueError names TMPDIR where no folder will do.
    """
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    for folder in (wanted, *usual):
        if Path(folder).is_dir() and os.access(folder, os.W_OK) and len(os.fsencode(folder)) <= longest_folder():
            return folder
    raise ValueError(
        f"TMPDIR={wanted}: its path has {len(os.fsencode(wanted))} bytes, and Ray's sockets need one of at most "
        f"{longest_folder()}; set TMPDIR to a folder with a shorter path"
    )


def longest_folder() -> int:
    """Bytes that the path of the folder for temporary files may have."""
    return LONGEST_SOCKET - len(OURS) - len(RAYS)
