"""Prefect deployments of the flows, which the UI can start."""

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from specdyn.flows.analyse import analyse_checkpoints
from specdyn.flows.connect import mode_connectivity
from specdyn.flows.service.checked_form import checked_schema
from specdyn.flows.sweep import weight_decay_sweep
from specdyn.flows.tickets import lottery_tickets

FLOWS: dict[str, Flow[Any, Any]] = {
    "run": weight_decay_sweep,
    "connect": mode_connectivity,
    "tickets": lottery_tickets,
    "analyse": analyse_checkpoints,
}
"""Flows by the subcommand that starts them, e.g. the deployment of sweeps is `weight-decay-sweep/run`."""


def deployments(at_once: int) -> list[RunnerDeployment]:
    """A deployment of every flow; each runs at most `at_once` runs, further ones wait in its queue."""
    limit = ConcurrencyLimitConfig(limit=at_once, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    return [_deployment(verb, flow, limit) for verb, flow in FLOWS.items()]


def _deployment(verb: str, flow: Flow[Any, Any], limit: ConcurrencyLimitConfig) -> RunnerDeployment:
    made: RunnerDeployment = flow.to_deployment(  # type: ignore[assignment]
        verb,
        tags=["specdyn"],
        description=flow.fn.__doc__,
        concurrency_limit=limit,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    made._parameter_openapi_schema = checked_schema(flow)
    return made
