"""Marks runs that died together with Prefect's server, which no automation could notice."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.states import Crashed

from specdyn.flows.service.automations import DIED, HEARTBEAT, SILENT_SECONDS

UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


@contextlib.contextmanager
def silent_runs_marked(say: Callable[[str], None]) -> Iterator[None]:
    """Mark and report runs that died with an earlier service, once this one has run long enough to tell."""

    def mark() -> None:
        for name in mark_silent_runs():
            say(f"crashed      {name}: died with an earlier service; run it again to continue with what is left")

    timer = threading.Timer(SILENT_SECONDS + 5, mark)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def mark_silent_runs() -> list[str]:
    """Mark deployment runs Crashed after three missed heartbeats; returns their names.

    Call it once, that long after starting a service; an automation handles later deaths.
    """
    before = datetime.now(UTC) - timedelta(seconds=SILENT_SECONDS)
    under_way = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY)),
        deployment_id=FlowRunFilterDeploymentId(is_null_=False),
    )
    with get_client(sync_client=True) as client:
        silent = [run for run in client.read_flow_runs(flow_run_filter=under_way) if _silent(client, run, before)]
        for run in silent:
            client.set_flow_run_state(run.id, Crashed(message=DIED))
    return [run.name for run in silent]


def _silent(client: SyncPrefectClient, run: FlowRun, before: datetime) -> bool:
    if run.state is None or run.state.timestamp > before:
        return False
    heard = EventFilter(
        event=EventNameFilter(name=[HEARTBEAT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
        occurred=EventOccurredFilter(since=before),  # type: ignore[arg-type]
    )
    return client.read_events(heard, limit=1).total == 0
