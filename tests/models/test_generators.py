"""One place seeds, saves and puts back every random generator in use; whatever draws goes through it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from specdyn.models import generators
from specdyn.models.experiments.base import get_experiment
from specdyn.models.generators import Generator, kept, put_back, seed, states
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.places import Store
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.training.numerics import numerics
from specdyn.tasks.training.optimizers import Updater
from specdyn.tasks.training.state import load_state, pack_state

CPU = torch.device("cpu")
DEVICES = [
    pytest.param(CPU, id="cpu"),
    pytest.param(
        torch.device("cuda"), id="cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]
SMOKE = get_experiment("modular_addition").preset("smoke").spec

Draw = Callable[[], list[float]]


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Draws from a second generator, which stands for that of a device, in use besides the CPU's."""
    second = torch.Generator().manual_seed(1)
    both = (
        Generator("cpu", torch.get_rng_state, torch.set_rng_state),
        Generator("other", second.get_state, second.set_state),
    )
    monkeypatch.setattr(generators, "generators", lambda device: both)
    monkeypatch.setattr(generators, "new_state", lambda kind, value: torch.Generator().manual_seed(value).get_state())
    return lambda: torch.rand(3, generator=second).tolist()


def drawn(device: torch.device) -> tuple[list[float], list[float]]:
    return torch.rand(3).tolist(), torch.rand(3, device=device).tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_what_was_saved_is_drawn_again(device: torch.device) -> None:
    with kept(device):
        before = states(device)
        assert set(before) == {"cpu", device.type}
        first = drawn(device)
        assert drawn(device) != first
        put_back(before, device)
        assert drawn(device) == first


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_drawn_inside_leaves_no_trace_outside(device: torch.device) -> None:
    @kept(device, 3)
    def failing() -> None:
        drawn(device)
        raise ZeroDivisionError

    with kept(device, 7):
        with kept(device):
            expected = drawn(device)
        with pytest.raises(ZeroDivisionError):
            failing()
        assert drawn(device) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_a_seed_draws_what_torch_draws_from_it(device: torch.device) -> None:
    with torch.random.fork_rng(devices=[] if device == CPU else [device]):
        torch.manual_seed(11)
        expected = drawn(device)
        seed(11, device)
        assert drawn(device) == expected


def sam(net: nn.Module) -> Updater:
    return Updater(with_settings(SMOKE, optimizer="sam", weight_decay=0.0), net)


@pytest.mark.parametrize("device", DEVICES)
def test_both_passes_of_sam_draw_the_same_noise_on_the_device_of_the_network(device: torch.device) -> None:
    net, noise = nn.Linear(3, 2).to(device), []

    def losses() -> list[Tensor]:
        noise.append(drawn(device))
        return [net(torch.ones(1, 3, device=device)).square().sum()]

    sam(net)(0, 0.1, losses)
    assert len(noise) == 2
    assert noise[0] == noise[1]


def test_both_passes_of_sam_draw_the_same_noise_from_every_generator_in_use(other: Draw) -> None:
    net, noise = nn.Linear(3, 2), []

    def losses() -> list[Tensor]:
        noise.append((torch.rand(3).tolist(), other()))
        return [net(torch.ones(1, 3)).square().sum()]

    sam(net)(0, 0.1, losses)
    assert noise[0] == noise[1]
    assert noise[0] != (torch.rand(3).tolist(), other())


def test_a_resumed_training_draws_on_from_every_generator_in_use(other: Draw) -> None:
    updater = sam(nn.Linear(3, 2))
    tensors, body = pack_state(updater)
    assert {name for name in tensors if name.startswith("generator/")} == {"generator/cpu", "generator/other"}
    expected = torch.rand(3).tolist(), other()
    load_state(updater, tensors, body)
    assert (torch.rand(3).tolist(), other()) == expected


def test_a_state_kept_on_a_machine_without_the_device_leaves_its_generator_alone(other: Draw) -> None:
    updater = sam(nn.Linear(3, 2))
    tensors, body = pack_state(updater)
    expected = torch.rand(3).tolist()
    first = other()
    del tensors["generator/other"]
    load_state(updater, tensors, body)
    assert torch.rand(3).tolist() == expected
    assert other() != first


def test_training_and_evaluation_and_initialisation_leave_every_generator_alone(other: Draw, tmp_path: Path) -> None:
    experiment, spec = get_experiment(SMOKE.experiment), SMOKE
    net = experiment.net(spec)
    evaluate = Evaluator(experiment, spec, net, load_examples(spec, Store(str(tmp_path))), CPU)
    before = states(CPU)
    expected = torch.rand(3).tolist(), other()

    def leaves_no_trace(work: Callable[[], object]) -> bool:
        put_back(before, CPU)
        work()
        return (torch.rand(3).tolist(), other()) == expected

    def training(spec: RunSpec = spec) -> None:
        with numerics(spec, CPU):
            seed(5, CPU)
            torch.rand(3)
            other()

    assert leaves_no_trace(lambda: experiment.net(spec))
    assert leaves_no_trace(lambda: evaluate(net.state_dict(), renormalise=True))
    assert leaves_no_trace(training)


ROOT = Path(__file__).parents[2]
GLOBAL = re.compile(r"manual_seed|[gs]et_rng_state|fork_rng|\b(?:np\.)?random\.(?:seed|shuffle|random|rand|normal)\(")
MODULES = sorted(path for package in ("models", "storage", "tasks", "flows") for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_touches_the_generators_that_all_share(path: Path) -> None:
    """Generators of one's own, as `torch.Generator().manual_seed(0)`, are free."""
    source = path.read_text().replace("Generator().manual_seed(", "")
    if path.name != "generators.py":
        assert not GLOBAL.findall(source)
