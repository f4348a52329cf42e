"""Many commands that start at the same moment, on the same work, on shared work, on work that each extends."""

import re
import resource
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from helpers.at_once import ended_well
from helpers.branched import carry_out
from helpers.pipelines import NAME
from helpers.products import differing, products
from helpers.servers import S3Server
from specdyn.flows.parameters import SweepParameters
from specdyn.flows.studies import study_from
from specdyn.storage.access import objects
from specdyn.storage.places import Store

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PROCESSES, STUDIES = 16, 8
SECONDS = 500.0
SMALL = ("run", NAME, "--preset", "smoke", "-s", "0", "--set", "steps=20", "--set", "checkpoint_every=10")
OPTIONS = ("--analyses", "spectrum", "--executor", "inline", "--no-report")
MADE = re.compile(r"PUT (/[^/]+/[^/]+/results/\S+|/\S+/step=\d+\.safetensors)$")
"""Requests that put a checkpoint or a result."""


def call(store: str, sweep: str, weight_decays: Sequence[float]) -> tuple[str, ...]:
    """The command for a sweep of these weight decays."""
    return (
        *SMALL,
        *OPTIONS,
        "--sweep",
        sweep,
        "-w",
        ",".join(f"{value:g}" for value in weight_decays),
        "--store",
        store,
    )


def quiet(store: str, sweeps: dict[str, Sequence[float]]) -> dict[str, bytes]:
    """What sweeps leave that are made one after another, in this process and without any engine."""
    for name, weight_decays in sweeps.items():
        asked = SweepParameters(
            preset="smoke",
            seeds=[0],
            weight_decays=list(weight_decays),
            settings={"steps": 20, "checkpoint_every": 10},
            analyses=["spectrum"],
            sweep=name,
            store=store,
        )
        carry_out(study_from(asked), Store(store))
    return products(store)


@pytest.fixture(params=["folder", "S3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of either kind."""
    if request.param == "folder":
        return str(tmp_path / "store")
    url: str = request.getfixturevalue("s3_store").url
    return url


def test_many_processes_start_one_study(
    store: str, prefect_server: None, tmp_path: Path, told: Callable[..., None], s3_server: S3Server
) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with s3_server.counted() as requests:
        said = ended_well(tmp_path, [call(store, "one", [0.0, 1.0])] * PROCESSES, SECONDS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / PROCESSES
    wrong = differing(store, quiet(str(tmp_path / "quiet"), {"one": [0.0, 1.0]}))
    twice = made_twice(requests)
    told(processes=PROCESSES, CPU_seconds_of_each=round(seconds, 1), MB_of_the_largest=after.ru_maxrss // 1024)
    told(made_twice=twice, wrong=wrong)
    assert wrong == []
    assert sum("2 runs finished" in text for text in said) == 1
    assert sum("2 runs already done: nothing to do" in text for text in said) == PROCESSES - 1
    assert trainings(store) == 2 and twice == 0


def test_studies_share_half_of_their_runs(
    store: str, prefect_server: None, tmp_path: Path, told: Callable[..., None], s3_server: S3Server
) -> None:
    sweeps: dict[str, Sequence[float]] = {f"study{i}": [0.0, 1.0 + i] for i in range(STUDIES)}
    with s3_server.counted() as requests:
        ended_well(tmp_path, [call(store, name, values) for name, values in sweeps.items()], SECONDS)
    wrong = differing(store, quiet(str(tmp_path / "quiet"), sweeps))
    told(studies=STUDIES, trainings=trainings(store), made_twice=made_twice(requests), wrong=wrong)
    assert wrong == []
    assert made_twice(requests) == 0


def test_two_calls_extend_one_study(
    store: str, prefect_server: None, tmp_path: Path, told: Callable[..., None]
) -> None:
    ended_well(tmp_path, [call(store, "one", [0.0])], SECONDS)
    said = ended_well(tmp_path, [call(store, "one", [0.0, value]) for value in (1.0, 2.0)], SECONDS)
    places = {"one": [0.0, 1.0, 2.0]}, {"one": [0.0, 2.0, 1.0]}
    wrong = min((differing(store, quiet(str(tmp_path / f"quiet{i}"), one)) for i, one in enumerate(places)), key=len)
    told(calls=2, wrong=wrong)
    assert wrong == []
    assert sum("1 run finished" in text for text in said) == 2, "\n".join(said)
    assert trainings(store) == 3


def trainings(store: str) -> int:
    """How many trainings have left a log."""
    return sum("/trainings-" in name for name in objects.names_below(f"{store}/logs"))


def made_twice(requests: Sequence[str]) -> int:
    """How often a checkpoint or a result was put once more than needed."""
    return sum(n - 1 for n in Counter(filter(MADE.match, requests)).values())
