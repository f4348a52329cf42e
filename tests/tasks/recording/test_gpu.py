"""Recording on a GPU, on a real one where there is one: nothing waits for it in the loop."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from helpers.recorded import Loop
from helpers.simulated_gpu import GPU, GpuTensor, simulated_gpu
from specdyn.storage.places import Store
from specdyn.storage.recordings import read_lines, read_step
from specdyn.tasks.recording import copies
from specdyn.tasks.recording.recorder import Recorder
from specdyn.tasks.recording.spectra import open_spectra


class Event:
    """An event of a stream on which everything happens at once."""

    waited: list[str]

    def record(self, stream: object) -> None:
        assert stream == "stream"

    def synchronize(self) -> None:
        self.waited.append(threading.current_thread().name)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Threads that read a number from the simulated GPU, or wait for it."""
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "Event", type("Event", (Event,), {"waited": waited}))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    monkeypatch.setattr(copies, "_pinned", lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
    real = GpuTensor.__float__

    def read(tensor: GpuTensor) -> float:
        waited.append(threading.current_thread().name)
        return real(tensor)

    monkeypatch.setattr(GpuTensor, "__float__", read)
    with simulated_gpu():
        yield waited


def moved(loop: Loop) -> Loop:
    loop.net.to(GPU)
    loop.inputs, loop.targets = loop.inputs.to(GPU), loop.targets.to(GPU)
    loop.optimizer = torch.optim.SGD(loop.net.parameters(), lr=0.1)
    return loop


def test_the_loop_waits_for_nothing_and_copies_are_of_their_steps(on_gpu: list[str], local_store: Store) -> None:
    loop = moved(Loop())
    expected: dict[int, tuple[dict[str, Tensor], float]] = {}
    with Recorder(str(local_store), "run", every=2) as recorder:
        for step in range(1, 6):
            loss = loop.update()
            recorder.step(step, loop.net, train_loss=loss)
            expected[step] = ({n: w.detach().cpu().clone() for n, w in loop.net.state_dict().items()}, loss.item())
    assert recorder.errors == []
    assert set(on_gpu) == {"checkpoint-writer"}
    place = local_store.recording("run")
    for step in (1, 2, 4, 5):
        found, (weights, loss) = read_step(place.checkpoint(step)), expected[step]
        assert all(torch.equal(w, weights[name]) for name, w in found.items())
        assert read_lines(place.lines(step)) == {step: {"train_loss": pytest.approx(loss)}}


def test_singular_values_are_computed_where_the_weights_are(on_gpu: list[str], local_store: Store) -> None:
    loop = moved(Loop())
    with Recorder(str(local_store), "run", keep="spectra") as recorder:
        recorder.step(0, loop.net)
    assert recorder.errors == []
    found = open_spectra(str(local_store), "run").sel(layer="4.weight", step=0).singular_value.values
    s = torch.linalg.svdvals(loop.net[4].weight.detach().cpu().double())
    torch.testing.assert_close(torch.from_numpy(found[: len(s)]).double(), s, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_real_gpu_is_not_waited_for(local_store: Store) -> None:
    loop = moved(Loop())
    expected: dict[int, dict[str, Tensor]] = {}
    with Recorder(str(local_store), "run", every=2) as recorder:
        for step in range(1, 40):
            loop.update()
            torch.cuda.set_sync_debug_mode("error")
            recorder.step(step, loop.net)
            torch.cuda.set_sync_debug_mode("default")
            expected[step] = {name: w.detach().clone() for name, w in loop.net.state_dict().items()}
    assert recorder.errors == []
    for step in (1, 2, 20, 39):
        found = read_step(local_store.recording("run").checkpoint(step))
        assert all(torch.equal(w, expected[step][name].cpu()) for name, w in found.items())
