"""A series that grows costs only what is new, and its results are those of a series that was whole from the start."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.probe import require_store
from specdyn.storage.rows import row_values
from specdyn.tasks.care.repair import repair, verify_study
from specdyn.tasks.foreign import kept
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.series import SeriesStudy, analyse_series, choose
from specdyn.tasks.plan.sources import look
from specdyn.tasks.spectra import one_pass
from specdyn.tasks.spectra.analysis import get_analysis

SHAPES = {"a.weight": (12, 9), "b.weight": (7, 12), "c.weight": (5, 7)}
EVERY = choose(None)
ALONE = tuple(name for name in EVERY if get_analysis(name).depends == "own")


def weights(step: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}


def save(folder: Path, *steps: int, without: str = "", resized: str = "") -> None:
    folder.mkdir(exist_ok=True)
    for step in steps:
        tensors = {name: w for name, w in weights(step).items() if name != without}
        if resized:
            tensors[resized] = torch.cat([tensors[resized], tensors[resized][:2]])
        save_file(tensors, folder / f"step={step}.safetensors")


def analysed(folder: Path, store: Store, analyses: tuple[str, ...] = EVERY) -> int:
    """Analyse what is missing; the decompositions that it took."""
    return analyse_series(ThisProcess(), lambda _: None, look(str(folder)), analyses, store).decompositions


def values(folder: Path, store: Store, analyses: tuple[str, ...] = EVERY) -> dict[str, np.ndarray]:
    study = SeriesStudy(name="theirs", sources=(look(str(folder)),), analyses=analyses, audited=False)
    results = study.results(store)
    assert results.complete
    (row,) = results.rows
    return row_values(row, None)


def require_same(folder: Path, store: Store, fresh: Store, analyses: tuple[str, ...] = EVERY) -> None:
    analysed(folder, fresh, analyses)
    expected = values(folder, fresh, analyses)
    found = values(folder, store, analyses)
    assert found.keys() == expected.keys() and len(expected) > 1
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True, err_msg=name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "series", 0, 10, 20)
    return tmp_path / "series"


@pytest.fixture
def fresh(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "fresh"))


@pytest.mark.parametrize("analyses", [EVERY, ALONE, ("spectrum",), ("agreement",)])
def test_only_new_checkpoints_are_decomposed(
    analyses: tuple[str, ...], folder: Path, local_store: Store, fresh: Store
) -> None:
    assert analysed(folder, local_store, analyses) == 3 * len(SHAPES)
    assert analysed(folder, local_store, analyses) == 0
    save(folder, 30)
    assert analysed(folder, local_store, analyses) == len(SHAPES)
    save(folder, 40, 50)
    assert analysed(folder, local_store, analyses) == 2 * len(SHAPES)
    save(folder, 15)
    assert analysed(folder, local_store, analyses) == len(SHAPES)
    require_same(folder, local_store, fresh, analyses)


def test_files_that_were_touched_cost_nothing_and_other_content_is_measured(
    folder: Path, local_store: Store, fresh: Store
) -> None:
    analysed(folder, local_store)
    os.utime(folder / "step=10.safetensors", (1, 1))
    assert analysed(folder, local_store) == 0
    save_file({name: 2 * w for name, w in weights(10).items()}, folder / "step=10.safetensors")
    assert analysed(folder, local_store) == len(SHAPES)
    require_same(folder, local_store, fresh)


def test_further_analyses_decompose_nothing_again(folder: Path, local_store: Store, fresh: Store) -> None:
    analysed(folder, local_store, ("agreement",))
    assert analysed(folder, local_store, ("agreement", "agreement_previous", "alignment")) == 0
    require_same(folder, local_store, fresh, ("agreement", "agreement_previous", "alignment"))


def test_factors_that_would_take_too_much_are_not_kept_but_for_the_ends(
    folder: Path, local_store: Store, fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LARGEST", 10)
    assert analysed(folder, local_store) == 3 * len(SHAPES)
    assert len(objects.names(f"{local_store.scratch}/{objects.names(local_store.scratch)[0]}")) == 2
    save(folder, 30)
    # That of the middle has to be made again, as it is compared with another last one.
    assert analysed(folder, local_store) == 2 * len(SHAPES)
    require_same(folder, local_store, fresh)
    save(folder, 40)
    assert analysed(folder, local_store, ALONE) == len(SHAPES)


def test_factors_of_checkpoints_that_are_gone_are_removed(folder: Path, local_store: Store) -> None:
    analysed(folder, local_store)
    (folder / "step=10.safetensors").unlink()
    save(folder, 30)
    assert analysed(folder, local_store) == len(SHAPES)
    (series,) = objects.names(local_store.scratch)
    assert len(objects.names(f"{local_store.scratch}/{series}")) == 3


def test_layers_that_come_and_go_are_analysed_where_they_are(folder: Path, local_store: Store) -> None:
    save(folder, 10, without="b.weight")
    save(folder, 30, without="a.weight")
    save(folder, 20, resized="c.weight")
    names = list(look(str(folder)).layout.layers)
    steps = (0, 10, 20, 30)
    there = {
        (layer, step)
        for layer in SHAPES
        for step in steps
        if (layer, step) not in {("b.weight", 10), ("a.weight", 30), ("c.weight", 20)}
    }
    assert analysed(folder, local_store) == len(there)
    found = values(folder, local_store)
    for i, layer in enumerate(layer.name for layer in names):
        for j, step in enumerate(steps):
            s = np.linalg.svd(weights(step)[layer].double().numpy())[1]
            got = found["singular_value"][i, j][: len(s)]
            if (layer, step) in there:
                np.testing.assert_allclose(got, s, rtol=1e-5, err_msg=f"{layer} {step}")
            else:
                assert np.isnan(got).all()
            compared = (layer, step) in there and (layer, steps[-1]) in there
            assert np.isnan(found["agreement_score"][i, j]) != compared, f"{layer} {step}"
            moved = (layer, step) in there and (layer, 0) in there
            assert np.isnan(found["distance_from_initial"][i, j]) != moved, f"{layer} {step}"
            assert np.isnan(found["frobenius_norm"][i, j]) != ((layer, step) in there)
    assert np.isnan(found["trajectory_participation_ratio"]).all(), "no layer is in all checkpoints"


def test_an_analysis_sees_only_the_checkpoint_that_it_declares(
    folder: Path, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its results would stay where that checkpoint is another one."""
    own = get_analysis("spectrum")
    sly = replace(own, compute=lambda view: {"singular_value": view.final.factors[view.layer.name].s.numpy()})
    monkeypatch.setattr(one_pass, "get_analysis", lambda name: sly)
    with pytest.raises(RuntimeError, match=r"'spectrum' failed .* does not declare: set compares='final'"):
        analysed(folder, local_store, ("spectrum",))


