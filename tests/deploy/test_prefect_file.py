"""deploy/prefect.yaml: deployments of all flows by module, with schedules that are off and whose parameters fit."""

from typing import Any

import pytest
import yaml
from prefect.flows import Flow, load_flow_from_entrypoint

from helpers.manifests import DEPLOY, ROOT
from specdyn.flows.service.deployments import FLOWS

FILE = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = FILE["deployments"]
SCHEDULES = [
    pytest.param(each, schedule, id=schedule["slug"]) for each in DEPLOYMENTS for schedule in each["schedules"]
]


def flow_of(deployment: dict[str, Any]) -> Flow[..., Any]:
    return load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)


def test_it_is_for_the_installed_version() -> None:
    assert f"prefect=={FILE['prefect-version']}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_nothing_is_pulled() -> None:
    # Left out, `prefect deploy` makes a step that changes into the folder it was called from.
    assert FILE["pull"] == []
    assert not any("pull" in each for each in DEPLOYMENTS)


def test_every_flow_has_a_deployment_by_its_module() -> None:
    # As `specdyn serve` names them, so that `specdyn schedule` finds them on either.
    assert {each["name"]: flow_of(each).name for each in DEPLOYMENTS} == {
        verb: flow.name for verb, flow in FLOWS.items()
    }
    for each in DEPLOYMENTS:
        assert ":" not in each["entrypoint"] and "/" not in each["entrypoint"]
        assert flow_of(each).fn.__module__ == each["entrypoint"].rpartition(".")[0]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["entrypoint"])
def test_a_deployment_waits_its_turn_in_the_pool(deployment: dict[str, Any]) -> None:
    assert deployment["work_pool"] == {"name": "specdyn"}
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert deployment["parameters"] == {"store": "{{ $SPECDYN_STORE }}"}


@pytest.mark.parametrize(("deployment", "schedule"), SCHEDULES)
def test_a_schedule_is_off_and_could_run(deployment: dict[str, Any], schedule: dict[str, Any]) -> None:
    assert schedule["active"] is False
    flow = flow_of(deployment)
    given = {**deployment["parameters"], **schedule["parameters"]}
    flow.validate_parameters(given)
    with pytest.raises(Exception, match="nonsense"):
        flow.validate_parameters({**given, "nonsense": 1})


def test_there_are_examples_of_both_kinds() -> None:
    kinds = {
        kind
        for each in DEPLOYMENTS
        for schedule in each["schedules"]
        for kind in ("cron", "interval")
        if kind in schedule
    }
    assert kinds == {"cron", "interval"}
