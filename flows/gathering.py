"""From run stores to the sweep's cube and its report; done by one process."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flows.planning import look_at
from flows.sweep import Sweep, sweep_of
from models.dataset import get_dataset
from models.experiment import get_experiment
from models.run_spec import RunSpec, hyperparameters
from storage import locations
from storage.cube import Member, write_cube
from storage.layout import Layout
from storage.sweeps import read_sweep
from tasks.analysis import get_analysis


def analysed_runs(sweep: Sweep, store: str) -> dict[RunSpec, str]:
    """Specs of the whole sweep, over all calls that extended it, whose analyses are there, with their results' ids."""
    record = read_sweep(store, sweep.name)
    specs = sweep_of(record).specs if record else sweep.specs
    return {spec: cell.results for spec in specs if (cell := look_at(sweep, store, spec)).state == "done"}


def gather(sweep: Sweep, store: str) -> tuple[str, bool]:
    """Rebuild the cube unless it holds just the finished runs already; gives its URL and whether it was built."""
    url = Layout(store).cube(sweep.name)
    analysed = analysed_runs(sweep, store)
    contents = contents_of(list(analysed.values()), sweep.analyses)
    if not analysed:
        return url, False
    members = [
        Member(
            run_id=spec.run_id,
            url=Layout(store).run_store(spec.experiment, results),
            hyperparameters=hyperparameters(spec),
        )
        for spec, results in analysed.items()
    ]
    experiment = get_experiment(sweep.experiment)
    attributes = {
        "title": f"{experiment.title}: {sweep.name}",
        "sweep": sweep.name,
        "experiment": sweep.experiment,
        "preset": sweep.preset,
        "data": data_titles(sweep),
    }
    return url, rebuild(url, members, attributes, contents)


def data_titles(sweep: Sweep) -> str:
    """What the runs were trained on, with a word where it is a sample; empty for data made from nothing."""
    sets = [get_dataset(*needed) for needed in sweep.datasets]
    return "; ".join(f"{found.title} (sample data)" if found.variant == "sample" else found.title for found in sets)


def rebuild(url: str, members: Sequence[Member], attributes: Mapping[str, Any], contents: str) -> bool:
    """Write the cube unless it holds these contents already; says whether it was written."""
    if stored_contents(url) == contents:
        return False
    write_cube(url, members, {**attributes, "contents": contents})
    return True


def contents_of(results: Sequence[str], analyses: Sequence[str]) -> str:
    """What decides a cube's values: the results of its runs, by ids that say what they are of, and the analyses."""
    versions = {name: get_analysis(name).version for name in analyses}
    return json.dumps({"runs": list(results), "analyses": versions}, sort_keys=True)


def stored_contents(url: str) -> str | None:
    """What the cube at a place holds, as `contents_of` says it; None where there is none."""
    try:
        found = json.loads(locations.read(f"{url}/zarr.json"))["attributes"].get("contents")
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return str(found)
