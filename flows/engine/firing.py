"""Backs up the parameters of schedules: Prefect's server drops them if a schedule is paused without them."""

import contextlib
from typing import Any
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound


def keep_parameters(client: SyncPrefectClient, schedule: UUID, parameters: dict[str, Any]) -> None:
    """Store a schedule's parameters in a variable of the server, unless they exceed its size."""
    name = _variable(schedule)
    with contextlib.suppress(ValueError):
        if client.read_variable_by_name(name) is None:
            client.create_variable(VariableCreate(name=name, value=parameters))
        else:
            client.update_variable(VariableUpdate(name=name, value=parameters))


def kept_parameters(client: SyncPrefectClient, schedule: UUID) -> dict[str, Any]:
    """A schedule's parameters when it was created or last fired; empty if they were never stored."""
    found = client.read_variable_by_name(_variable(schedule))
    return dict(found.value) if found and isinstance(found.value, dict) else {}


def forget_parameters(client: SyncPrefectClient, schedule: UUID) -> None:
    """Delete the stored parameters of a removed schedule."""
    with contextlib.suppress(ObjectNotFound):
        client.delete_variable_by_name(_variable(schedule))


def lost_parameters() -> dict[str, Any]:
    """The parameters of the schedule that started this flow run, if the server lost them; empty otherwise.

    The UI's switch and `prefect deployment schedule pause` make the server drop the parameters of a schedule, which
    then starts flows without any. They are restored, in the schedule and the flow run.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.created_by is None or run.created_by.type != "SCHEDULE" or not run.created_by.id:
        return {}
    schedule = run.created_by.id
    with get_client(sync_client=True) as client:
        kept = kept_parameters(client, schedule)
        if run.parameters:
            # A schedule that was removed meanwhile must leave nothing behind.
            if kept != run.parameters and run.deployment_id and _stands(client, run.deployment_id, schedule):
                keep_parameters(client, schedule, run.parameters)
            return {}
        if kept and run.deployment_id:
            get_run_logger().warning("the server lost the parameters of this schedule; they are restored: %s", kept)
            client.update_flow_run(run.id, parameters=kept)
            with contextlib.suppress(ObjectNotFound):  # the schedule has been removed
                client.update_deployment_schedule(run.deployment_id, schedule, parameters=kept)
    run.parameters = kept
    return kept


def _stands(client: SyncPrefectClient, deployment: UUID, schedule: UUID) -> bool:
    return any(one.id == schedule for one in client.read_deployment_schedules(deployment))


def _variable(schedule: UUID) -> str:
    return f"specdyn-schedule-{schedule}"
