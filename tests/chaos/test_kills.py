"""Real commands on a failing S3 server, their processes killed one after another: what is lost, and what is left."""

import math
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.branched import carry_out
from helpers.fault_proxy import RATES, FaultProxy, fault_proxy
from helpers.killing import VICTIMS, killed_until_it_ends
from helpers.pipelines import NAME
from helpers.products import differing, products
from helpers.servers import S3Server
from specdyn.flows.parameters import ConnectParameters, Parameters, SweepParameters, TicketParameters
from specdyn.flows.studies import study_from
from specdyn.storage.places import Store

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

SMOKE = ("--preset", "smoke", "-s", "0", "--no-report")
GRAPH = ("--set", "steps=40", "--set", "checkpoint_every=4")
OF_A_GRAPH = {"preset": "smoke", "seeds": [0], "settings": {"steps": 40, "checkpoint_every": 4}}

MADE = re.compile(r"/results/|/step=\d+\.safetensors$")
"""What is in the keys of checkpoints and of results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A study, by its command and by its parameters."""

    command: tuple[str, ...]
    asked: Callable[[str], Parameters]


CASES = {
    "sweep": Case(
        command=("run", NAME, *SMOKE, "-w", "0,1", "--set", "checkpoint_every=3", "--analyses", "spectrum,agreement"),
        asked=lambda store: SweepParameters(
            preset="smoke",
            seeds=[0],
            weight_decays=[0.0, 1.0],
            settings={"checkpoint_every": 3},
            analyses=["spectrum", "agreement"],
            store=store,
        ),
    ),
    "connectivity": Case(
        command=("connect", NAME, *SMOKE, *GRAPH, "--orders", "3,4", "--splits", "8,20"),
        asked=lambda store: ConnectParameters(**OF_A_GRAPH, orders=[3, 4], splits=[8, 20], store=store),
    ),
    "tickets": Case(
        command=("tickets", NAME, *SMOKE, *GRAPH, "--orders", "3", "--rewind", "8", "--densities", "0.5,0.25"),
        asked=lambda store: TicketParameters(**OF_A_GRAPH, orders=[3], rewind=8, densities=[0.5, 0.25], store=store),
    ),
}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """What a study leaves that nobody disturbs, in a folder; made once, without any engine."""
    made: dict[str, dict[str, bytes]] = {}

    def of(case: str) -> dict[str, bytes]:
        if case not in made:
            store = str(tmp_path_factory.mktemp("quiet") / "store")
            carry_out(study_from(CASES[case].asked(store)), Store(store))
            made[case] = products(store)
        return made[case]

    return of


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("case", CASES)
def test_a_study_loses_nothing(
    case: str,
    rate: str,
    s3_server: S3Server,
    s3_store: Store,
    quiet: Callable[[str], dict[str, bytes]],
    seed: int,
    told: Callable[..., None],
    tmp_path: Path,
) -> None:
    expected = quiet(case)
    with fault_proxy(s3_server.endpoint, seed) as proxy:
        proxy.faults(**RATES[rate])
        toll = killed_until_it_ends(
            tmp_path,
            (*CASES[case].command, "--store", s3_store.url),
            {"AWS_ENDPOINT_URL_S3": proxy.endpoint},
            random.Random(seed),
        )
    twice = made_twice(proxy)
    wrong = differing(s3_store.url, expected)
    told(kills=dict(toll.kills), starts=toll.starts, requests=proxy.count, faults=dict(proxy.happened))
    told(made=len(proxy.put), made_twice=twice, wrong=wrong)
    assert wrong == []
    assert toll.kills.total() > len(VICTIMS) / 2, "the study was too short for them"
    # Each kill costs at most what was in the hands of Ray's workers, one for each core.
    assert twice <= toll.kills.total() * (os.cpu_count() or math.inf)


def made_twice(proxy: FaultProxy) -> int:
    """How often a checkpoint or a result was put once more than needed."""
    return sum(n - 1 for key, n in proxy.put.items() if MADE.search(key))
