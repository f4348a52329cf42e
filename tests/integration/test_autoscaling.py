"""A cluster that Ray's own autoscaler grows from nothing, by machines that are processes here."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.pipelines import ROOT
from helpers.topology import RAY_HOST, below, free_ports, ray_node, still_runs, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.scenario, pytest.mark.timeout(600)]

PROGRAM = """
import json, sys, time
from specdyn.flows.engine.resources import NotEnoughResources
from specdyn.flows.resources import Resources
from specdyn.flows.engine.executor import open_executor

def unit(number):
    time.sleep(0.5)
    return number

address, cpus, gpus, patience, units = sys.argv[1], *map(float, sys.argv[2:])
start, done = time.monotonic(), []
try:
    with open_executor("ray", Resources(cpus=int(cpus), gpus=gpus or None), address, patience) as executor:
        first = executor.slots
        executor.run_all(unit, [(number,) for number in range(int(units))], done.append)
        print(json.dumps({"first": first, "last": executor.slots, "done": sorted(done)}))
except NotEnoughResources as error:
    print(json.dumps({"refused": str(error), "seconds": time.monotonic() - start}))
"""
HEAD = {"resources": {}, "node_config": {}, "max_workers": 0}
MACHINES = {
    "small": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    "gpu": {"resources": {"CPU": 2, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 1},
}
# Ray asks for these of every provider.
UNUSED: dict[str, object] = {
    **{name: {} for name in ("head_node", "auth", "file_mounts")},
    **{f"{name}_commands": [] for name in ("initialization", "setup", "head_setup", "worker_setup")},
    **{f"{name}_start_ray_commands": [] for name in ("head", "worker")},
    "cluster_synced_files": [],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a head without CPUs, whose autoscaler starts machines when there is work for them."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:  # short, as Ray's sockets lie below it
        port, client, metrics, dashboard_metrics = free_ports(4)
        address = f"{RAY_HOST}:{port}"
        config = {
            "cluster_name": "tests",
            "max_workers": 3,
            "idle_timeout_minutes": 10,
            "upscaling_speed": 10.0,
            "provider": {
                "type": "fake_multinode",
                "head_node_id": "f" * 51 + "00000",
                "gcs_address": address,
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "available_node_types": {"ray.head.default": HEAD, **MACHINES},
            "head_node_type": "ray.head.default",
            **UNUSED,
        }
        (Path(folder) / "scaling.yaml").write_text(json.dumps(config))
        options = ["--head", f"--port={port}", f"--ray-client-server-port={client}", "--include-dashboard=false"]
        options += ["--num-cpus=0", "--num-gpus=0", f"--autoscaling-config={folder}/scaling.yaml"]
        environment = {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "AUTOSCALER_METRIC_PORT": str(metrics),
            "DASHBOARD_METRIC_PORT": str(dashboard_metrics),
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "0",  # that tests hide GPUs is not for Ray, which counts them
        }
        with ray_node("head", Path(folder), options, environment) as head:
            yield address
            left = below(head.popen.pid)
    wait_until(lambda: not any(still_runs(*process) for process in left.items()), "all of it is gone")


def run(address: str, cpus: int, gpus: float, patience: float, units: int) -> dict[str, object]:
    """What a program says that runs so many units of that size."""
    given = [sys.executable, "-c", PROGRAM, address, *map(str, (cpus, gpus, patience, units))]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ended = subprocess.run(given, env=kept, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    said: dict[str, object] = json.loads(ended.stdout)
    return said


def test_without_patience_an_empty_cluster_is_refused_at_once(cluster: str) -> None:
    said = run(cluster, 1, 0, 0, 1)
    refusal = "no node of the Ray cluster has the resources requested per task, cpus=1: the largest has 0 CPUs; "
    assert said["refused"] == f"{refusal}request fewer"


def test_an_empty_cluster_grows_by_what_waits(cluster: str) -> None:
    said = run(cluster, 1, 0, 120, 24)
    assert said["done"] == list(range(24))
    assert said["first"] == 1, "the machine that was waited for"
    assert said["last"] > 1, "those that were started for what waited beyond it"


def test_a_gpu_machine_is_started_for_units_that_ask_for_gpus(cluster: str) -> None:
    said = run(cluster, 2, 0.5, 120, 3)
    assert said["done"] == [0, 1, 2]
    assert said["last"] == 1, "two CPUs a unit, of which the machine has two"


def test_what_no_machine_of_the_cluster_can_have_is_refused_after_the_patience(cluster: str) -> None:
    said = run(cluster, 8, 0, 3, 1)
    assert re.match("no node of the Ray cluster has the resources requested per task, cpus=8", str(said["refused"]))
    assert isinstance(said["seconds"], float) and said["seconds"] >= 3
