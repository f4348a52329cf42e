"""`specdyn serve`: runs Prefect's server and UI, Ray, the reports and all flows on one machine until stopped."""

import contextlib
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from specdyn.flows.engine.imports import importing
from specdyn.flows.engine.processes import Part, Supervisor, started
from specdyn.flows.engine.settings import ALLOWED, HEARTBEAT_SECONDS, REPORTS, STORE
from specdyn.models.plugins.places import PATHS, paths
from specdyn.models.spec.checks import require
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store

AUTH = "PREFECT_SERVER_API_AUTH_STRING"
RAY_HOST = "127.0.0.2"
"""Address reachable only from this machine; Ray would replace 127.0.0.1 by an external address."""
START_SECONDS = 120.0
STOP_SECONDS = 20.0
TURNS = {"PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": 3, "PREFECT_RUNNER_POLL_FREQUENCY": 2}
"""Seconds between a waiting run's attempts to start, and between the service's polls for runs.

Prefect's defaults, 30 s and 10 s, would pass idly between runs. Each attempt adds a state to the run's history, about
1 kB in the database, but starts no process.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The options of a service."""

    store: str
    host: str = "127.0.0.1"
    port: int = 4200
    """Port for the UI and API; 0 picks a free one."""
    reports_port: int = 4201
    public_url: str = ""
    """URL of the UI for browsers if it differs, for example behind a TLS proxy."""
    public_reports_url: str = ""
    """The same for the reports."""
    ray_address: str = ""
    """Address of a running Ray cluster; empty starts one on this machine."""
    cpus: int | None = None
    """CPUs of this machine that Ray may use; None means all."""
    gpus: int | None = None
    at_once: int = 1
    """How many runs of one flow may run at the same time; further ones wait."""
    notify: str = ""

    def __post_init__(self) -> None:
        for field in ("port", "reports_port"):
            require(0 <= getattr(self, field) < 65536, field, getattr(self, field), "a port, or 0 for a free one")
        both = self.port == self.reports_port != 0
        require(not both, "reports_port", self.reports_port, f"another port than port={self.port}")
        require(self.at_once >= 1, "at_once", self.at_once, "1 or more")
        require(self.cpus is None or self.cpus >= 1, "cpus", self.cpus, "an integer of 1 or more")
        require(self.gpus is None or self.gpus >= 0, "gpus", self.gpus, "an integer of 0 or more")
        for field in ("public_url", "public_reports_url"):
            url = getattr(self, field)
            require(not url or url.startswith(("http://", "https://")), field, url, "an address of http:// or https://")
        kind, _, name = self.notify.partition("/")
        named = not self.notify or bool(kind and name)
        require(named, "notify", self.notify, "TYPE/NAME of a notification block, e.g. slack-webhook/lab")
        auth = os.environ.get(AUTH, "")
        require(
            is_loopback(self.host) or bool(auth), "host", self.host, f"127.0.0.1 unless {AUTH}=user:password is set"
        )
        require(not auth or ":" in auth, AUTH, "(hidden)", "user:password")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(service: Service, say: Callable[[str], None]) -> None:
    """Start everything, print the URLs, and run flows until SIGINT or SIGTERM; then stop everything.

    If Ray or Prefect's server dies, everything is restarted; a killed service leaves nothing running.
    ValueError or StoreError, before anything is started, if something cannot work.
    """
    store = require_store(service.store)
    _stop_on_signals()
    with contextlib.ExitStack() as stack:
        stack.enter_context(Supervisor("The service").watching())
        port = free_port(service.host, service.port, "port")
        reports = _serve_reports(stack, service, store)
        _prepare_environment(service, store, port, reports)
        log = stack.enter_context(_prefect_server(service, port))
        cluster = stack.enter_context(_ray(service))
        _say_all(service, say, store, port, log, cluster)
        _run_flows(service, say)


