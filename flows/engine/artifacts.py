"""Creates Prefect artifacts: figures, links to results, failures."""

import base64
from collections.abc import Mapping

from prefect.artifacts import create_image_artifact, create_link_artifact, create_markdown_artifact

from specdyn.flows.engine.settings import report_url
from specdyn.storage.access import objects
from specdyn.storage.places import Store

LARGEST_IMAGE = 500_000
"""Largest figure stored in Prefect's database, in bytes."""
REMEDIES = {
    "Diverged": "lower the learning rate, or drop the run from the grid; `retry_failed` trains it again as it is",
    "NotEnoughResources": "ask for less in `resources`, or wait for the cluster to grow",
    "StoreError": "fix the store's address, network or keys; `specdyn storage check` tests it",
    "NoSpace": "free space on the disk, or use a store on another one",
    "NotPrepared": "prepare the data first: `specdyn data prepare NAME`",
    "DamagedData": "prepare the data again: `specdyn data prepare NAME`",
    "DamagedCheckpoint": "nothing: the run is marked, and the next call trains it again",
    "OutOfRange": "scale the weights, or leave the checkpoint or the analysis out",
    "NotFinite": "check the training's log; lower the learning rate",
}
OTHERWISE = "read the log of the task; then call again to continue"


def show_figures(figures: Mapping[str, bytes]) -> None:
    """Make an image artifact of every PNG, with embedded data, as the browser cannot reach the store."""
    for name, data in figures.items():
        if len(data) > LARGEST_IMAGE:
            continue
        create_image_artifact(
            f"data:image/png;base64,{base64.b64encode(data).decode()}",
            key=name.replace("_", "-"),
            description=name.replace("_", " ").capitalize(),
        )


def show_page(page: str, store: Store, title: str) -> None:
    """Make a link artifact to the page of a report."""
    create_link_artifact(report_url(page, store), link_text=f"Report of {title}", key="report", description=page)


def show_result(cube: str, title: str, table: str, one_group: bool) -> None:
    """Make the final artifact of a run: its table, and the code that opens its cube (of one group or several)."""
    opener = "open_dataset" if one_group else "open_datatree"
    opened = f'import xarray\n\nresults = xarray.{opener}("{cube}", engine="zarr")'
    hint = "Keys and endpoint come from the AWS environment, as everywhere.\n\n" if not objects.is_local(cube) else ""
    create_markdown_artifact(
        f"{table}\n\nTo open the results:\n\n```python\n{opened}\n```\n\n{hint}".lstrip(),
        key="summary",
        description=f"Results of {title}",
    )


def show_failures(failures: Mapping[str, str], title: str) -> None:
    """Make the artifact of failures: what failed, why, and what to do."""
    rows = "\n".join(f"| {_cell(what)} | {_cell(why)} | {remedy(why)} |" for what, why in failures.items())
    create_markdown_artifact(
        f"{next_call(failures)}\n\n| what | why | what to do |\n|---|---|---|\n{rows}\n",
        key="failures",
        description=f"{len(failures)} failed of {title}",
    )


def next_call(failures: Mapping[str, str]) -> str:
    """What the next call does about failures: it retrains a run that diverged only on request."""
    diverged = sum(_kind(why) == "Diverged" for why in failures.values())
    stay = "Runs that diverged stay failed; --retry-failed (`retry_failed`) trains them again."
    if diverged == len(failures):
        return stay
    return f"The next call tries {'the rest' if diverged else 'these'} again.{f' {stay}' if diverged else ''}"


def _kind(why: str) -> str:
    """The name of the error at the start of a reason."""
    return why.partition(":")[0]


def remedy(why: str) -> str:
    """What to do about a failure, by the name of the error at the start of its reason."""
    return REMEDIES.get(_kind(why), OTHERWISE)


def _cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
