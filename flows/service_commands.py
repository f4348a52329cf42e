"""`specdyn serve` and `specdyn schedule`: running it for a group."""

import os
from typing import Annotated, Any

import typer

from flows.options import Analyses, Axes, Decays, Experiment, Preset, Seeds, Settings, Store, friendly, grid_of, out

schedule_app = typer.Typer(no_args_is_help=True, help="Sweeps of a service that start by themselves.")

ScheduleName = Annotated[str, typer.Argument(help="Name of the schedule: lower-case letters, digits and '-'.")]
Api = Annotated[str, typer.Option("--api", envvar="PREFECT_API_URL", help="Address of the service's API.")]
LOCAL_API = "http://127.0.0.1:4200/api"


@friendly
def serve(
    store: Store = "results",
    port: Annotated[int, typer.Option(help="Of the UI and API; 0 takes a free one.")] = 4200,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. Any but this machine's own needs PREFECT_SERVER_API_AUTH_STRING."),
    ] = "127.0.0.1",
    reports_port: Annotated[int, typer.Option(help="Of the reports; 0 takes a free one.")] = 4201,
    public_url: Annotated[
        str, typer.Option(help="How browsers reach the UI, where a proxy stands before it.", show_default=False)
    ] = "",
    public_reports_url: Annotated[
        str, typer.Option(help="How browsers reach the reports, where a proxy stands before them.", show_default=False)
    ] = "",
    ray_address: Annotated[
        str, typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster that runs. Default: start one.", show_default=False)
    ] = "",
    cpus: Annotated[int | None, typer.Option(help="CPUs for Ray. Default: all.", show_default=False)] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs for Ray. Default: all.", show_default=False)] = None,
    at_once: Annotated[int, typer.Option(help="Runs of one flow at a time; further ones wait.")] = 1,
    notify: Annotated[
        str,
        typer.Option(help="Notification block told of failures, e.g. `slack-webhook/lab`.", show_default=False),
    ] = "",
) -> None:
    """Serve everything on this machine: Prefect with its UI, Ray, reports, and every flow with a form to start it.

    Stops cleanly with Ctrl-C; schedules rest while it is stopped. What was under way goes on at the next call.

    Examples: `specdyn serve`, `specdyn serve --store s3://lab/specdyn --gpus 4 --at-once 2`
    """
    from flows.serving import Service
    from flows.serving import serve as start

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
    start(service, lambda line: out.print(line, highlight=False, soft_wrap=True))


@schedule_app.command("add")
@friendly
def add(
    name: ScheduleName,
    experiment: Experiment,
    cron: Annotated[str, typer.Option(help="When, as a cron line, e.g. `0 2 * * *`.", show_default=False)] = "",
    every: Annotated[str, typer.Option(help="How often: `15m`, `6h`, `1d`.", show_default=False)] = "",
    timezone: Annotated[str, typer.Option(help="Of the cron line.")] = "UTC",
    preset: Preset = None,
    weight_decays: Decays = None,
    seeds: Seeds = None,
    more_seeds: Annotated[int, typer.Option(help="New seeds at each firing, once all runs are done.")] = 1,
    axis: Axes = None,
    setting: Settings = None,
    analyses: Analyses = None,
    sweep: Annotated[
        str | None, typer.Option("--sweep", help="What it extends. Default: the name.", show_default=False)
    ] = None,
    paused: Annotated[bool, typer.Option(help="Make it, but do not start it.")] = False,
    api: Api = LOCAL_API,
) -> None:
    """Start a sweep by the clock; each firing extends the same sweep, and one that is still at work is waited for.

    Called again with the same name, the schedule is changed.

    Example: `specdyn schedule add nightly modular_addition -w 0,0.3,1 --cron "0 2 * * *" --more-seeds 1`
    """
    from flows.sweep import sweep_from
    from models.checks import require

    require(more_seeds >= 0, "more_seeds", more_seeds, "0 or more")
    given = grid_of(experiment, preset, weight_decays, seeds, sweep or name, analyses, axis, setting)
    made = sweep_from(given)
    _use(api)
    from flows.schedules import put_schedule, schedule_of

    put_schedule(name, schedule_of(cron, every, timezone), {**given, "more_seeds": more_seeds}, active=not paused)
    out.print(
        f"{name}: {len(made.specs)} runs at first, then {more_seeds} new seeds at each firing; see {_ui(api)}",
        soft_wrap=True,
    )


@schedule_app.command("list")
@friendly
def list_(api: Api = LOCAL_API) -> None:
    """Show the schedules of the service: when, what, and whether they rest."""
    _use(api)
    from flows.schedules import list_schedules
    from flows.terminal import table

    found = list_schedules()
    rows = [(s.name, s.when, "active" if s.active else "paused", _what(s.parameters)) for s in found]
    table(f"Schedules of {_ui(api)}", ("name", "when", "state", "what"), rows)


@schedule_app.command("pause")
@friendly
def pause(name: ScheduleName, api: Api = LOCAL_API) -> None:
    """Have a schedule rest."""
    _use(api)
    from flows.schedules import set_active

    set_active(name, False)


@schedule_app.command("resume")
@friendly
def resume(name: ScheduleName, api: Api = LOCAL_API) -> None:
    """Have a schedule go on."""
    _use(api)
    from flows.schedules import set_active

    set_active(name, True)


@schedule_app.command("remove")
@friendly
def remove(name: ScheduleName, api: Api = LOCAL_API) -> None:
    """Remove a schedule; runs that it started go on, results stay."""
    _use(api)
    from flows.schedules import remove_schedule

    remove_schedule(name)


def _use(api: str) -> None:
    """Have Prefect, which reads it at its import, talk to that server."""
    from urllib.parse import urlsplit

    from models.checks import require

    place = urlsplit(api)
    named = place.scheme in ("http", "https") and bool(place.hostname)
    require(named, "api", api, "the address of a service's API, such as http://127.0.0.1:4200/api")
    os.environ["PREFECT_API_URL"] = api


def _ui(api: str) -> str:
    return api.removesuffix("/api")


def _what(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items() if value not in ([], {}, "", 0))
