"""Recording trainings of several processes: whole tensors, one writer, no hang."""

import pytest
import torch

from helpers.spread import together
from helpers.spread_loops import cut_short, most_at_a_time, refused, trained
from specdyn.storage.places import Recording, Store
from specdyn.storage.recordings import read_lines, read_recording, read_step, recorded_steps
from specdyn.tasks.recording.recorder import Recorder
from specdyn.tasks.recording.spectra import open_spectra

pytestmark = pytest.mark.scenario  # each test starts Python with torch in two processes


@pytest.fixture
def place(local_store: Store) -> Recording:
    return local_store.recording("run")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """What one process records."""
    store = Store(str(tmp_path_factory.mktemp("alone")))
    assert trained("alone", str(store)) == ([], [], False)
    return store.recording("run")


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_what_is_recorded_is_what_one_process_records(kind: str, place: Recording, alone: Recording) -> None:
    assert together(trained, kind, str(place.store)) == 2 * [([], [], kind == "fsdp")]
    assert recorded_steps(place.folder) == recorded_steps(alone.folder) == [0, 10, 20, 25]
    for step in (0, 10, 20, 25):
        found, expected = read_step(place.checkpoint(step)), read_step(alone.checkpoint(step))
        assert (
            list(found)
            == list(expected)
            == ["first.weight", "second.weight", "second.bias", "last.weight", "last.bias"]
        )
        for name, w in found.items():
            torch.testing.assert_close(w, expected[name], rtol=1e-5, atol=1e-6)
    assert read_lines(place.lines(20))[20]["train_loss"] == pytest.approx(read_lines(alone.lines(20))[20]["train_loss"])
    told = read_recording(place)
    assert told is not None and told.finished and told.tied == {"tied.weight": "first.weight"}


def test_singular_values_of_tensors_in_pieces_match_whole_ones(place: Recording, alone: Recording) -> None:
    assert together(_spectra, str(place.store), processes=3) == 3 * [[]]  # the last layer has fewer rows than that
    found = open_spectra(str(place.store), "run")
    for name in ("first.weight", "second.weight", "last.weight"):
        s = torch.linalg.svdvals(read_step(alone.checkpoint(20))[name].double())
        values = torch.from_numpy(found.singular_value.sel(layer=name, step=20).values[: len(s)]).double()
        torch.testing.assert_close(values, s, rtol=1e-5, atol=1e-5)


def _spectra(store: str) -> list[str]:
    return trained("fsdp", store, keep="spectra")[0]


@pytest.mark.parametrize("keep", ["checkpoints", "spectra"])
def test_a_process_has_one_whole_tensor_at_a_time(keep: str, place: Recording) -> None:
    assert together(most_at_a_time, str(place.store), keep) == [1, 1]


def test_a_refusal_reaches_every_process(place: Recording) -> None:
    with Recorder(str(place.store), "run", settings={"seed": 0}):
        pass
    for rank, said in enumerate(together(refused, str(place.store))):
        assert said.startswith(f"{rank}: ") and "recorded with settings={'seed': 0}" in said


def test_a_process_that_fails_alone_does_not_wait_for_the_others(place: Recording) -> None:
    assert together(cut_short, str(place.store))[0] == []
    assert recorded_steps(place.folder) == [0]