def test_kept_factors_that_were_damaged_are_made_again(folder: Path, local_store: Store, fresh: Store) -> None:
    analysed(folder, local_store)
    kept_ones = [path for path in Path(local_store.scratch).rglob("*.safetensors") if path.is_file()]
    for path in kept_ones:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    save(folder, 30)
    for _ in kept_ones:
        try:
            analysed(folder, local_store)
            break
        except (StoreError, RuntimeError) as error:  # the latter where an analysis reads them
            assert "damaged factors, now removed" in str(error)  # noqa: PT017 - one at a time
    require_same(folder, local_store, fresh)


def save_list(file: Path, *steps: int) -> None:
    """All checkpoints in one file, as some programs keep them, which is written again with each."""
    torch.save({"state_dicts": [weights(step) for step in steps], "steps": list(steps)}, file)


def test_a_file_that_holds_a_series_and_is_written_again_costs_only_what_is_new(
    tmp_path: Path, local_store: Store, fresh: Store
) -> None:
    file = tmp_path / "all.pt"
    save_list(file, 0, 10)
    assert analysed(file, local_store) == 2 * len(SHAPES)
    save_list(file, 0, 10)
    assert analysed(file, local_store) == 0
    save_list(file, 0, 10, 20)
    assert analysed(file, local_store) == len(SHAPES)
    save_list(file, 0, 10, 20, 30, 40)
    assert analysed(file, local_store) == 2 * len(SHAPES)
    require_same(file, local_store, fresh)
    torch.save({"state_dicts": [weights(0), weights(11), weights(20)], "steps": [0, 10, 20]}, file)
    assert analysed(file, local_store) == len(SHAPES), "one has other tensors"
    assert values(file, local_store)["singular_value"].shape[1] == 3


def test_a_lost_result_is_named_and_measured_again_though_older_ones_are_there(
    folder: Path, local_store: Store, fresh: Store
) -> None:
    require_store(local_store.url)
    for steps in ((), (30,), (40,)):
        save(folder, *steps)
        analysed(folder, local_store)
    study = SeriesStudy(name="theirs", sources=(look(str(folder)),), analyses=EVERY, audited=False)
    study.record(local_store)
    gather(study, local_store, report=False)
    (row,) = study.results(local_store).rows
    there = [url for url in objects.find(local_store.results) if "/" in url]
    assert len(there) > len(row.parts), "those that compared with earlier last checkpoints are there too"
    assert verify_study(local_store).damage == ()
    lost = sorted(row.parts)[len(row.parts) // 2]
    objects.delete(lost)
    (damage,) = verify_study(local_store).damage
    assert (damage.kind, damage.url, damage.what) == ("result", lost, "is missing, though the cube has its values")
    assert [one.then for one in repair(local_store)] == ["the next call measures it again"]
    analysed(folder, local_store)
    assert objects.exists(lost) and verify_study(local_store).damage == ()
    require_same(folder, local_store, fresh)
