"""A Ray cluster of this process that does not start: said at once, whatever Ray makes of it."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import services

from specdyn.flows.engine.processes import NotStarted, Part, started
from specdyn.flows.engine.ray_cluster import PARTS, STARTED_BY, connect, start_here


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_that_dies_while_the_cluster_starts_is_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    function, log = STARTED_BY[kind]
    seen: list[Part | None] = []

    def init(**_: Any) -> None:
        getattr(services, function)(**{log: "its log"})
        seen.append(started().lost())

    monkeypatch.setattr(services, function, lambda **_: SimpleNamespace(process=SimpleNamespace(poll=lambda: -9)))
    monkeypatch.setattr(ray, "init", init)
    start_here(tmp_path)
    (part,) = seen
    assert part is not None
    assert (part.name, part.log, part.ours) == (PARTS[kind], "its log", True)
    assert started().lost() is None


def test_whatever_ray_raises_as_it_starts_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise Exception("The current node timed out during startup.\nand more")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        NotStarted, match=r"^Ray did not start on this machine: The current node timed out during startup\.$"
    ):
        connect(None, 0.0)


def test_the_signal_that_cancels_a_flow_run_stays_prefects(monkeypatch: pytest.MonkeyPatch) -> None:
    def ours(*_: object) -> None:
        """What Prefect does on SIGTERM."""

    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, ours)
    try:
        connect(None, 0.0)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
