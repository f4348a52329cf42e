"""A reader while a real study grows: by runs, by steps in between, by layers, by analyses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.branched import carry_out
from helpers.pipelines import NAME, at_server, call
from helpers.products import differing, products
from helpers.watching import watched
from specdyn.flows.parameters import SweepParameters
from specdyn.flows.studies import study_from
from specdyn.storage.places import Store

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

SWEEP = "watched"
COMMON: dict[str, Any] = {"preset": "smoke", "seeds": [0], "sweep": SWEEP, "analyses": ["spectrum"]}
GROWTHS: dict[str, dict[str, Any]] = {
    "a run": {"weight_decays": [0.0], "settings": {"steps": 2000, "checkpoint_every": 200}},
    "more runs": {"weight_decays": [0.0, 1.0, 2.0], "settings": {"steps": 2000, "checkpoint_every": 200}},
    "steps in between": {"weight_decays": [1.0], "settings": {"steps": 400, "checkpoint_every": 50}},
    "more layers": {"weight_decays": [1.0], "settings": {"steps": 200, "checkpoint_every": 50, "depth": 2}},
    "more analyses": {
        "weight_decays": [1.0],
        "settings": {"steps": 400, "checkpoint_every": 50},
        "analyses": ["spectrum", "effective_rank", "agreement"],
    },
}
"""What each call asks for: all with one name, so that each makes the study larger."""


def command(asked: dict[str, Any], store: str) -> tuple[str, ...]:
    """The command for these parameters."""
    settings = [word for name, value in asked["settings"].items() for word in ("--set", f"{name}={value}")]
    grid = ("-s", "0", "-w", ",".join(map(str, asked["weight_decays"])), "--analyses", ",".join(asked["analyses"]))
    place = ("--sweep", SWEEP, "--store", store)
    return ("run", NAME, "--preset", "smoke", *grid, *settings, *place, "--executor", "inline", "--no-report")


@pytest.fixture(scope="module")
def final(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in which all of it was made without a reader, in this process and without any engine."""
    store = str(tmp_path_factory.mktemp("final") / "store")
    for growth in GROWTHS.values():
        carry_out(study_from(SweepParameters(**COMMON | growth, store=store)), Store(store))
    return store


@pytest.mark.parametrize("kind", ["folder", "S3"])
def test_a_reader_never_sees_a_wrong_value_nor_one_vanish(
    kind: str,
    final: str,
    request: pytest.FixtureRequest,
    prefect_server: None,
    tmp_path: Path,
    told: Callable[..., None],
) -> None:
    store: str = str(tmp_path / "store") if kind == "folder" else request.getfixturevalue("s3_store").url
    with watched(Store(store).cube(SWEEP), Store(final).cube(SWEEP), tmp_path) as seen:
        for growth in GROWTHS.values():
            ended = call(*command(COMMON | growth, store), env=at_server())
            assert ended.returncode == 0, ended.stderr
            assert "not up to date" not in ended.stderr, "it is written while units run"
    told(**seen)
    assert seen["wrong"] == []
    assert seen["whole"], "it saw every value in the end"
    assert seen["looks"] > len(GROWTHS) <= seen["shapes"] + 1
    assert differing(store, products(final)) == []
