"""A flow run that is cancelled from Prefect while it trains, and while it analyses: what ends, and what goes on."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.branched import carry_out
from helpers.pipelines import NAME, weights_files
from helpers.products import differing, products
from helpers.programs import WORKER
from helpers.served import Served, started_service
from helpers.topology import command_line
from specdyn.flows.engine.watchdog import marked
from specdyn.flows.parameters import SweepParameters
from specdyn.flows.studies import study_from
from specdyn.storage.places import Store

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

ENDED_SECONDS = 15.0
SECONDS = 200.0
MARK = f"SPECDYN_TESTED={uuid.uuid4().hex}"
FLOW = "prefect.engine"
"""What is in the command line of the process of a flow run."""
ENDS = ("Completed", "Failed", "Crashed", "Cancelled")
LONG = {"settings": {"steps": 6000, "checkpoint_every": 500}, "sweep": "long"}
MANY = {"settings": {"steps": 400, "checkpoint_every": 5}, "sweep": "many"}


def asked(**changed: Any) -> dict[str, Any]:
    common: dict[str, Any] = {"experiment": NAME, "preset": "smoke", "seeds": [0], "weight_decays": [0.0, 1.0]}
    return {**common, "analyses": ["spectrum", "agreement"], "report": False, **changed}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of its own."""
    name, value = MARK.split("=")
    with started_service(tmp_path_factory.mktemp("service"), **{name: value}) as (_, running):
        yield running


def trained(store: Path) -> int:
    return len(weights_files(store))


def measured(store: Path) -> int:
    return len(list((store / "results").rglob("*.safetensors")))


def times(store: Path) -> dict[Path, int]:
    """When each checkpoint and each result was put."""
    return {path: path.stat().st_mtime_ns for path in store.rglob("*.safetensors") if path.parent.name != "state"}


@pytest.mark.parametrize(
    ("study", "made"), [(LONG, trained), (MANY, measured)], ids=["while it trains", "while it analyses"]
)
def test_a_cancelled_run_ends_whole_and_the_next_call_goes_on(
    study: dict[str, Any],
    made: Callable[[Path], int],
    service: Served,
    tmp_path: Path,
    told: Callable[..., None],
) -> None:
    first = start(service, asked(**study))
    before = made(service.store)
    wait_for(lambda: made(service.store) >= before + 2, "it is at work", service)
    began = time.monotonic()
    service.ask(f"/flow_runs/{first}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    wait_for(lambda: state(service, first) == "Cancelled" and not at_work(), "all of it has ended", service)
    seconds = time.monotonic() - began
    there = {
        path: path.stat().st_mtime_ns for path in service.store.rglob("*.safetensors") if path.parent.name != "state"
    }
    again = start(service, asked(**study))
    wait_for(lambda: state(service, again) in ENDS, "the next one ends", service)
    assert state(service, again) == "Completed", service.log.read_text()[-3000:]
    quiet = str(tmp_path / "quiet")
    carry_out(study_from(SweepParameters(**asked(**study), store=quiet)), Store(quiet))
    wrong = [name for name in differing(str(service.store), products(quiet)) if name in products(quiet)]
    told(ended_after_seconds=round(seconds, 1), kept=len(there), wrong=wrong)
    assert wrong == []
    assert there.items() <= times(service.store).items(), "what was finished is not made again"
    assert seconds < ENDED_SECONDS
    assert "Traceback" not in service.log.read_text()


def at_work() -> list[str]:
    """Command lines of the processes that a flow run has, and of Ray's workers that have a unit."""
    lines = [command_line(pid) for pid in marked(MARK)]
    return [line for line in lines if FLOW in line or WORKER in line]


def start(service: Served, parameters: dict[str, Any]) -> str:
    (deployment,) = [each for each in service.ask("/deployments/filter", {}) if "weight_decay" in each["entrypoint"]]
    return str(service.ask(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})["id"])


def state(service: Served, flow_run: str) -> str:
    return str(service.ask(f"/flow_runs/{flow_run}")["state"]["name"])


def wait_for(holds: Callable[[], bool], what: str, service: Served) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, f"still not: {what}: {at_work()}\n{service.log.read_text()[-3000:]}"
        time.sleep(0.3)
