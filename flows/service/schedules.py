"""Creates, lists, pauses and removes schedules of sweeps through Prefect's API."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import httpx
from prefect import get_client
from prefect._vendor.croniter.croniter import CroniterBadDateError, croniter
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from specdyn.flows.engine.firing import forget_parameters, keep_parameters, kept_parameters
from specdyn.models.spec.checks import require

DEPLOYMENT = "weight-decay-sweep/run"
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ServiceError(ValueError):
    """The service does not answer or refuses access; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """One schedule in readable form."""

    name: str
    when: str
    active: bool
    parameters: dict[str, Any]


def schedule_of(cron: str, every: str, timezone: str) -> CronSchedule | IntervalSchedule:
    """Parse a schedule from either a cron line or an interval such as `90s`, `15m`, `6h`, `1d`."""
    if bool(cron) == bool(every):
        raise ValueError(f"give either --cron or --every, not {'both' if cron else 'neither'}")
    require(timezone in available_timezones(), "timezone", timezone, "a name such as UTC or Europe/Paris")
    if cron:
        return _cron(cron, timezone)
    number, unit = every[:-1], every[-1]
    fits = number.isascii() and number.isdigit() and len(number) < 9 and int(number) > 0 and unit in UNITS
    require(fits, "every", every, "a whole number from 1 to 99999999 followed by s, m, h or d, e.g. 6h")
    return IntervalSchedule(interval=timedelta(seconds=int(number) * UNITS[unit]), timezone=timezone)


def _cron(line: str, timezone: str) -> CronSchedule:
    """The schedule of a cron line with five fields or an alias such as `@daily`; ValueError if it never fires."""
    count = len(line.split())
    five = "five fields: minute, hour, day of the month, month, day of the week"
    require(line.startswith("@") or count == 5, "cron", line, f"{five}; there are {count}")
    try:
        schedule = CronSchedule(cron=line, timezone=timezone)
    except ValueError as error:
        reason = " ".join(str(error).splitlines()[2:3]).strip().removeprefix("Value error, ").partition(" [type=")[0]
        raise ValueError(f"cron={line!r} is not allowed: {reason}") from None
    try:
        croniter(line, datetime.now(ZoneInfo(timezone))).get_next(datetime)
    except CroniterBadDateError:
        raise ValueError(f"cron={line!r} is not allowed: it never fires, as no year has such a day") from None
    return schedule


@contextlib.contextmanager
def service() -> Iterator[tuple[SyncPrefectClient, DeploymentResponse]]:
    """A client of the service at PREFECT_API_URL, and the deployment of the sweeps."""
    url = os.environ.get("PREFECT_API_URL", "")
    try:
        with get_client(sync_client=True) as client:
            yield client, client.read_deployment_by_name(DEPLOYMENT)
    except httpx.TransportError as error:
        raise ServiceError(
            f"no Prefect server answers at {url} ({error}): start `specdyn serve`, or set --api"
        ) from None
    except ObjectNotFound:
        raise ServiceError(
            f"the Prefect server at {url} has no deployment {DEPLOYMENT}: `specdyn serve` creates it"
        ) from None
    except PrefectHTTPStatusError as error:
        if error.response.status_code in (401, 403):
            raise ServiceError(
                f"the Prefect server at {url} refuses access: set PREFECT_API_AUTH_STRING to its user:password"
            ) from None
        raise


def put_schedule(
    name: str, schedule: CronSchedule | IntervalSchedule, parameters: dict[str, Any], active: bool = True
) -> None:
    """Create the schedule of that name, or change its time and parameters."""
    require(bool(SLUG.fullmatch(name)), "name", name, "lower-case letters, digits and '-', at most 61 of them")
    with service() as (client, deployment):
        there = _find(deployment, name)
        if there is None:
            new = DeploymentScheduleCreate(schedule=schedule, active=active, parameters=parameters, slug=name)
            (there,) = client.create_deployment_schedules(deployment.id, [new])
        else:
            client.update_deployment_schedule(deployment.id, there.id, active, schedule, parameters=parameters)
        keep_parameters(client, there.id, parameters)


def set_active(name: str, active: bool) -> None:
    """Pause or resume the schedule; its parameters are kept."""
    with service() as (client, deployment):
        found = _require(deployment, name)
        # Without parameters in the request, Prefect's server would drop the schedule's.
        parameters = found.parameters or kept_parameters(client, found.id)
        client.update_deployment_schedule(deployment.id, found.id, active, parameters=parameters)
        keep_parameters(client, found.id, parameters)


def remove_schedule(name: str) -> None:
    """Remove the schedule; runs that it started continue."""
    with service() as (client, deployment):
        found = _require(deployment, name)
        client.delete_deployment_schedule(deployment.id, found.id)
        forget_parameters(client, found.id)


def list_schedules() -> list[Scheduled]:
    """The schedules of sweeps on the service."""
    with service() as (client, deployment):
        return [
            Scheduled(
                name=found.slug or str(found.id),
                when=_when(found.schedule),
                active=found.active and not deployment.paused,
                parameters=found.parameters or kept_parameters(client, found.id),
            )
            for found in deployment.schedules
        ]


def _when(schedule: Any) -> str:
    if isinstance(schedule, IntervalSchedule):
        return f"every {schedule.interval}"
    return f"{schedule.cron} ({schedule.timezone})" if isinstance(schedule, CronSchedule) else str(schedule)


def _find(deployment: DeploymentResponse, name: str) -> DeploymentSchedule | None:
    return next((found for found in deployment.schedules if name in (found.slug, str(found.id))), None)


def _require(deployment: DeploymentResponse, name: str) -> DeploymentSchedule:
    found = _find(deployment, name)
    known = ", ".join(one.slug or str(one.id) for one in deployment.schedules) or "none"
    if found is None:
        raise ValueError(f"unknown schedule {name!r}: known are {known}")
    return found
