"""Parameters of schedules, kept a second time: Prefect's server drops them where a schedule is paused without them."""

import contextlib
from typing import Any
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound


def keep_parameters(client: SyncPrefectClient, schedule: UUID, parameters: dict[str, Any]) -> None:
    """Keep what a schedule asks for in a variable of the server; more than a variable can hold is not kept."""
    name = _variable(schedule)
    with contextlib.suppress(ValueError):
        if client.read_variable_by_name(name) is None:
            client.create_variable(VariableCreate(name=name, value=parameters))
        else:
            client.update_variable(VariableUpdate(name=name, value=parameters))


def kept_parameters(client: SyncPrefectClient, schedule: UUID) -> dict[str, Any]:
    """What a schedule asked for when it was made or last fired; empty where that was never kept."""
    found = client.read_variable_by_name(_variable(schedule))
    return dict(found.value) if found and isinstance(found.value, dict) else {}


def forget_parameters(client: SyncPrefectClient, schedule: UUID) -> None:
    """Forget what a schedule that is removed asked for."""
    with contextlib.suppress(ObjectNotFound):
        client.delete_variable_by_name(_variable(schedule))


def lost_parameters() -> dict[str, Any]:
    """What the schedule that started this flow run asks for, where the server lost it; empty otherwise.

    The UI's switch, and `prefect deployment schedule pause`, have the server drop the parameters of a schedule; it
    then starts flows with none. They are put back, into the schedule and the flow run.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.created_by is None or run.created_by.type != "SCHEDULE" or not run.created_by.id:
        return {}
    schedule = run.created_by.id
    with get_client(sync_client=True) as client:
        kept = kept_parameters(client, schedule)
        if run.parameters:
            # One that was removed meanwhile leaves nothing behind.
            if kept != run.parameters and run.deployment_id and _stands(client, run.deployment_id, schedule):
                keep_parameters(client, schedule, run.parameters)
            return {}
        if kept and run.deployment_id:
            get_run_logger().warning("the server lost the parameters of this schedule; they are put back: %s", kept)
            client.update_flow_run(run.id, parameters=kept)
            with contextlib.suppress(ObjectNotFound):  # the schedule was removed since
                client.update_deployment_schedule(run.deployment_id, schedule, parameters=kept)
    run.parameters = kept
    return kept


def _stands(client: SyncPrefectClient, deployment: UUID, schedule: UUID) -> bool:
    return any(one.id == schedule for one in client.read_deployment_schedules(deployment))


def _variable(schedule: UUID) -> str:
    return f"specdyn-schedule-{schedule}"
