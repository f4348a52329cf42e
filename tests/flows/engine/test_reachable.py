"""What the environment names is tried before anything is started; requests to this machine go to no proxy."""

import http.server
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from specdyn.flows.engine import engines, reachable
from specdyn.flows.engine.processes import Supervisor
from specdyn.flows.engine.reachable import (
    accepts,
    longest_folder,
    require_cluster,
    require_prefect,
    short_folder,
    silence,
    spare_this_machine,
)

LOCAL = "127.0.0.1,127.0.0.2,localhost,::1"
PROXY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("given", "spared"),
    [
        ({}, {}),
        ({"NO_PROXY": "lab"}, {"NO_PROXY": "lab"}),
        ({"HTTP_PROXY": PROXY}, {"no_proxy": LOCAL, "NO_PROXY": LOCAL}),
        ({"all_proxy": PROXY, "NO_PROXY": " lab , "}, {"no_proxy": f"lab,{LOCAL}", "NO_PROXY": f"lab,{LOCAL}"}),
        ({"http_proxy": PROXY, "no_proxy": f"{LOCAL},lab"}, {"no_proxy": f"{LOCAL},lab", "NO_PROXY": f"{LOCAL},lab"}),
        ({"https_proxy": PROXY, "no_proxy": "*"}, {"no_proxy": "*"}),
    ],
)
def test_proxies_are_not_asked_for_this_machine(given: dict[str, str], spared: dict[str, str]) -> None:
    environment = dict(given)
    spare_this_machine(environment)
    assert {name: value for name, value in environment.items() if name.lower() == "no_proxy"} == spared


class Refuses(http.server.BaseHTTPRequestHandler):
    """Answers that there is nothing."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[int]:
    """A port on which an HTTP server answers."""
    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port on which connections are accepted, and nothing answers."""
    monkeypatch.setattr(reachable, "TRY_SECONDS", 0.2)
    monkeypatch.setattr(reachable, "SLOW_SECONDS", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed() -> Iterator[int]:
    """A port on which nothing listens, kept so that nobody else begins to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


def test_a_cluster_that_is_gone_is_refused_by_the_name_that_gave_it(closed: int) -> None:
    gone = rf"RAY_ADDRESS=127.0.0.1:{closed}: no Ray cluster answers there \(Connection refused\); start it, correct"
    with pytest.raises(ValueError, match=gone):
        require_cluster(f"127.0.0.1:{closed}", "RAY_ADDRESS", 0.0)
    with pytest.raises(ValueError, match=rf"ray_address=ray://localhost:{closed}: no Ray cluster answers"):
        require_cluster(f"ray://localhost:{closed}", "ray_address", 0.0)
    with pytest.raises(ValueError, match="RAY_ADDRESS=lab:port: expected the address of a Ray cluster, such as"):
        require_cluster("lab:port", "RAY_ADDRESS", 0.0)


def test_a_cluster_that_is_being_started_is_waited_for() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        threading.Timer(0.3, listener.listen).start()
        require_cluster(f"127.0.0.1:{listener.getsockname()[1]}", "RAY_ADDRESS", 60.0)


@pytest.mark.parametrize("address", ["auto", "local", "head"])
def test_what_ray_itself_looks_up_passes(address: str) -> None:
    require_cluster(address, "RAY_ADDRESS", 0.0)


def test_a_prefect_server_must_answer_whatever_it_answers(answering: int, closed: int, silent: int) -> None:
    require_prefect(f"http://127.0.0.1:{answering}/api", "PREFECT_API_URL")
    with pytest.raises(ValueError, match=rf"PREFECT_API_URL=http://127.0.0.1:{closed}/api: .*\(Connection refused\)"):
        require_prefect(f"http://127.0.0.1:{closed}/api", "PREFECT_API_URL")
    with pytest.raises(ValueError, match=r"no Prefect server answers there \(no answer in 0.2 s\); start it, correct"):
        require_prefect(f"http://127.0.0.1:{silent}/api", "PREFECT_API_URL")
    with pytest.raises(ValueError, match="PREFECT_API_URL=nowhere: no Prefect server answers there"):
        require_prefect("nowhere", "PREFECT_API_URL")


def test_a_busy_prefect_server_is_waited_for(silent: int, answering: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable, "SLOW_SECONDS", 60.0)
    tried: list[str] = []

    def first_answers_late(url: str) -> str:
        tried.append(url)
        return silence(url if len(tried) < 3 else f"http://127.0.0.1:{answering}/api")

    monkeypatch.setattr(reachable, "silence", first_answers_late)
    require_prefect(f"http://127.0.0.1:{silent}/api", "PREFECT_API_URL")
    assert len(tried) == 3
    assert accepts(f"http://127.0.0.1:{silent}/api")


def test_a_server_is_gone_where_nothing_listens_and_busy_where_nothing_answers(
    closed: int, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(engines, "require_prefect", lambda url, named: None)
    urls = [f"http://127.0.0.1:{port}/api" for port in (closed, silent)]
    gone, busy = (engines._UsersServer(url, Supervisor("a test")).answers() for url in urls)
    assert not gone.alive()
    assert busy.alive()
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.0)
    assert not busy.alive()


def test_a_request_to_this_machine_passes_by_a_proxy_that_is_not_there(
    answering: int, closed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "SLOW_SECONDS", 0.4)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    urllib.request.install_opener(None)  # type: ignore[arg-type]  # it keeps the proxies it was made with
    with pytest.raises(ValueError, match="Connection refused"):
        require_prefect(f"http://127.0.0.1:{answering}/api", "PREFECT_API_URL")
    spare_this_machine(reachable.os.environ)
    urllib.request.install_opener(None)  # type: ignore[arg-type]
    require_prefect(f"http://127.0.0.1:{answering}/api", "PREFECT_API_URL")


def test_a_folder_for_temporary_files_of_a_long_path_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 78)
    long.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert short_folder() == "/tmp"
    with pytest.raises(
        ValueError, match=rf"TMPDIR={long}: its path has {len(str(long))} bytes, and Ray's sockets need"
    ):
        short_folder(usual=())
    monkeypatch.setenv("RAY_TMPDIR", "/var/tmp")
    assert short_folder(usual=()) == "/var/tmp"


def test_a_socket_of_ray_below_the_longest_folder_has_a_path_that_every_system_takes() -> None:
    # As Ray names it, for a process of the largest number that Linux gives; macOS takes 103 bytes, Linux 107.
    session = "session_2026-11-28_00-49-27_053149_4194304"
    folder = "/" + "f" * (longest_folder() - 1)
    assert len(f"{folder}/specdyn-abcdefgh/r/{session}/sockets/plasma_store") == 103
