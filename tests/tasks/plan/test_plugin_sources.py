"""What an edit of a plug-in does: analyses are measured again, experiments make other runs, nothing is lost."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import plugins
from helpers.analysed import NAME, analyse, train
from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import experiment_of, get_experiment, read_spec
from specdyn.models.plugins import places
from specdyn.models.spec.run_spec import hyperparameters, to_json
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import read_manifest
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.studies import read_study
from specdyn.tasks.care.garbage import find_garbage
from specdyn.tasks.care.remove import plan_removal, remove
from specdyn.tasks.care.repair import verify_study
from specdyn.tasks.care.thin import plan_thinning
from specdyn.tasks.data.prepare import load, prepare
from specdyn.tasks.identity import known_results_id
from specdyn.tasks.plan.branching.graph import Graph, connectivity_graph, trunk_specs
from specdyn.tasks.plan.branching.records import read_graphs
from specdyn.tasks.plan.cells import look_at
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.sweeps import Sweep, make_sweep, other_sources, sweep_of

IMPORTS = "from .helper import NUMBER"


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an experiment, which imports a helper, and an analysis; named as the place of plug-ins."""
    folder = tmp_path / "lab"
    plugins.analysis(folder)
    plugins.write(folder, "helper", "NUMBER = 1\n")
    plugins.experiment(folder, imports=IMPORTS)
    monkeypatch.setenv(places.PATHS, str(folder))
    places.forget()
    yield folder
    places.forget()


def edited(edit: Callable[[], object]) -> None:
    """What a next command finds after an edit."""
    edit()
    places.forget()


def scaled(*analyses: str) -> Sweep:
    return make_sweep("scaled", "smoke", sweep="mine", analyses=analyses or ("spectrum", "largest"))


def test_an_edited_analysis_alone_is_measured_again(lab: Path, local_store: Store) -> None:
    sweep = make_sweep(NAME, "smoke", [0.0], [0], "decay", ("spectrum", "largest"), settings={"steps": 20})
    analyse(sweep, local_store.url)
    gather(sweep, local_store, report=False)
    before = open_results(local_store.cube("decay"))["layers"]["largest"].values
    files = set(objects.find(local_store.url))
    edited(lambda: plugins.analysis(lab, factor=3))
    (cell,) = sweep.cells(local_store)
    assert cell.state == "trained"
    assert set(cell.missing.values()) == {("largest",)}
    analyse(sweep, local_store.url)
    gather(sweep, local_store, report=False)
    new = {name for name in set(objects.find(local_store.url)) - files if name.startswith("results/")}
    assert len(new) == len(cell.missing), "an object a block"
    cube = open_results(local_store.cube("decay"))
    np.testing.assert_allclose(cube["layers"]["largest"].values, 3 * before, rtol=1e-6)
    source = cube.attrs["analyses"]["largest"].removeprefix("1+")
    assert len(source) == 16
    assert cube.attrs["analyses"]["spectrum"] == 1
    edited(lambda: plugins.analysis(lab, factor=1))
    assert sweep.cells(local_store)[0].state == "done", "what was measured before counts again"


