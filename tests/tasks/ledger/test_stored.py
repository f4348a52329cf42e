"""What a report says of what the store holds: as large as the files are, and as the manifests say."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.analysed import NAME, analyse
from helpers.branched import carry_out, graph_in
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.settings import with_settings
from specdyn.models.wording import size
from specdyn.storage.places import Store
from specdyn.storage.studies import records_of
from specdyn.tasks.care.thin import thin
from specdyn.tasks.ledger.stored import Stored, StoredRun, stored_by
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.sweeps import Sweep

SPEC = with_settings(get_experiment(NAME).preset("smoke").spec, steps=20, checkpoint_every=10)
STEPS = "step=*.safetensors"
"""Names of checkpoints in the folder of a run; its state of training is in another one inside."""
DIVERGING = with_settings(SPEC, learning_rate=1e30)


def swept(store: Store) -> Sweep:
    """A sweep of two runs, of which one diverges, with its page."""
    sweep = Sweep(name="hand", experiment=NAME, preset="smoke", specs=(SPEC, DIVERGING), analyses=("spectrum",))
    analyse(sweep, store.url)
    gather(sweep, store, report=True)
    return sweep


def bytes_of(*places: str, files: str = "**/*") -> int:
    return sum(file.stat().st_size for place in places for file in Path(place).glob(files) if file.is_file())


def manifest_of(store: Store, run_id: str) -> dict[str, Any]:
    return dict(json.loads(Path(store.run(NAME, run_id).manifest).read_text()))


def parts_of(page: str) -> dict[str, dict[str, str]]:
    """Name and value of each line of the list of a run, by its id, and of the table of all; the failed runs."""
    text = Path(page).read_text()
    lists = re.findall(r'<h4 id="run-(\w+)">.*?<dl>(.*?)</dl>', text, re.DOTALL)
    found = {run: dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", lines)) for run, lines in lists}
    (table,) = re.findall(r"<h3>What the store holds</h3>.*?<table.*?>(.*?)</table>", text, re.DOTALL)
    found["all"] = dict(re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', table))
    failed = re.findall(r'<ul class="failed">(.*?)</ul>', text, re.DOTALL)
    found["failed"] = dict(one.split(": ", 1) for part in failed for one in re.findall("<li>(.*?)</li>", part))
    return {name: {key: html.unescape(value) for key, value in of.items()} for name, of in found.items()}


def test_the_page_of_a_sweep_says_what_is_stored_and_why_a_run_failed(local_store: Store) -> None:
    swept(local_store)
    page = parts_of(f"{local_store.report('hand')}/index.html")
    manifest, failed = (manifest_of(local_store, spec.run_id) for spec in (SPEC, DIVERGING))
    places = [local_store.run_of(spec).folder for spec in (SPEC, DIVERGING)]
    run = page[SPEC.run_id]
    assert run["checkpoints"] == f"3, {size(bytes_of(places[0], files=STEPS))}"
    assert run["results"] == size(bytes_of(local_store.measured("runs", NAME), files=f"{SPEC.run_id}-*/*"))
    assert run["training"] == f"{manifest['seconds']:.3g} s"
    assert run["machine"] == f"{manifest['device']}, {manifest['processor']}, {manifest['threads']} thread"
    assert dict(one.split(" ", 1) for one in run["versions"].split(", ")) == manifest["versions"]
    count = len(failed["checkpoints"])
    everything = page["all"]
    assert everything["checkpoints"] == f"{size(bytes_of(*places, files=STEPS))} in {3 + count} checkpoints of 2 runs"
    assert everything["results"] == f"{run['results']} of 1 run"
    assert everything["machine"] == run["machine"]
    assert {name: everything[name] for name in manifest["versions"]} == manifest["versions"]
    assert {"python", "torch"} <= manifest["versions"].keys()
    ((name, reason),) = page["failed"].items()
    assert DIVERGING.run_id in name and "learning rate 1e+30" in name
    assert reason == failed["reason"] and "NaN or infinite" in reason


def test_checkpoints_that_were_removed_are_not_counted(local_store: Store) -> None:
    swept(local_store)
    run = local_store.run_of(SPEC)
    before = stored_by(local_store, records_of(local_store, "hand"), local_store.cube("hand")).runs[SPEC.run_id]
    thin(local_store, "hand", keep_every=100)
    after = stored_by(local_store, records_of(local_store, "hand"), local_store.cube("hand")).runs[SPEC.run_id]
    assert (before.checkpoints, after.checkpoints) == (3, 2)
    assert after.bytes == bytes_of(run.folder, files=STEPS) < before.bytes


@pytest.mark.parametrize("which", ["connect", "tickets"])
def test_the_page_of_a_graph_says_what_its_rows_and_runs_hold(which: str, tmp_path: Path) -> None:
    graph, store = graph_in(str(tmp_path / "store"), which)
    carry_out(graph, store, report=True)
    page = parts_of(graph.results(store).report[0])
    kind = "pairs" if which == "connect" else "tickets"
    folders = [store.run(NAME, run_id).folder for run_id in graph.runs]
    results = {file.stat().st_size for file in Path(store.measured(kind, NAME)).iterdir()}
    assert page["all"]["results"].startswith(f"{size(bytes_of(store.measured(kind, NAME)))} of ")
    number = sum(len(manifest_of(store, run_id)["checkpoints"]) for run_id in graph.runs)
    said = f"{size(bytes_of(*folders, files=STEPS))} in {number} checkpoints of {len(folders)} runs"
    assert page["all"]["checkpoints"] == said
    rows = [of for name, of in page.items() if name not in ("all", "failed")]
    assert len(rows) == len(graph.pairs) + len(graph.tickets)
    assert {row["results"] for row in rows} <= set(map(size, results))
    assert all(("checkpoints" in row) == (which == "tickets") for row in rows)
    assert page["failed"] == {}


def test_what_runs_differ_in_is_said_with_their_numbers() -> None:
    def run(name: str, torch: str) -> StoredRun:
        return StoredRun(
            run_id=name,
            status="complete",
            reason="",
            checkpoints=2,
            bytes=1500,
            seconds=1.0,
            machine="cpu, 1 thread",
            versions={"torch": torch},
        )

    runs = {name: run(name, torch) for name, torch in (("a", "2.13"), ("b", "2.12"), ("c", "2.13"))}
    assert Stored(runs=runs, results={"x": 250, "y": 1}).totals(["x/of", "", "gone"], "run") == {
        "checkpoints": "4.5 kB in 6 checkpoints of 3 runs",
        "results": "250 Bytes of 1 run",
        "machine": "cpu, 1 thread",
        "torch": "2.12 (1 run); 2.13 (2 runs)",
    }
    assert Stored().totals([], "run") == {}
