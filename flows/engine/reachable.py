"""Checks within seconds, before importing Prefect or Ray, that servers named in the environment are reachable."""

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
"""Seconds for the first answer of a server that accepts connections."""
LONGEST_SOCKET = 103
"""Most bytes in a socket's path: the limit of macOS; Linux allows 107."""
OURS, RAYS = "/specdyn-12345678/r", "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""What our folder and Ray's add to the path of the folder for temporary files."""


def spare_this_machine(environment: MutableMapping[str, str]) -> None:
    """Bypass proxies for servers on this machine, such as Prefect's; does nothing without proxies."""
    if not PROXIES & {name.lower() for name in environment}:
        return
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        spared = [host.strip() for host in environment.get(name, environment.get(other, "")).split(",") if host.strip()]
        if "*" not in spared:
            environment[name] = ",".join(dict.fromkeys([*spared, *THIS_MACHINE]))


def require_cluster(address: str, named: str, patience: float) -> None:
    """ValueError if nothing listens at a Ray cluster's `host:port` within `patience` seconds; `named` is its source.

    Accepts `auto`, `local` and the like, which Ray itself resolves.
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
    """Why a connection is refused; empty if it is accepted."""
    try:
        socket.create_connection((host, port), TRY_SECONDS).close()
    except OSError as error:
        return _reason(error)
    return ""


def require_prefect(url: str, named: str) -> None:
    """ValueError if no Prefect server answers at the URL of its API; `named` is the URL's source."""
    end = time.monotonic() + SLOW_SECONDS
    while why := silence(url):
        if not accepts(url) or time.monotonic() > end:
            raise ValueError(
                f"{named}={url}: no Prefect server answers there ({why}); start it, correct the URL, "
                "or remove the setting to use a temporary server"
            )


def silence(url: str) -> str:
    """Why the API at the URL does not answer; empty if it gives any answer."""
    import ssl
    import urllib.error
    import urllib.request  # imported late, as every command imports this module first

    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=TRY_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
    except urllib.error.URLError as error:
        # A certificate that only Prefect is configured to trust counts as an answer, too.
        return "" if isinstance(error.reason, ssl.SSLError) else _reason(error.reason)
    except (OSError, ValueError) as error:
        return _reason(error)
    return ""


def accepts(url: str) -> bool:
    """Whether a server accepts connections at the URL, however slow its answers: a busy server is not gone."""
    place = urlsplit(url)
    port = place.port or (443 if place.scheme == "https" else 80)
    return place.hostname is not None and not refusal(place.hostname, port)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {TRY_SECONDS:g} s"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def short_folder(usual: Sequence[str] = ("/tmp",)) -> str:
    """The folder for temporary files, or one of the `usual` folders if its path is too long for Ray's sockets.

    ValueError, naming TMPDIR, if no folder is suitable.
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
    """Most bytes in the path of the folder for temporary files."""
    return LONGEST_SOCKET - len(OURS) - len(RAYS)