def test_without_the_plugin_its_values_do_not_count(
    lab: Path, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(NAME, "smoke", [0.0], [0], "decay", ("spectrum", "largest"), settings={"steps": 20})
    analyse(sweep, local_store.url)
    monkeypatch.setenv(places.OFF, "1")
    plain = make_sweep(NAME, "smoke", [0.0], [0], "decay", ("spectrum",), settings={"steps": 20})
    assert plain.cells(local_store)[0].state == "done"
    gather(plain, local_store, report=False)
    assert "largest" not in open_results(local_store.cube("decay"))["layers"]


@pytest.mark.parametrize("what", ["file", "helper"])
def test_an_edited_experiment_makes_other_runs_and_keeps_the_old_ones(what: str, lab: Path, local_store: Store) -> None:
    def edit(number: int) -> None:
        if what == "file":
            plugins.experiment(lab, factor=number, imports=IMPORTS)
        else:
            plugins.write(lab, "helper", f"NUMBER = {number}\n")

    first = scaled()
    analyse(first, local_store.url)
    gather(first, local_store, report=False)
    (spec,) = first.specs
    assert json.loads(to_json(spec))["source"] == get_experiment("scaled").source == hyperparameters(spec)["source"]
    assert other_sources(local_store, "mine", "sweep") == ""
    edited(lambda: edit(2))
    second = scaled()
    assert second.specs[0].run_id != spec.run_id
    assert second.cells(local_store)[0].state == "new"
    with pytest.raises(
        ValueError, match=f"run {spec.run_id} is of scaled with source='{spec.source}', but .*scaled.py"
    ):
        train(spec, str(local_store))
    analyse(second, local_store.url)
    gather(second, local_store, report=False)
    assert open_results(local_store.cube("mine"))["layers"]["run"].values.tolist() == [second.specs[0].run_id]
    told = other_sources(local_store, "mine", "sweep")
    assert (
        told
        == "1 run of mine is of another version of scaled's source: kept, and included again if that source is restored"
    )
    record = read_study(local_store, "mine", "sweep")
    assert record is not None
    assert sweep_of(record).specs == second.specs
    edited(lambda: edit(1))
    assert scaled().specs == first.specs
    assert scaled().cells(local_store)[0].state == "done"


def test_a_graph_has_runs_of_one_source(lab: Path, local_store: Store) -> None:
    def graph() -> Graph:
        return connectivity_graph("lines", trunk_specs("scaled", "smoke", [0], {}), [0], [1, 2])

    first = graph()
    first.record(local_store)
    edited(lambda: plugins.experiment(lab, factor=2))
    second = graph()
    assert first.runs.keys().isdisjoint(second.runs)
    assert not second.recorded(local_store)
    second.record(local_store)
    assert second.recorded(local_store)
    record = read_study(local_store, "lines", "connectivity")
    assert record is not None
    assert len(record.pairs) == 2 * len(second.pairs)
    (found,) = read_graphs(local_store, "lines")
    assert (found.runs, found.pairs) == (second.runs, second.pairs)
    edited((lab / "scaled.py").unlink)
    with pytest.raises(ValueError, match=r"unknown experiment 'scaled'.*add your own with --plugins"):
        read_graphs(local_store, "lines")


def test_a_spec_without_source_is_not_trained(local_store: Store) -> None:
    (spec,) = scaled().specs
    with pytest.raises(ValueError, match=r"is of scaled with source=''.*start from a preset of the present file"):
        train(replace(spec, source=""), str(local_store))
    with pytest.raises(ValueError, match="unknown setting of scaled 'source'"):
        with_settings(spec, source="")


@pytest.mark.parametrize("how", ["gone", "edited", "broken"])
def test_runs_of_what_is_not_there_any_more_are_known_and_kept(how: str, lab: Path, local_store: Store) -> None:
    sweep = scaled()
    analyse(sweep, local_store.url)
    gather(sweep, local_store, report=False)
    (spec,) = sweep.specs
    manifest = read_manifest(local_store.run_of(spec))
    assert manifest is not None
    file = lab / "scaled.py"
    edits = {
        "gone": file.unlink,
        "edited": lambda: plugins.experiment(lab, factor=2),
        "broken": lambda: file.write_text("EXPERIMENT ="),
    }
    edited(edits[how])
    found = read_spec(manifest.spec, "scaled")
    assert (to_json(found), found.run_id) == (manifest.spec, spec.run_id)
    assert found == read_spec(manifest.spec, "scaled")
    assert hyperparameters(found)["source"] == spec.source
    assert known_results_id(manifest) == ""
    with pytest.raises(ValueError, match="scaled"):
        experiment_of(found)
    assert find_garbage(local_store, older_than=-60).things == ()
    assert verify_study(local_store, "mine").damage == ()
    assert list(plan_thinning(local_store, "mine", 2).whole.values()) == ["its experiment is missing or has changed"]
    assert {thing.kind for thing in plan_removal(local_store, "mine").things} == {"studies", "runs"}
    remove(local_store, "mine")
    assert [key for key in objects.find(local_store.url) if not key.startswith("leases/")] == []


DATASETS = """
import numpy as np
from specdyn.models.datasets.base import Dataset, RemoteFile

def decode(paths):
    image = np.full((6, 1, 2, 2), {value}, np.uint8)
    return {{"image": image, "label": np.arange(6) % 2}}, {{}}

DATASETS = {{
    "full": Dataset(
        name="dots", variant="full", kind="images", title="Dots", files=(RemoteFile(url="{url}"),), decode=decode,
        params={{"classes": 2, "shape": (6, 1, 2, 2)}}, licence="none", attribution="nobody",
    )
}}
"""


def test_runs_on_a_data_set_that_was_edited_are_trained_again(
    lab: Path, tmp_path: Path, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECDYN_DATA", str(tmp_path / "cache"))
    (tmp_path / "dots.bin").write_bytes(b"dots")
    url = (tmp_path / "dots.bin").as_uri()
    plugins.write(lab, "dots", DATASETS.format(value=1, url=url))
    text = (lab / "scaled.py").read_text()
    (lab / "scaled.py").write_text(
        text.replace('usual="smoke"', 'usual="smoke", dataset=lambda spec: ("dots", "full")')
    )
    places.forget()
    prepare(local_store, get_dataset("dots", "full"))
    sweep = scaled("spectrum")
    analyse(sweep, local_store.url)
    before = read_manifest(local_store.run_of(sweep.specs[0]))
    assert before is not None
    assert before.origins == {"data set dots/full": get_dataset("dots", "full").key}
    assert sweep.cells(local_store)[0].state == "done"
    edited(lambda: plugins.write(lab, "dots", DATASETS.format(value=2, url=url)))
    cell = look_at(sweep.specs[0], "run", ("spectrum",), local_store)
    assert (cell.state, cell.reason) == (
        "damaged",
        "the source of its data set dots/full has changed",
    )
    prepare(local_store, get_dataset("dots", "full"))
    assert load(local_store, get_dataset("dots", "full"))["image"].max() == 2
    analyse(sweep, local_store.url)
    assert sweep.cells(local_store)[0].state == "done"
    after = read_manifest(local_store.run_of(sweep.specs[0]))
    assert after is not None
    assert after.origins != before.origins