def _stop_on_signals() -> None:
    """Make SIGTERM and SIGINT end everything, from the first moment on."""
    # A process started in the background by a script ignores SIGINT by default.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def _run_flows(service: Service, say: Callable[[str], None]) -> None:
    """Register the deployments and run their flow runs until a signal."""
    import asyncio

    with importing():
        from prefect.runner import Runner

        from specdyn.flows.service.automations import set_up
        from specdyn.flows.service.deployments import deployments
        from specdyn.flows.service.silent_runs import silent_runs_marked

    class Served(Runner):
        def handle_sigterm(self, *args: object, **kwargs: object) -> None:
            """Stop as on Ctrl-C, which pauses the deployments and waits for it."""
            signal.raise_signal(signal.SIGINT)

    _stop_on_signals()  # again, as Ray has installed its own handlers
    automations = set_up(service.notify)
    runner = Served(name="specdyn", limit=None, pause_on_shutdown=True)
    for deployment in deployments(service.at_once):
        runner.add_deployment(deployment)
        say(f"flow         {deployment.flow_name}/{deployment.name}")
    for name in automations:
        say(f"automation   {name}")
    say("ready        start runs in the UI; stop with Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt), silent_runs_marked(say):
        asyncio.run(runner.start())


def _prepare_environment(service: Service, store: Store, port: int, reports: int) -> None:
    """Set the environment for Prefect, Ray and the flows' processes, before prefect is imported."""
    base = f"http://{_reachable(service.host)}"
    ours = {
        "PREFECT_API_URL": f"{base}:{port}/api",
        "PREFECT_SERVER_API_HOST": service.host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": f"{service.public_url.rstrip('/') or f'{base}:{port}'}/api",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # With the default in-memory storage, occupied slots would stay occupied after the server stopped.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        STORE: store.url,
        # Flows run in other folders, where relative paths and this folder's project are not found.
        PATHS: os.pathsep.join(paths()),
        REPORTS: service.public_reports_url.rstrip("/") or f"{base}:{reports}",
    }
    os.environ.update(ours)
    os.environ.setdefault(ALLOWED, store.url)
    for name, seconds in TURNS.items():
        os.environ.setdefault(name, str(seconds))
    if os.environ.get(AUTH):
        os.environ.setdefault("PREFECT_API_AUTH_STRING", os.environ[AUTH])


def _serve_reports(stack: contextlib.ExitStack, service: Service, store: Store) -> int:
    from specdyn.flows.service.reports import reports_server

    port = free_port(service.host, service.reports_port, "reports_port")
    return stack.enter_context(reports_server(store, service.host, port, os.environ.get(AUTH, "")))


@contextlib.contextmanager
def _prefect_server(service: Service, port: int) -> Iterator[Path]:
    """Run Prefect's server as a separate process during the block; yields its log."""
    from prefect.settings import get_current_settings

    log = get_current_settings().home / "specdyn-serve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", service.host, "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait_for(f"http://{_reachable(service.host)}:{port}/api/health", process, log)
        server = Part(name="Prefect's server", alive=lambda: process.poll() is None, ours=True, log=str(log))
        with started().needed(server):
            yield log
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the server answers; RuntimeError, with the end of its log, if it exits or never answers."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
            return  # it answers with a request for credentials
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise RuntimeError(f"Prefect's server did not start; its log {log} ends:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def _ray(service: Service) -> Iterator[str]:
    """The Ray cluster for flows, at the address or started on this machine; yields a description."""
    if service.ray_address:
        os.environ["RAY_ADDRESS"] = service.ray_address
        yield f"{service.ray_address} (already running)"
        return
    # Ray reads these when imported. Other users of this machine can reach the ports, but have no token.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    from specdyn.flows.engine.ray_cluster import parts_of_ray, start_here

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start_here(started().ray_folder, num_cpus=service.cpus, num_gpus=service.gpus, _node_ip_address=RAY_HOST)
    address = ray.get_runtime_context().gcs_address
    os.environ["RAY_ADDRESS"] = address
    total = ray.cluster_resources()
    try:
        with started().needed(*parts_of_ray(ours=True)):
            yield f"{address} ({total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs)"
    finally:
        ray.shutdown()


def _say_all(service: Service, say: Callable[[str], None], store: Store, port: int, log: Path, cluster: str) -> None:
    say(f"UI           {service.public_url or f'http://{_reachable(service.host)}:{port}'}")
    say(f"API          {os.environ['PREFECT_API_URL']}")
    say(f"reports      {os.environ[REPORTS]}")
    say(f"store        {store}")
    say(f"Ray          {cluster}")
    say(f"server log   {log}")
    say("sign-in      " + ("user and password" if os.environ.get(AUTH) else "none (open to all users of this machine)"))


def _reachable(host: str) -> str:
    """The address by which processes of this machine reach a server bound to the host."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def free_port(host: str, port: int, field: str) -> int:
    """The port, or a free one for 0; ValueError if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"{field}={port} on {host}: {error.strerror}; choose another, or 0 for a free one"
            ) from None
        return int(probe.getsockname()[1])
