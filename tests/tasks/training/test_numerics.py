"""How a run computes: set as the spec says, and put back."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.architectures import Mlp
from specdyn.models.spec.settings import with_settings
from specdyn.tasks.training.numerics import autocast, choose_forward, compiled, numerics

SMOKE = get_experiment("modular_addition").preset("smoke").spec
CPU = torch.device("cpu")


def settings() -> tuple[bool, bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_settings_hold_inside_and_are_put_back(tf32: bool, deterministic: bool, fails: bool) -> None:
    before, state = settings(), torch.get_rng_state()
    spec = with_settings(SMOKE, tf32=tf32, deterministic=deterministic)
    try:
        with numerics(spec, CPU):
            assert settings() == (deterministic, False, tf32, tf32)
            torch.rand(3)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert settings() == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_are_in_the_precision_asked_for(precision: str, dtype: torch.dtype) -> None:
    with autocast(with_settings(SMOKE, precision=precision), CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_outputs_are_computed_by_tables_where_these_are_less_work() -> None:
    full = with_settings(SMOKE, batch_size=None)
    chosen = {
        "full batch": (full, 100),
        "few examples": (full, SMOKE.data.prime + 1),
        "batches": (SMOKE, 100),
        "bfloat16": (with_settings(full, precision="bfloat16"), 100),
        "compiled": (with_settings(full, compile=True), 100),
        "two blocks": (with_settings(full, depth=2), 100),
        "mlp": (dataclasses.replace(full, net=Mlp(width=8)), 100),
        "sam": (with_settings(full, optimizer="sam"), 100),
    }
    nets = {case: get_experiment("modular_addition").net(spec) for case, (spec, _) in chosen.items()}
    found = {case: choose_forward(spec, nets[case], examples) for case, (spec, examples) in chosen.items()}
    assert [case for case, forward in found.items() if forward == "tables"] == ["full batch", "sam"]


def test_a_network_is_compiled_in_place_for_each_shape_and_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: calls.append(options))
    net = nn.Linear(1, 1)
    assert compiled(SMOKE, net) is net
    assert calls == []
    assert compiled(with_settings(SMOKE, compile=True), net) is net
    assert calls == [{"dynamic": False}]


TRAIN = """
import sys
import torch
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.settings import with_settings
from specdyn.storage.places import Store
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.training.optimizers import Updater
from specdyn.tasks.training.training import train

spec = with_settings(get_experiment("modular_addition").preset("smoke").spec, steps=2, checkpoint_every=1)
network_layout(spec)
train(spec, Store(sys.argv[1]), device=torch.device("cpu"))
updater = Updater(spec, get_experiment("modular_addition").net(spec))
updater.load(*updater.state())
print([name for name in ("torch._dynamo", "torch._inductor", "scipy.optimize") if name in sys.modules])
"""


def test_training_imports_neither_torchs_compiler_nor_scipys_optimizers(tmp_path: Path) -> None:
    given = [sys.executable, "-c", TRAIN, str(tmp_path / "store")]
    assert subprocess.run(given, capture_output=True, text=True, check=True).stdout == "[]\n"
