"""Training, evaluation and decomposition keep to their device: the same as on the CPU, on a simulated GPU."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import specdyn.tasks.connect.curves
import specdyn.tasks.spectra.one_pass
import specdyn.tasks.training.replay
from helpers.simulated_gpu import CPU, GPU, DevicesMixed, GpuTensor, simulated_gpu
from reference.networks import build, checkpoint
from specdyn.models.datasets.base import get_dataset
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import experiment_names, get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.models.spec.start import Perturbation, StartFrom
from specdyn.storage.checkpoints import read_finished
from specdyn.storage.places import Store
from specdyn.tasks.connect.curves import train_control
from specdyn.tasks.data.prepare import require_data
from specdyn.tasks.evaluation.environment import cpu_only, pick_device, use_threads
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.spectra.decomposition import Factors, decompose, decompose_alike
from specdyn.tasks.spectra.one_pass import decompose_into
from specdyn.tasks.training import masks
from specdyn.tasks.training.replay import keep_states
from specdyn.tasks.training.training import Loop, train

Load = Callable[[str], tuple[RunSpec, Mapping[str, Examples]]]


def shortened(examples: Examples) -> Examples:
    """Recordings cut to a fifth of a second, as simulated LSTMs are slow; other examples as they are."""
    if examples.lengths is None:
        return examples
    return Examples(examples.inputs[:, :20], examples.targets[:, :4], examples.lengths.clamp(max=20))


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The smoke preset of an experiment, and its examples."""
    store = str(tmp_path_factory.mktemp("store"))

    def smoke(name: str) -> tuple[RunSpec, Mapping[str, Examples]]:
        spec = get_experiment(name).preset("smoke").spec
        if needed := get_experiment(name).dataset(spec):
            require_data(Store(store), get_dataset(*needed))
        return spec, {split: shortened(examples) for split, examples in load_examples(spec, Store(store)).items()}

    return smoke


def trained(spec: RunSpec, data: Examples, device: torch.device, mask: masks.Mask) -> dict[str, Tensor]:
    """Weights, the last loss and the optimizer's state after two updates, state put back between them, on the CPU."""
    experiment = get_experiment(spec.experiment)
    loop = Loop(experiment, spec, experiment.net(spec).to(device).train(), data.to(device))
    loop.updater.hold(mask)
    torch.manual_seed(0)
    loop.run(0, 1)
    loop.updater.load(*loop.updater.state())
    loss = loop.run(1, 2)
    assert loss.device.type == device.type
    weights = {name: tensor.detach().cpu() for name, tensor in loop.net.state_dict().items()}
    return {**weights, **loop.updater.state()[0], "loss": loss.cpu()}


def require_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert not isinstance(value, GpuTensor), name
        # Torch takes other kernels of attention and LSTM for such tensors.
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in experiment_names()},
    "sgd": ("image_classification", {"optimizer": "sgd", "momentum": 0.9}),
    "sharpness-aware": ("image_classification", {"optimizer": "sam"}),
    "muon": ("language_modelling", {"optimizer": "muon"}),
    "accumulated and clipped": ("language_modelling", {"accumulate": 2, "clip_norm": 0.1}),
    "norms held": ("modular_addition", {"norm_control": "initial"}),
}


@pytest.mark.parametrize("case", CASES)
def test_training_stays_on_its_device(case: str, load: Load) -> None:
    name, settings = CASES[case]
    spec, data = load(name)
    # A larger epsilon, so that AdamW moves no weight by the sign of a rounding error.
    spec = with_settings(spec, epsilon=1e-4, **settings)
    layer = next(n for n, p in get_experiment(name).net(spec).named_parameters() if p.ndim == 2)
    weights = {layer: get_experiment(name).net(spec).get_parameter(layer).detach()}
    mask = masks.magnitude(weights, 0.5)
    expected = trained(spec, data["train"], CPU, mask)
    with simulated_gpu() as gpu:
        found = trained(spec, data["train"], gpu, mask)
    require_same(found, expected)
    assert math.isfinite(float(found["loss"]))


def whole_run(spec: RunSpec, store: Store, device: torch.device) -> dict[str, Tensor]:
    """The last weights of a run that is trained, ends, keeps a state later on, and has a branch and a control point."""
    manifest = train(spec, store, device=device)
    assert manifest.status == "complete" and manifest.device == str(device)
    assert keep_states(spec, store, [4]) == 4
    branch = with_settings(
        dataclasses.replace(
            spec, start=StartFrom(run_id=spec.run_id, step=4, order=7, perturbation=Perturbation(size=0.1))
        ),
        norm_run=spec.run_id,
    )
    branched = train(branch, store, device=device)
    first, second = (read_finished(store, made, made.steps[-1]) for made in (manifest, branched))
    control = train_control(spec, store, first, second, steps=2)
    return {
        f"{of} {name}": tensor
        for of, weights in (("run", first), ("branch", second), ("control", control))
        for name, tensor in weights.items()
    }


