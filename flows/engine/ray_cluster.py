"""The Ray cluster of this process: starts or connects to it, watches it, and disconnects."""

import contextlib
import functools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray._private import parameter, services, worker
from ray.exceptions import AuthenticationError

from specdyn.flows.engine.processes import NotStarted, Part, started
from specdyn.flows.engine.reachable import refusal, require_cluster
from specdyn.flows.engine.resources import Node, NotEnoughResources, units_that_fit
from specdyn.flows.engine.unit_log import pass_on
from specdyn.flows.resources import Resources

AWAY_SECONDS = 15.0
"""Seconds that an external cluster may be away, for example while its head restarts."""
START_SECONDS = 5.0
STOP_SECONDS = 5.0
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
PARTS = {"raylet": "Ray's raylet", "gcs_server": "Ray's GCS"}
STARTED_BY = {
    "raylet": ("start_raylet", "raylet_stdout_filepath"),
    "gcs_server": ("start_gcs_server", "stdout_filepath"),
}
"""Ray's function that starts each part, and its argument with the path of the log."""


def connect(address: str | None, patience: float) -> None:
    """Connect to the cluster at the address, or start one on this machine without a dashboard."""
    # Workers must not each use all cores before a unit sets its number of threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        with _sigterm_as_before():
            if address:
                _join(address, patience)
            else:
                start_here(started().ray_folder)
    except ValueError:  # the address or an option is wrong
        raise
    except Exception as error:
        raise NotStarted(f"Ray did not start on this machine: {str(error).splitlines()[0]}") from error
    # For a dead raylet Ray prints a hundred lines of C++ state, which its logs contain anyway.
    worker._worker_logs_enabled = False


def start_here(folder: Path, **options: Any) -> None:
    """Start a cluster on this machine with `ray.init`'s options, its files in the folder, and no dashboard."""
    # If another cluster runs, the dashboard agent tries its port for seconds, and everything waits for that.
    without: dict[str, Any] = {"no_monitor": True, "include_log_monitor": False, "dashboard_agent_listen_port": 0}
    with (
        mock.patch.object(parameter, "RayParams", functools.partial(parameter.RayParams, **without)),
        mock.patch.object(services, "start_api_server", return_value=(None, None)),  # a dashboard without any page
        _looked_after(),
    ):
        ray.init(address="local", include_dashboard=False, _temp_dir=str(folder), **QUIET, **options)


@contextlib.contextmanager
def _sigterm_as_before() -> Iterator[None]:
    """Keep Ray from handling SIGTERM, by which Prefect cancels a flow run: the run would be marked as crashed."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _looked_after() -> Iterator[None]:
    """Watch each part of a cluster as soon as it starts: Ray would wait 30 s for one that died."""
    with contextlib.ExitStack() as stack:

        def seen(kind: str, log: str, start: Callable[..., Any]) -> Callable[..., Any]:
            def begin(*args: Any, **kwargs: Any) -> Any:
                info = start(*args, **kwargs)
                part = _process(kind, info.process, ours=True, log=str(kwargs.get(log) or ""))
                stack.enter_context(started().needed(part))
                return info

            return begin

        for kind, (name, log) in STARTED_BY.items():
            stack.enter_context(mock.patch.object(services, name, seen(kind, log, getattr(services, name))))
        yield


def _join(address: str, patience: float) -> None:
    named = "RAY_ADDRESS" if address == os.environ.get("RAY_ADDRESS") else "ray_address"
    require_cluster(_looked_up(address), named, max(patience, START_SECONDS))
    try:
        ray.init(address=address, **QUIET)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        raise NotEnoughResources(
            f"{named}={address!r}: no Ray cluster answers there, or it refuses the token of this process "
            f"({str(error).splitlines()[0]}); set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as the cluster has them, "
            "or leave the address out to start one on this machine"
        ) from error


def _looked_up(address: str) -> str:
    """The address that Ray uses for `auto`: from the environment, or of a cluster on this machine if there is one."""
    if address != "auto":
        return address
    with contextlib.suppress(ConnectionError):
        return str(services.get_ray_address_from_environment("auto", None))
    return address


def parts_of_ray(ours: bool) -> list[Part]:
    """The parts of the cluster that must be alive for work to continue."""
    node: Any = worker._global_node
    if node is not None and set(PARTS) <= (processes := node.all_processes).keys():
        logs = f"{node.get_session_dir_path()}/logs"
        return [_process(kind, processes[kind][0].process, ours, f"{logs}/{kind}.out") for kind in PARTS]
    if node is None:  # a Ray client, which watches its own connection
        return []
    address = ray.get_runtime_context().gcs_address
    host, _, port = address.rpartition(":")
    parts = [
        Part(
            name=f"The Ray cluster at {address}",
            alive=lambda: not refusal(host.strip("[]"), int(port)),
            ours=False,
            patience=AWAY_SECONDS,
        )
    ]
    if node.raylet_socket_name:
        path = node.raylet_socket_name
        parts.append(Part(name="Ray's raylet on this machine", alive=lambda: _listens(path), ours=False))
    return parts


def _process(kind: str, process: Any, ours: bool, log: str) -> Part:
    return Part(name=PARTS[kind], alive=lambda: process.poll() is None, ours=ours, log=log)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def let_go(broken: bool) -> None:
    """Disconnect, which ends a cluster started here; does not contact it if a part of it has died."""
    if not broken:
        ray.shutdown()
        return
    node: Any = worker._global_node
    for info in [info for infos in node.all_processes.values() for info in infos] if node else []:
        info.process.kill()
    # This does not return if the GCS is dead.
    ending = threading.Thread(target=ray.shutdown, daemon=True)
    ending.start()
    ending.join(STOP_SECONDS)


def nodes_now() -> list[Node]:
    """The current nodes of the Ray cluster."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(int(has.get("CPU", 0)), has.get("GPU", 0.0)) for has in alive]


def nodes_after(resources: Resources, patience: float) -> list[Node]:
    """The nodes, once one can run a unit (an autoscaling cluster starts it), or after `patience` seconds."""
    cpus, gpus = resources.cpus, resources.gpus or 0.0
    if patience and not units_that_fit(nodes_now(), cpus, gpus):
        pass_on([f"no node of the Ray cluster has cpus={cpus}, gpus={gpus:g}: waiting {patience:g} s for one to start"])
        probe = ray.remote(_nothing).options(name="probe", num_cpus=cpus, num_gpus=gpus).remote()
        if not ray.wait([probe], timeout=patience)[0]:
            ray.cancel(probe, force=True)
    return nodes_now()


def _nothing() -> None:
    """A task whose resource request makes an autoscaling cluster grow."""
