"""The services of deploy/compose.yaml as processes on this machine, each with only its own variables."""

import atexit
import base64
import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.servers import S3Server, s3_server

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
RAY_HOST = "127.0.0.2"
"""Address reachable only from this machine; Ray would replace 127.0.0.1 by an external address."""
START_SECONDS = 180.0
STOP_SECONDS = 30.0
NOT_PASSED_ON = ("AWS_", "PREFECT_", "RAY_", "SPECDYN_", "PG")
PORTS = range(20_000, 32_000)
"""Above those of Ray's workers, and below those that Linux gives to who asks for any or connects to another one."""
BASE = {
    "OMP_NUM_THREADS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def postgres_folder() -> Path | None:
    """The folder of PostgreSQL's programs; None if not installed."""
    if (found := shutil.which("postgres")) and shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


def free_ports(count: int) -> list[int]:
    """Distinct free ports, reserved for this test process while it lives."""
    found: list[int] = []
    while len(found) < count:
        port, mark = secrets.choice(PORTS), socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0specdyn-tests-port-{port}")  # abstract: the kernel forgets it with the process
            with socket.socket() as probe:
                probe.bind(("", port))
        except OSError:
            mark.close()
            continue
        atexit.register(mark.close)  # which also keeps it open until then
        found.append(port)
    return found


def wait_until(holds: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until a condition holds; AssertionError with its description if it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds:g} s still not: {what}"
        time.sleep(0.2)


def listens(port: int) -> bool:
    """Whether something accepts connections at the port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def command_line(pid: int) -> str:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def below(pid: int) -> dict[int, str]:
    """The descendants of a process, each with its start time, which identifies it."""
    children: dict[int, dict[int, str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), {})[int(stat.parent.name)] = fields[19]
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        new = children.get(waiting.pop(), {})
        found |= new
        waiting += new
    return found


def still_runs(pid: int, started: str) -> bool:
    """Whether the process with that start time still runs, not as a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[19] == started and fields[0] != "Z"


@dataclass(frozen=True, slots=True)
class Process:
    """A started program: its role and its log."""

    role: str
    popen: "subprocess.Popen[bytes]"
    log: Path

    def require_alive(self) -> None:
        """AssertionError, with the end of its log, if it has ended."""
        assert self.popen.poll() is None, f"{self.role} ended with {self.popen.returncode}:\n{self.tail()}"

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds while it lives."""

        def ready() -> bool:
            self.require_alive()
            return holds()

        wait_until(ready, f"{what}; {self.role} says\n{self.tail()}")

    def finish(self, seconds: float = START_SECONDS) -> None:
        """Wait for its end; AssertionError, with the end of its log, if it failed."""
        code = self.popen.wait(seconds)
        assert code == 0, f"{self.role} ended with {code}:\n{self.tail()}"


@contextmanager
def started(
    role: str,
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    *,
    stop: signal.Signals = signal.SIGTERM,
    user: pwd.struct_passwd | None = None,
) -> Iterator[Process]:
    """A program in its own process group; it and its descendants are killed at the end."""
    log = folder / f"{role}.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)}
    owner: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command,
            cwd=folder,
            env={**kept, **BASE, "HOME": str(folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **owner,
        )
    try:
        yield Process(role, popen, log)
    finally:
        left = below(popen.pid)
        popen.send_signal(stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(STOP_SECONDS)
        popen.kill()
        popen.wait()
        for pid, moment in left.items():
            if still_runs(pid, moment):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextmanager
def postgres(folder: Path, password: str) -> Iterator[str]:
    """PostgreSQL on a free port of 127.0.0.1 that asks for the password; yields the URL of its database without it."""
    programs, (port,) = postgres_folder(), free_ports(1)
    assert programs is not None
    home = folder / "postgres"
    home.mkdir()
    user = None
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("nobody")
        os.chown(home, user.pw_uid, user.pw_gid)
    secret = home / "password"
    secret.write_text(password)
    initialise = [programs / "initdb", "-D", home / "data", "-U", "prefect", "--auth=scram-sha-256", "--no-sync"]
    with started("initdb", [*initialise, "--pwfile", secret], {}, folder, user=user) as process:
        process.finish()
    secret.unlink()
    options = ["-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories=", "-c", "fsync=off", "-p", str(port)]
    serve = [programs / "postgres", "-D", home / "data", *options]
    with started("postgres", serve, {}, folder, stop=signal.SIGINT, user=user) as process:
        process.wait_until(lambda: listens(port), "PostgreSQL listens")
        yield f"postgresql://prefect@{HOST}:{port}/postgres"


def with_password(url: str, password: str) -> str:
    """A database's URL with a password in it."""
    return url.replace("@", f":{password}@", 1)


@dataclass(frozen=True, slots=True)
class Api:
    """A Prefect server's API and the user and password for it."""

    url: str
    auth: str = field(repr=False)

    def ask(self, path: str, question: dict[str, Any] | None = None) -> Any:
        """The answer to a GET, or to a POST of the question with the token that it asks for."""
        if question is None:
            return self._answer(path)
        token = self._answer("/csrf-token?client=tests")["token"]
        return self._answer(path, question, {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"})

    def every(self, kind: str) -> list[Any]:
        """All objects of a kind, page by page."""
        found: list[Any] = []
        while page := self.ask(f"/{kind}/filter", {"limit": 200, "offset": len(found)}):
            found += page
        return found

    def status(self, path: str, auth: str | None) -> int:
        """The HTTP status of a GET with that user and password, or none; 0 if nothing answers."""
        return http_status(f"{self.url}{path}", basic(auth) if auth else {})

    def status_of_post(self, path: str, auth: str) -> int:
        """The HTTP status of a POST without a CSRF token."""
        return http_status(f"{self.url}{path}", {"Content-Type": "application/json", **basic(auth)}, b"{}")

    def _answer(self, path: str, question: dict[str, Any] | None = None, headers: Mapping[str, str] = {}) -> Any:
        body = None if question is None else json.dumps(question).encode()
        sent = {"Content-Type": "application/json", **basic(self.auth), **headers}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", body, sent), timeout=60) as answer:
            return json.load(answer)


def basic(auth: str) -> dict[str, str]:
    """The header of HTTP's basic authentication."""
    return {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"}


def http_status(url: str, headers: Mapping[str, str], body: bytes | None = None) -> int:
    """The HTTP status of a GET, or of a POST of the body; 0 if nothing answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, dict(headers)), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@contextmanager
def prefect_server(folder: Path, database: str, password: str, auth: str) -> Iterator[Api]:
    """Prefect's server on PostgreSQL, with a password and CSRF tokens, on a free port of 127.0.0.1."""
    (port,) = free_ports(1)
    environment = {
        "PREFECT_HOME": str(folder / "prefect-server"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": with_password(database, password).replace("://", "+asyncpg://"),
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "prefect-ui"),
    }
    serve = prefect("server", "start", "--host", HOST, "--port", str(port))
    with started("prefect-server", serve, environment, folder) as process:
        url = f"http://{HOST}:{port}/api"
        process.wait_until(lambda: http_status(f"{url}/ready", {}) == 200, "Prefect's server is ready")
        yield Api(url, auth)


def prefect(*arguments: str) -> list[str]:
    """The `prefect` command."""
    return [sys.executable, "-m", "prefect", *arguments]


@dataclass(frozen=True, slots=True)
class Ray:
    """The head of a Ray cluster: its address, its dashboard and its token."""

    address: str
    dashboard: str
    token: str = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for access to the cluster."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}


@contextmanager
def ray_head(folder: Path, token: str) -> Iterator[Ray]:
    """A Ray head without CPUs, listening on local addresses wherever Ray allows it."""
    port, client, dashboard, autoscaler_metrics, dashboard_metrics = free_ports(5)
    head = Ray(f"{RAY_HOST}:{port}", f"http://{HOST}:{dashboard}", token)
    options = ["--head", f"--port={port}", f"--ray-client-server-port={client}", f"--dashboard-host={HOST}"]
    options += [f"--dashboard-port={dashboard}", "--num-cpus=0", "--num-gpus=0"]
    metrics = {"AUTOSCALER_METRIC_PORT": str(autoscaler_metrics), "DASHBOARD_METRIC_PORT": str(dashboard_metrics)}
    with ray_node("ray-head", folder, options, {**head.environment, **metrics}):
        yield head


@contextmanager
def ray_node(role: str, folder: Path, options: Sequence[str], environment: Mapping[str, str]) -> Iterator[Process]:
    """A healthy node of a Ray cluster; nodes on one machine use different folders and ports."""
    agent, agent_rpc, metrics = free_ports(3)
    ports = [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_rpc}"]
    ports += [f"--metrics-export-port={metrics}", f"--node-ip-address={RAY_HOST}", f"--temp-dir={folder / role}"]
    start = [Path(sys.executable).with_name("ray"), "start", *options, *ports, "--block"]
    with started(role, start, environment, folder, stop=signal.SIGKILL) as process:
        health = f"http://{RAY_HOST}:{agent}/api/local_raylet_healthz"
        try:
            process.wait_until(lambda: http_status(health, {}) == 200, "the node is healthy")
        except AssertionError as error:
            logs = sorted((folder / role).glob("session_2*/logs/[gr]*.out"))
            ends = (f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)
            raise AssertionError("\n".join([str(error), *ends])) from None
        yield process


@dataclass(slots=True)
class Topology:
    """All services, and the processes and command lines seen so far."""

    folder: Path
    api: Api
    database: str
    ray: Ray
    ray_workers: dict[str, Process]
    s3: S3Server
    store: str
    secrets: dict[str, str] = field(repr=False)
    processes: dict[int, str] = field(default_factory=dict)
    """The role of each observed process, by its id."""
    command_lines: set[str] = field(default_factory=set)

    @property
    def store_environment(self) -> dict[str, str]:
        """The environment variables for access to the store."""
        return {"SPECDYN_STORE": self.store, **self.s3.environment}

    def watch(self) -> None:
        """Record the running processes."""
        tree = {pid: command_line(pid) for pid in below(os.getpid())}
        self.command_lines.update(tree.values())
        for role, process in self.ray_workers.items():
            self.processes |= dict.fromkeys(below(process.popen.pid), role)

    def run(self, entrypoint: str, **parameters: Any) -> str:
        """Start a flow as the UI does; returns the id of its run."""
        (deployment,) = [each for each in self.api.every("deployments") if each["entrypoint"] == entrypoint]
        created = self.api.ask(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        return str(created["id"])

    def ended(self, flow_run: str, seconds: float = START_SECONDS) -> dict[str, Any]:
        """Wait for a flow run to end, recording processes meanwhile; returns the run."""
        end = time.monotonic() + seconds
        while True:
            run: dict[str, Any] = self.api.ask(f"/flow_runs/{flow_run}")
            self.watch()
            if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return run
            assert time.monotonic() < end, f"{run['state']}\n{(self.folder / 'worker.log').read_text()[-4000:]}"
            time.sleep(1.0)


@contextmanager
def topology() -> Iterator[Topology]:
    """PostgreSQL, Prefect's server, S3, a Ray head and two Ray workers, the set-up and the specdyn worker."""
    folder = Path(tempfile.mkdtemp(prefix="topology-"))  # short, as it contains Ray's sockets
    folder.chmod(0o711)
    token, database_password, password = secrets.token_hex(32), secrets.token_hex(24), secrets.token_hex(24)
    auth = f"specdyn:{password}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        enter = stack.enter_context
        s3 = enter(s3_server(folder))
        database = enter(postgres(folder, database_password))
        api = enter(prefect_server(folder, database, database_password, auth))
        store = s3.fresh_store()
        of_store = {"SPECDYN_STORE": store, **s3.environment}
        of_client = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PREFECT_API_URL": api.url,
            "PREFECT_API_AUTH_STRING": auth,
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        }
        setup = enter(set_up(folder, {**of_client, **of_store}))
        ray = enter(ray_head(folder, token))
        workers = {}
        for role, options in {"ray-worker-1": ["--num-cpus=1"], "ray-worker-2": ["--num-cpus=1"]}.items():
            join = [f"--address={ray.address}", *options, "--num-gpus=0"]
            workers[role] = enter(ray_node(role, folder, join, {**ray.environment, **of_store}))
        setup.finish()
        enter(specdyn_worker(folder, ray, {**of_client, **of_store}))
        known = {"Prefect": password, "PostgreSQL": database_password, "Ray": token, "S3": s3.secret_key}
        yield Topology(folder, api, database, ray, workers, s3, store, known)


@contextmanager
def set_up(folder: Path, environment: Mapping[str, str]) -> Iterator[Process]:
    """The role `setup`: checks the store, creates the work pool and registers the flows."""
    own = {"PREFECT_HOME": str(folder / "setup"), "TMPDIR": str(folder), "MAKE_BUCKET": "yes"}
    own["PREFECT_FILE"] = str(ROOT / "deploy" / "prefect.yaml")
    with started("setup", [ROOT / "deploy" / "role.sh", "setup"], {**environment, **own}, folder) as process:
        yield process


@contextmanager
def specdyn_worker(folder: Path, ray: Ray, environment: Mapping[str, str]) -> Iterator[Process]:
    """A Ray node without CPUs, together with the worker of the work pool."""
    own = {
        **ray.environment,
        "RAY_ADDRESS": ray.address,
        "SPECDYN_ALLOWED_STORES": environment["SPECDYN_STORE"],
        "PREFECT_HOME": str(folder / "worker"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    join = [f"--address={ray.address}", "--num-cpus=0", "--num-gpus=0"]
    poll = prefect("worker", "start", "--pool", "specdyn", "--type", "process", "--no-create-pool-if-not-found")
    with (
        ray_node("ray-of-worker", folder, join, {**environment, **own}),
        started("worker", poll, {**environment, **own}, folder) as process,
    ):
        yield process
