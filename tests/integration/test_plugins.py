"""Plug-ins on a Ray cluster that was there before them, whose workers know nothing of the folder that they lie in."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import plugins
from helpers.pipelines import at_server
from helpers.served import served
from helpers.topology import wait_until
from specdyn.flows.resources import Resources
from specdyn.models.experiments.base import get_experiment
from specdyn.models.plugins import places
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis, versions_of

pytestmark = [pytest.mark.integration, pytest.mark.scenario, pytest.mark.usefixtures("prefect_server", "ray_cluster")]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of plug-ins that this process alone is told of."""
    folder = tmp_path / "lab"
    plugins.analysis(folder)
    plugins.experiment(folder)
    monkeypatch.setenv(places.PATHS, str(folder))
    places.forget()
    yield folder
    places.forget()


def looking() -> Callable[..., tuple[Any, ...]]:
    """What workers run: no function of a module, which they would import, with helpers that they do not have."""

    def seen(spec: RunSpec, *others: Any) -> tuple[Any, ...]:
        """What a worker knows: its own variable, versions, sources, and what it was given."""
        experiment = get_experiment(spec.experiment)
        return (
            os.environ.get(places.PATHS),
            dict(versions_of(["spectrum", "largest"])),
            experiment.source == spec.source,
            type(spec.net) in experiment.kinds,
            [name for name in analysis_names() if name not in ("spectrum", "largest")] != [],
            others,
        )

    return seen


def test_workers_have_the_plugins_of_the_process_that_calls(lab: Path) -> None:
    from specdyn.flows.engine.executor import RayExecutor

    seen = looking()
    for factor in (1, 2):
        plugins.analysis(lab, factor=factor)
        places.forget()
        workers = RayExecutor(Resources(cpus=1))
        spec, version = get_experiment("scaled").preset("smoke").spec, get_analysis("largest").counted
        for file in lab.glob("*.py"):
            file.rename(file.with_suffix(".gone"))
        later = workers.start(seen, spec)
        variable, versions, same_source, same_kind, others, given = workers.run(seen, spec, "a", later, "b")
        assert (variable, same_source, same_kind, others) == (None, True, True, True)
        assert versions == {"spectrum": 1, "largest": version}
        assert (given[0], given[2], given[1][1]) == ("a", "b", versions)
        for file in lab.glob("*.gone"):
            file.rename(file.with_suffix(".py"))


def test_a_worker_looks_for_no_plugins_of_its_own(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from specdyn.flows.engine.executor import RayExecutor

    monkeypatch.setenv(places.OFF, "1")
    assert "largest" not in RayExecutor(Resources(cpus=1)).run(analysis_names)


def test_a_command_uses_a_cluster_by_its_address(lab: Path, tmp_path: Path) -> None:
    import ray

    store = Store(str(tmp_path / "store"))
    run = ("run", "scaled", "--store", store.url, "--analyses", "spectrum,largest", "--no-report")
    address = ray.get_runtime_context().gcs_address
    ended = subprocess.run(
        [sys.executable, "-m", "specdyn", "--plugins", str(lab), *run, "--ray-address", address],
        env={name: value for name, value in {**os.environ, **at_server()}.items() if name != places.PATHS},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "1 run finished" in ended.stderr
    cube = open_results(store.cube("scaled-smoke"))
    assert bool((cube["layers"]["largest"] > 0).all())


def test_flows_of_a_service_have_the_plugins_of_its_environment(lab: Path, tmp_path: Path) -> None:
    """The form offers them, the flow's process runs them, and so do the workers of the service's cluster."""
    with served(tmp_path, "--cpus", "1", **{places.PATHS: str(lab)}) as service:
        (deployment,) = [one for one in service.ask("/deployments/filter", {}) if one["name"] == "run"]
        assert "scaled" in deployment["parameter_openapi_schema"]["properties"]["experiment"]["enum"]
        asked = {"experiment": "scaled", "analyses": ["spectrum", "largest"], "report": False}
        run = service.ask(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": asked})
        ended: list[str] = []

        def has_ended() -> bool:
            state = service.ask(f"/flow_runs/{run['id']}")["state"]
            ended.append(f"{state['type']}: {state['message']}")
            return state["type"] in ("COMPLETED", "FAILED", "CRASHED")

        wait_until(has_ended, "the flow run ends", 240.0)
        assert ended[-1].startswith("COMPLETED"), ended[-1]
        assert bool((open_results(Store(str(service.store)).cube("scaled-smoke"))["layers"]["largest"] > 0).all())