def test_whole_runs_stay_on_their_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = get_experiment("modular_addition").preset("smoke").spec
    spec = with_settings(preset, steps=8, checkpoint_every=4, epsilon=1e-4)
    expected = whole_run(spec, Store(str(tmp_path / "cpu")), CPU)
    for module in (specdyn.tasks.training.replay, specdyn.tasks.connect.curves):
        monkeypatch.setattr(module, "pick_device", lambda: GPU)
    with simulated_gpu() as gpu:
        found = whole_run(spec, Store(str(tmp_path / "gpu")), gpu)
    require_same(found, expected)


@pytest.mark.parametrize("name", experiment_names())
def test_evaluation_stays_on_its_device(name: str, load: Load) -> None:
    spec, data = load(name)
    experiment = get_experiment(name)
    weights = experiment.net(spec).state_dict()
    expected = Evaluator(experiment, spec, experiment.net(spec), data, CPU)(weights, renormalise=True)
    with simulated_gpu() as gpu:
        found = Evaluator(experiment, spec, experiment.net(spec), data, gpu)(weights, renormalise=True)
    assert found.keys() == expected.keys()
    for metric, values in found.items():
        np.testing.assert_allclose(values, expected[metric], rtol=1e-4, atol=1e-5, err_msg=metric)


def test_data_is_once_on_the_device(load: Load) -> None:
    spec, data = load("modular_addition")
    experiment = get_experiment("modular_addition")
    with simulated_gpu() as gpu:
        evaluator = Evaluator(experiment, with_settings(spec, eval_examples=None), experiment.net(spec), data, gpu)
    held = [examples.inputs for examples in (evaluator._train, *evaluator._data.values()) if examples]
    assert len({id(tensor) for tensor in held}) == len(data)


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("held", [0, 2000, 2**28])
def test_a_checkpoint_is_decomposed_on_the_device_in_parts(
    held: int, vectors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, body = build("modular addition", miniature=True)
    weights = checkpoint(net, 0.1, 1)
    monkeypatch.setattr(specdyn.tasks.spectra.one_pass, "HELD_BYTES", held)
    monkeypatch.setattr(specdyn.tasks.spectra.one_pass, "pick_device", lambda: GPU)
    factors: dict[str, Factors] = {}
    with simulated_gpu():
        made = list(decompose_into(factors, weights, body, "run", vectors))
    matrices = body.matrices if vectors else body.layers
    assert sorted(m.name for m in made) == sorted(m.name for m in matrices) == sorted(factors)
    for matrix in matrices:
        alone = decompose(matrix.of(weights), vectors=vectors)
        assert not any(isinstance(part, GpuTensor) for part in factors[matrix.name])
        torch.testing.assert_close(factors[matrix.name].s, alone.s, rtol=1e-5, atol=1e-6)
        f = factors[matrix.name]
        if vectors:
            again = (f.left * f.s[..., None, :]) @ f.right.mT
            torch.testing.assert_close(again, matrix.of(weights), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 8), (8, 40), (12, 10), (3, 30, 5)])
def test_matrices_of_every_driver_are_decomposed_where_they_are(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    narrow = w.clone()
    narrow[..., 0] = narrow[..., 1]  # of deficient rank: float64
    for matrix in (w, narrow):
        with simulated_gpu() as gpu:
            found = decompose_alike({"w": matrix.to(gpu)}, "w")["w"]
        reference = torch.linalg.svdvals(matrix.double())
        assert float((found.s - reference).abs().max() / reference.max()) < 1e-6


def test_a_task_without_gpus_leaves_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with cpu_only():
        assert pick_device().type == "cpu"
    assert pick_device().type == "cuda"


def test_deterministic_algorithms_come_with_a_workspace_for_cublas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    use_threads(before[0])
    torch.use_deterministic_algorithms(before[1])
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_the_simulated_gpu_refuses_what_a_gpu_refuses() -> None:
    here = torch.ones(3)
    with simulated_gpu() as gpu:
        there = here.to(gpu)
        assert there.device == gpu and torch.zeros(2, device=gpu).device == gpu
        assert torch.equal((there + there).cpu(), here + here)
        assert torch.equal((there * torch.tensor(2.0)).cpu(), here + here)  # one number may be on the CPU
        assert there[torch.tensor([0, 2])].device == gpu  # and indices
        with pytest.raises(DevicesMixed):
            there + here
        with pytest.raises(DevicesMixed):
            torch.where(here > 0, there, 0.0)
        with pytest.raises(TypeError):
            there.numpy()
        with pytest.raises(TypeError):
            np.asarray(there)
        with pytest.raises(DevicesMixed):
            here[there.long()]
