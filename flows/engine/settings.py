"""Environment variables by which a service (`specdyn serve`, or a cluster's worker) configures its flows."""

import math
import os
import re
from typing import TYPE_CHECKING, Literal

from specdyn.models.spec.checks import require
from specdyn.storage.access.objects import is_local, normalise
from specdyn.storage.places import Store
from specdyn.storage.probe import planned_store, require_store

if TYPE_CHECKING:  # workers import this module, but do not need the experiments
    from specdyn.flows.parameters import Parameters
    from specdyn.tasks.plan.plan import Study

STORE = "SPECDYN_STORE"
"""The default store of flows."""
ALLOWED = "SPECDYN_ALLOWED_STORES"
"""Stores that flows may write to, including below them, separated by spaces; any if unset."""
REPORTS = "SPECDYN_REPORTS_URL"
"""URL of the store's reports for browsers."""
PATIENCE = "SPECDYN_CLUSTER_WAIT"
"""Seconds that an autoscaling cluster has to provide a node for one unit; 0 if unset."""
TEMPORARY = "SPECDYN_TEMPORARY_PREFECT"
"""API of the temporary Prefect server of a command; unset for a permanent server."""
DEFAULT_STORE = "results"
EXECUTORS = ("ray", "inline")
"""The executor of units of work."""
HEARTBEAT_SECONDS = 30
"""Seconds between heartbeats of a flow's process; the least that Prefect allows."""


def chosen_store(given: str, asks: bool = False) -> Store:
    """The given store, else the service's; created and checked, or only checked if the flow just `asks`.

    ValueError if the service does not allow it; StoreError if it cannot be used.
    """
    url = normalise(given or os.environ.get(STORE) or DEFAULT_STORE)
    allowed = allowed_stores()
    inside = not allowed or any(url == root or url.startswith(f"{root}/") for root in allowed)
    require(inside, "store", url, f"one that this service may write to, or a folder below: {', '.join(allowed)}")
    return planned_store(url) if asks else require_store(url)


def allowed_stores() -> list[str]:
    """The stores that the service allows; empty if all are."""
    return [normalise(root) for root in os.environ.get(ALLOWED, "").split()]


def allowed_pattern() -> str:
    """A regular expression for the store in a form: empty, one of the allowed stores, or a folder below one.

    Empty if any store is allowed. It gives early feedback; a path that escapes by `..` is refused by the flow.
    """
    places = [f"(?:file://)?{re.escape(root)}" if is_local(root) else re.escape(root) for root in allowed_stores()]
    return rf"^(?:(?:{'|'.join(places)})(?:/.*)?)?$" if places else ""


def chosen_executor(study: "Study", asked: "Parameters") -> Literal["ray", "inline"]:
    """The executor of a study: `auto` means this process if the work takes seconds, unless a cluster is named.

    Fractions of a GPU need Ray.
    """
    if asked.executor != "auto":
        return asked.executor
    named = asked.ray_address or os.environ.get("RAY_ADDRESS") or asked.resources.gpus
    return "inline" if study.takes_seconds and not named else "ray"


def chosen_cluster(given: str) -> str | None:
    """The given address of the Ray cluster, else the environment's; None starts one on this machine.

    ValueError for an address other than the service's, as the service's token would be sent there.
    """
    own = os.environ.get("RAY_ADDRESS", "")
    other = bool(given and own and given != own and os.environ.get(ALLOWED))
    require(not other, "ray_address", given, "nothing: the service has a cluster of its own")
    return given or own or None


def patience() -> float:
    """Seconds to wait for an autoscaling cluster; ValueError if the environment's value is not a number."""
    said = os.environ.get(PATIENCE) or "0"
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    require(0 <= seconds < math.inf, PATIENCE, said, "a number of seconds, 0 or more")
    return seconds


def server_is_temporary() -> bool:
    """Whether Prefect's UI ends with the flow."""
    return bool(os.environ.get(TEMPORARY)) and os.environ[TEMPORARY] == os.environ.get("PREFECT_API_URL")


def report_url(page: str, store: Store) -> str:
    """The URL of a report's page for browsers, or its URL in the store if nothing serves it."""
    base, folder = os.environ.get(REPORTS), f"{store.reports}/"
    ours = base and normalise(os.environ.get(STORE) or DEFAULT_STORE) == store.url and page.startswith(folder)
    return f"{base}/{page.removeprefix(folder)}" if ours else page
