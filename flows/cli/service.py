"""`specdyn serve` and `specdyn schedule`: run specdyn as a service for a group."""

import dataclasses
import os
from typing import Annotated, Any

import typer

from specdyn.flows.cli.command import options, read, with_options
from specdyn.flows.cli.json_form import with_json
from specdyn.flows.cli.options import StoreOption, friendly, out
from specdyn.flows.cli.start import GRID
from specdyn.flows.engine.imports import importing
from specdyn.flows.parameters import SweepParameters

schedule_app = typer.Typer(no_args_is_help=True, help="Manage scheduled sweeps.")

ScheduleName = Annotated[str, typer.Argument(help="Name of the schedule: lower-case letters, digits and '-'.")]
Api = Annotated[str, typer.Option("--api", envvar="PREFECT_API_URL", help="Address of the service's API.")]
LOCAL_API = "http://127.0.0.1:4200/api"


@friendly
def serve(
    store: StoreOption = "results",
    port: Annotated[int, typer.Option(help="Port for the UI and API (0 picks a free one).")] = 4200,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Any other than this machine's own needs PREFECT_SERVER_API_AUTH_STRING."
        ),
    ] = "127.0.0.1",
    reports_port: Annotated[int, typer.Option(help="Port for the reports (0 picks a free one).")] = 4201,
    public_url: Annotated[
        str, typer.Option(help="URL of the UI for browsers, if it is behind a proxy.", show_default=False)
    ] = "",
    public_reports_url: Annotated[
        str, typer.Option(help="URL of the reports for browsers, if they are behind a proxy.", show_default=False)
    ] = "",
    ray_address: Annotated[
        str,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="Address of a running Ray cluster. Default: start Ray on this machine.",
            show_default=False,
        ),
    ] = "",
    cpus: Annotated[int | None, typer.Option(help="CPUs for Ray. Default: all.", show_default=False)] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs for Ray. Default: all.", show_default=False)] = None,
    at_once: Annotated[int, typer.Option(help="How many runs of one flow may run at a time; others wait.")] = 1,
    notify: Annotated[
        str,
        typer.Option(
            help="Prefect notification block to send failures to, e.g. `slack-webhook/lab`.", show_default=False
        ),
    ] = "",
) -> None:
    """Run the service on this machine: Prefect and its UI, Ray, the reports, and a form to start every flow.

    Ctrl-C stops it cleanly. Schedules do not fire while it is down; interrupted work continues at the next start.

    Examples: `specdyn serve`, `specdyn serve --store s3://lab/specdyn --gpus 4 --at-once 2`
    """
    from specdyn.flows.service.serve import Service
    from specdyn.flows.service.serve import serve as start

    service = Service(
        store=store,
        host=host,
        port=port,
        reports_port=reports_port,
        public_url=public_url,
        public_reports_url=public_reports_url,
        ray_address=ray_address,
        cpus=cpus,
        gpus=gpus,
        at_once=at_once,
        notify=notify,
    )
    start(service, out.print)


def add(
    name: ScheduleName,
    cron: Annotated[str, typer.Option(help="When to run, as a cron line, e.g. `0 2 * * *`.", show_default=False)] = "",
    every: Annotated[str, typer.Option(help="How often to run, e.g. `15m`, `6h`, `1d`.", show_default=False)] = "",
    timezone: Annotated[str, typer.Option(help="Time zone of the cron line.")] = "UTC",
    more_seeds: Annotated[int, typer.Option(help="How many seeds each firing adds once all runs are done.")] = 1,
    paused: Annotated[bool, typer.Option(help="Create the schedule paused.")] = False,
    api: Api = LOCAL_API,
    **typed: Any,
) -> None:
    """Schedule a sweep; each firing extends the same sweep, after any earlier one that is still running.

    The sweep is named after the schedule, unless --sweep is given. A second call with the same name changes the
    schedule.

    Example: `specdyn schedule add nightly modular_addition -w 0,0.3,1 --cron "0 2 * * *" --more-seeds 1`
    """
    from specdyn.flows.studies import sweep_from
    from specdyn.models.spec.checks import require
    from specdyn.models.wording import plural

    require(more_seeds >= 0, "more_seeds", more_seeds, "0 or more")
    typed["sweep"] = typed["sweep"] or name
    asked = dataclasses.replace(read(SweepParameters, typed), more_seeds=more_seeds)
    made = sweep_from(asked)
    _use(api)
    from specdyn.flows.service.schedules import put_schedule, schedule_of

    kept = {part: getattr(asked, part) for part in (*GRID, "more_seeds")}
    put_schedule(name, schedule_of(cron, every, timezone), kept, active=not paused)
    first, later = plural(len(made.specs), "run"), plural(more_seeds, "new seed")
    out.print(f"{name}: {first} at first, then {later} at each firing; see {_ui(api)}")


schedule_app.command("add")(with_options(add, options(SweepParameters, GRID)))


@schedule_app.command("list")
@with_json
@friendly
def list_(api: Api = LOCAL_API) -> None:
    """Show the schedules of the service: when they run, what they run, and whether they are paused."""
    _use(api)
    from specdyn.flows.cli.terminal import table
    from specdyn.flows.service.schedules import list_schedules

    found = list_schedules()
    rows = [(s.name, s.when, "active" if s.active else "paused", _what(s.parameters)) for s in found]
    table(f"Schedules of {_ui(api)}", ("name", "when", "state", "what"), rows)


@schedule_app.command("pause")
@friendly
def pause(name: ScheduleName, api: Api = LOCAL_API) -> None:
    """Pause a schedule."""
    _use(api)
    from specdyn.flows.service.schedules import set_active

    set_active(name, False)


@schedule_app.command("resume")
@friendly
def resume(name: ScheduleName, api: Api = LOCAL_API) -> None:
    """Resume a paused schedule."""
    _use(api)
    from specdyn.flows.service.schedules import set_active

    set_active(name, True)


@schedule_app.command("remove")
@friendly
def remove(name: ScheduleName, api: Api = LOCAL_API) -> None:
    """Remove a schedule; runs that it started continue, and results are kept."""
    _use(api)
    from specdyn.flows.service.schedules import remove_schedule

    remove_schedule(name)


def _use(api: str) -> None:
    """Point Prefect at that server, which it reads when imported, and import the client code."""
    from urllib.parse import urlsplit

    from specdyn.models.spec.checks import require

    place = urlsplit(api)
    named = place.scheme in ("http", "https") and bool(place.hostname)
    require(named, "api", api, "the address of a service's API, such as http://127.0.0.1:4200/api")
    os.environ["PREFECT_API_URL"] = api
    with importing():
        import specdyn.flows.service.schedules  # noqa: F401 - of which the commands use what they need


def _ui(api: str) -> str:
    return api.removesuffix("/api")


def _what(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items() if value not in ([], {}, "", 0))
