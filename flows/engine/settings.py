"""What a service (`specdyn serve`, or a cluster's worker) says to its flows by the environment."""

import math
import os
import re
from typing import TYPE_CHECKING, Literal

from specdyn.models.spec.checks import require
from specdyn.storage.access.objects import is_local, normalise
from specdyn.storage.places import Store
from specdyn.storage.probe import planned_store, require_store

if TYPE_CHECKING:  # workers import this module, and have no use for the experiments
    from specdyn.flows.parameters import Parameters
    from specdyn.tasks.plan.plan import Study

STORE = "SPECDYN_STORE"
"""The store of flows that name none."""
ALLOWED = "SPECDYN_ALLOWED_STORES"
"""Stores that flows may write to, with what lies below them, separated by spaces; unset allows any."""
REPORTS = "SPECDYN_REPORTS_URL"
"""Where a browser finds the store's reports."""
PATIENCE = "SPECDYN_CLUSTER_WAIT"
"""Seconds that a cluster which scales gets to have a machine for one unit; unset is none."""
TEMPORARY = "SPECDYN_TEMPORARY_PREFECT"
"""The API of the Prefect server that ends with the command; unset where one goes on."""
DEFAULT_STORE = "results"
EXECUTORS = ("ray", "inline")
"""Where units of work run."""
HEARTBEAT_SECONDS = 30
"""Between signs of life of a flow's process; the least that Prefect allows."""


def chosen_store(given: str, asks: bool = False) -> Store:
    """The store: what was given, else the service's; made and checked, or where a flow only `asks` checked.

    ValueError where the service does not allow it; StoreError where it cannot be used.
    """
    url = normalise(given or os.environ.get(STORE) or DEFAULT_STORE)
    allowed = allowed_stores()
    inside = not allowed or any(url == root or url.startswith(f"{root}/") for root in allowed)
    require(inside, "store", url, f"one of those this service may write to, or a place below: {', '.join(allowed)}")
    return planned_store(url) if asks else require_store(url)


def allowed_stores() -> list[str]:
    """Where flows may write, as the service says; empty where they may anywhere."""
    return [normalise(root) for root in os.environ.get(ALLOWED, "").split()]


def allowed_pattern() -> str:
    """A regular expression for what a form may have as store: nothing, or one of those allowed, or a place below.

    Empty where any is. Who creates a run is told by it; a path that leads elsewhere, by `..`, is refused by the flow.
    """
    places = [f"(?:file://)?{re.escape(root)}" if is_local(root) else re.escape(root) for root in allowed_stores()]
    return rf"^(?:(?:{'|'.join(places)})(?:/.*)?)?$" if places else ""


def chosen_executor(study: "Study", asked: "Parameters") -> Literal["ray", "inline"]:
    """What does the work of a study: `auto` is this process where that takes seconds, unless a cluster is named.

    A share of a GPU is for Ray to divide.
    """
    if asked.executor != "auto":
        return asked.executor
    named = asked.ray_address or os.environ.get("RAY_ADDRESS") or asked.resources.gpus
    return "inline" if study.takes_seconds and not named else "ray"


def chosen_cluster(given: str) -> str | None:
    """The address of the Ray cluster: what was given, else the environment's; None starts one on this machine.

    ValueError for another than that of a service, as the service's token would be sent there.
    """
    own = os.environ.get("RAY_ADDRESS", "")
    other = bool(given and own and given != own and os.environ.get(ALLOWED))
    require(not other, "ray_address", given, "nothing: the service has a cluster of its own")
    return given or own or None


def patience() -> float:
    """Seconds to wait for a cluster that scales; ValueError where the environment says no number."""
    said = os.environ.get(PATIENCE) or "0"
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    require(0 <= seconds < math.inf, PATIENCE, said, "a number of seconds, 0 or more")
    return seconds


def server_is_temporary() -> bool:
    """Whether nobody can look at Prefect's UI once the flow has ended."""
    return bool(os.environ.get(TEMPORARY)) and os.environ[TEMPORARY] == os.environ.get("PREFECT_API_URL")


def report_url(page: str, store: Store) -> str:
    """The address by which a browser opens a page of the store's reports, or where it lies if nothing serves it."""
    base, folder = os.environ.get(REPORTS), f"{store.reports}/"
    ours = base and normalise(os.environ.get(STORE) or DEFAULT_STORE) == store.url and page.startswith(folder)
    return f"{base}/{page.removeprefix(folder)}" if ours else page
