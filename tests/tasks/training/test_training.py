"""Training: it learns, it resumes to equal bits after any death, and it says how it ended."""

import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from specdyn.models.datasets.base import get_dataset
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.datasets.decoders.modular_addition import ModularAddition
from specdyn.models.experiments.base import Experiment, experiment_names, get_experiment, read_spec
from specdyn.models.nets.mlp import Mlp
from specdyn.models.nets.transformer import Transformer, TransformerNet
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.schedules import batches_per_step
from specdyn.models.spec.settings import with_settings
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import Manifest, mark_damaged, read_checkpoint, read_manifest
from specdyn.storage.places import Run, Store
from specdyn.tasks.data.prepare import require_data
from specdyn.tasks.evaluation.environment import processor
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.identity import computed_on
from specdyn.tasks.spectra.series import RunSeries
from specdyn.tasks.training import training
from specdyn.tasks.training.optimizers import Updater
from specdyn.tasks.training.replay import keep_states
from specdyn.tasks.training.training import Batches

train = functools.partial(training.train, device=torch.device("cpu"))
SMOKE = get_experiment("modular_addition").preset("smoke").spec
STEPS = (0, 10, 20, 30, 40, 50, 60)
KINDS = {
    "adamw in batches": SMOKE,
    "adamw on the full batch": with_settings(SMOKE, batch_size=None, schedule="warmup", warmup=10),
    "by tables with LayerNorm": dataclasses.replace(
        with_settings(SMOKE, batch_size=None), net=Transformer(width=16, feedforward=16, layernorm=True)
    ),
    "sgd with momentum": with_settings(SMOKE, optimizer="sgd", momentum=0.9, learning_rate=0.05),
    "sgd without": with_settings(SMOKE, optimizer="sgd", learning_rate=0.05),
    "with LayerNorm": dataclasses.replace(SMOKE, net=Transformer(width=16, feedforward=16, layernorm=True, depth=2)),
    "mlp": dataclasses.replace(SMOKE, net=Mlp(width=12)),
    "muon": with_settings(SMOKE, optimizer="muon", weight_decay_on="hidden"),
    "sam": with_settings(SMOKE, optimizer="sam", momentum=0.9, nesterov=True, learning_rate=0.05),
    "bfloat16": with_settings(SMOKE, precision="bfloat16", clip_norm=0.1),
    "norms held": with_settings(SMOKE, norm_control="initial", decay_from=12, decay_until=35),
}


class Death(Exception):
    """What kills a training in these tests."""


def folder(store: Path, spec: RunSpec) -> Path:
    return Path(Store(str(store)).run_of(spec).folder)


def digests(store: Path, spec: RunSpec) -> dict[str, str]:
    """sha256 of every checkpoint on disk."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder(store, spec).glob("step=*.safetensors"))
    }


def states(store: Path, spec: RunSpec) -> list[Path]:
    return sorted((folder(store, spec) / "state").iterdir())


def die_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Have the update that follows `step` finished updates raise."""
    original = Batches.__call__

    def call(self: Batches, at: int) -> Examples:
        if at == step:
            raise Death
        return original(self, at)

    patch.setattr(Batches, "__call__", call)


def die_writing(function: str, step: int, patch: pytest.MonkeyPatch) -> None:
    """Have the writer's function raise when it comes to a step."""
    original = getattr(training, function)

    def write(run: Run, at: int, *rest: Any) -> Any:
        if at == step:
            raise Death
        return original(run, at, *rest)

    patch.setattr(training, function, write)


def with_loss(patch: pytest.MonkeyPatch, change: Callable[[int, Tensor, Tensor], Tensor]) -> None:
    """Pass every training loss through a function of (updates made, loss, outputs)."""
    original = get_experiment("modular_addition")
    made = 0

    def loss(spec: RunSpec, outputs: Tensor, batch: Examples) -> Tensor:
        nonlocal made
        changed = change(made, original.loss(spec, outputs, batch), outputs)
        made += 1
        return changed

    changed: Experiment = dataclasses.replace(original, loss=loss)
    patch.setattr(training, "experiment_of", lambda spec: changed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Manifest, dict[str, str]]]:
    """Every kind of run trained in one go: its manifest and the sha256 of its checkpoints."""
    store = tmp_path_factory.mktemp("whole")
    return {kind: (train(spec, Store(str(store))), digests(store, spec)) for kind, spec in KINDS.items()}


def test_training_learns(tmp_path: Path) -> None:
    # without mirrored pairs and weight decay, 500 full-batch steps fit 60 % of the table of 13
    spec = with_settings(
        dataclasses.replace(SMOKE, data=ModularAddition(prime=13, train_fraction=0.6)),
        batch_size=None,
        steps=500,
        checkpoint_every=250,
        weight_decay=0.0,
    )
    experiment = get_experiment(spec.experiment)
    manifest = train(spec, Store(str(tmp_path)))
    evaluate = Evaluator(
        experiment, spec, experiment.net(spec), load_examples(spec, Store(str(tmp_path))), torch.device("cpu")
    )
    measured = [evaluate(read_checkpoint(Store(str(tmp_path)).run_of(spec), entry)) for entry in manifest.checkpoints]
    train_loss, train_err = ([float(values[name][0]) for values in measured] for name in ("loss", "err"))
    assert train_loss[0] == pytest.approx(math.log(14), abs=0.4)
    assert train_loss[-1] < 0.1
    assert train_err[0] > 0.7
    assert train_err[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_says_what_was_trained_and_is_written_last(kind: str, tmp_path: Path) -> None:
    spec = KINDS[kind]
    manifest = train(spec, Store(str(tmp_path)))
    assert manifest == read_manifest(Store(str(tmp_path)).run_of(spec))
    assert (manifest.status, manifest.reason, manifest.steps) == ("complete", "", STEPS)
    assert read_spec(manifest.spec, spec.experiment) == spec
    assert (manifest.device, manifest.processor) == ("cpu", processor(torch.device("cpu")))
    assert manifest.seconds > 0
    assert manifest.versions["torch"] == torch.__version__
    for entry, (name, digest) in zip(manifest.checkpoints, digests(tmp_path, spec).items(), strict=True):
        path = folder(tmp_path, spec) / name
        assert name == f"step={entry.step:08d}.safetensors"
        assert (entry.bytes, entry.sha256) == (path.stat().st_size, digest)
        assert path.stat().st_mtime_ns <= Path(Store(str(tmp_path)).run_of(spec).manifest).stat().st_mtime_ns
    assert [path.name.split("-")[0] for path in states(tmp_path, spec)] == ["step=00000060"]


def test_the_first_checkpoint_is_the_initialisation(tmp_path: Path) -> None:
    manifest = train(SMOKE, Store(str(tmp_path)))
    kept = read_checkpoint(Store(str(tmp_path)).run_of(SMOKE), manifest.checkpoints[0])
    initial = get_experiment(SMOKE.experiment).net(SMOKE).state_dict()
    assert list(kept) == list(initial)
    assert all(torch.equal(kept[name], initial[name]) for name in initial)


def test_a_run_repeats_bit_for_bit_and_another_seed_differs(
    tmp_path: Path, whole: dict[str, tuple[Manifest, dict[str, str]]]
) -> None:
    torch.rand(5)
    train(SMOKE, Store(str(tmp_path)))
    assert digests(tmp_path, SMOKE) == whole["adamw in batches"][1]
    other = dataclasses.replace(SMOKE, seed=1)
    train(other, Store(str(tmp_path)))
    assert set(digests(tmp_path, other).values()).isdisjoint(whole["adamw in batches"][1].values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [0, 5, 30, 33, 59])
def test_a_run_that_died_resumes_to_equal_bits(
    kind: str, step: int, tmp_path: Path, whole: dict[str, tuple[Manifest, dict[str, str]]]
) -> None:
    spec = KINDS[kind]
    with pytest.MonkeyPatch.context() as patch:
        die_at(step, patch)
        with pytest.raises(Death):
            train(spec, Store(str(tmp_path)))
    assert read_manifest(Store(str(tmp_path)).run_of(spec)) is None
    done = [s for s in STEPS if s <= step]
    assert list(digests(tmp_path, spec)) == [f"step={s:08d}.safetensors" for s in done]
    torch.manual_seed(12345)  # the next process is in another state
    manifest = train(spec, Store(str(tmp_path)))
    assert digests(tmp_path, spec) == whole[kind][1]
    assert manifest.checkpoints == whole[kind][0].checkpoints
    assert manifest.status == "complete"


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_resumes_to_equal_bits(name: str, tmp_path: Path) -> None:
    experiment = get_experiment(name)
    spec = with_settings(experiment.preset("smoke").spec, steps=6, checkpoint_every=2, accumulate=2)
    stores = [tmp_path / "whole", tmp_path / "died"]
    for store in stores:
        if needed := experiment.dataset(spec):
            require_data(Store(str(store)), get_dataset(*needed))
    manifest = train(spec, Store(str(stores[0])))
    assert manifest.status == "complete"
    parts = batches_per_step(spec, len(load_examples(spec, Store(str(stores[0])))["train"].targets))
    with pytest.MonkeyPatch.context() as patch:
        die_at(3 * parts, patch)
        with pytest.raises(Death):
            train(spec, Store(str(stores[1])))
    torch.manual_seed(12345)
    assert train(spec, Store(str(stores[1]))).checkpoints == manifest.checkpoints
    assert digests(stores[0], spec) == digests(stores[1], spec)
    assert len(set(digests(stores[0], spec).values())) == len(manifest.steps)


def test_a_full_batch_is_trained_by_tables_and_says_so(whole: dict[str, tuple[Manifest, dict[str, str]]]) -> None:
    full = {"adamw on the full batch", "by tables with LayerNorm"}
    assert {kind for kind, (manifest, _) in whole.items() if manifest.forward == "tables"} == full
    for kind in full:
        assert ", by tables," in computed_on(whole[kind][0])
    assert "tables" not in computed_on(whole["adamw in batches"][0])


def test_training_by_tables_ends_where_training_by_layers_does(
    tmp_path: Path, whole: dict[str, tuple[Manifest, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, losses = KINDS["by tables with LayerNorm"], []
    evaluator = RunSeries(store=Store(str(tmp_path)), manifest=whole["by tables with LayerNorm"][0]).evaluator()
    for forward in ("tables", "layers"):
        monkeypatch.setattr(training, "choose_forward", lambda *given, forward=forward: forward)
        store = Store(str(tmp_path / forward))
        manifest = train(spec, store)
        assert manifest.forward == forward
        losses.append(evaluator(RunSeries(store=store, manifest=manifest).weights(60))["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert digests(tmp_path / "tables", spec) == whole["by tables with LayerNorm"][1]
    assert digests(tmp_path / "layers", spec) != whole["by tables with LayerNorm"][1]


def test_a_run_that_began_by_layers_goes_on_and_is_repeated_by_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, stores = KINDS["adamw on the full batch"], [Store(str(tmp_path / name)) for name in ("whole", "died")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "choose_forward", lambda *given: "layers")
        expected = train(spec, stores[0])
        die_at(33, patch)
        with pytest.raises(Death):
            train(spec, stores[1])
    assert train(spec, stores[1]).checkpoints == expected.checkpoints
    assert keep_states(spec, stores[0], (20, 40)) == 40


def test_a_resumed_run_makes_only_the_missing_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        die_at(33, patch)
        with pytest.raises(Death):
            train(SMOKE, Store(str(tmp_path)))
    made: list[int] = []
    original = Batches.__call__
    monkeypatch.setattr(Batches, "__call__", lambda self, step: (made.append(step), original(self, step))[1])
    train(SMOKE, Store(str(tmp_path)))
    assert made == list(range(30, 60))


def test_a_run_may_die_again_and_again(tmp_path: Path, whole: dict[str, tuple[Manifest, dict[str, str]]]) -> None:
    for step in (0, 4, 11, 25, 26, 59):
        with pytest.MonkeyPatch.context() as patch:
            die_at(step, patch)
            with pytest.raises(Death):
                train(SMOKE, Store(str(tmp_path)))
    manifest = train(SMOKE, Store(str(tmp_path)))
    assert manifest.checkpoints == whole["adamw in batches"][0].checkpoints
    assert digests(tmp_path, SMOKE) == whole["adamw in batches"][1]


@pytest.mark.parametrize("function", ["write_checkpoint", "write_state"])
@pytest.mark.parametrize("step", [0, 20, 60])
def test_a_write_that_fails_is_raised_and_made_up_for(
    function: str, step: int, tmp_path: Path, whole: dict[str, tuple[Manifest, dict[str, str]]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        die_writing(function, step, patch)
        with pytest.raises(Death):
            train(SMOKE, Store(str(tmp_path)))
    assert read_manifest(Store(str(tmp_path)).run_of(SMOKE)) is None
    manifest = train(SMOKE, Store(str(tmp_path)))
    assert manifest.checkpoints == whole["adamw in batches"][0].checkpoints
    assert digests(tmp_path, SMOKE) == whole["adamw in batches"][1]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("what", ["state", "newest checkpoint"])
def test_a_run_whose_state_is_damaged_starts_over_and_ends_the_same(
    what: str,
    damage: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: dict[str, tuple[Manifest, dict[str, str]]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        die_at(33, patch)
        with pytest.raises(Death):
            train(SMOKE, Store(str(tmp_path)))
    damage(states(tmp_path, SMOKE)[-1] if what == "state" else folder(tmp_path, SMOKE) / "step=00000030.safetensors")
    made: list[int] = []
    original = Batches.__call__
    monkeypatch.setattr(Batches, "__call__", lambda self, step: (made.append(step), original(self, step))[1])
    manifest = train(SMOKE, Store(str(tmp_path)))
    assert made == list(range(60))
    assert manifest.checkpoints == whole["adamw in batches"][0].checkpoints
    assert digests(tmp_path, SMOKE) == whole["adamw in batches"][1]


def test_a_finished_run_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(SMOKE, Store(str(tmp_path)))

    def snapshot() -> dict[Path, tuple[int, int]]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return {path: (os.stat(path).st_mtime_ns, os.stat(path).st_ino) for path in files}

    before = snapshot()
    for name in ("write", "create", "delete"):
        monkeypatch.setattr(objects, name, lambda *_: pytest.fail("a finished run was written to"))
    monkeypatch.setattr(training, "Loop", lambda *_: pytest.fail("a finished run was trained"))
    assert train(SMOKE, Store(str(tmp_path))) == first
    assert snapshot() == before


def test_a_run_marked_as_damaged_is_trained_from_the_start(
    tmp_path: Path, whole: dict[str, tuple[Manifest, dict[str, str]]]
) -> None:
    manifest = train(SMOKE, Store(str(tmp_path)))
    flip(folder(tmp_path, SMOKE) / "step=00000020.safetensors")
    mark_damaged(Store(str(tmp_path)), manifest, "step 20 does not verify")
    again = train(SMOKE, Store(str(tmp_path)))
    assert (again.status, again.reason) == ("complete", "")
    assert digests(tmp_path, SMOKE) == whole["adamw in batches"][1]


def check_failed(manifest: Manifest, store: Path, spec: RunSpec, last_good: int, stop: int) -> None:
    assert manifest == read_manifest(Store(str(store)).run_of(spec))
    assert manifest.status == "failed"
    assert f"run {spec.run_id}" in manifest.reason
    assert f"between steps {last_good} and {stop}" in manifest.reason
    assert manifest.steps == tuple(s for s in STEPS if s <= last_good)
    weights = read_checkpoint(Store(str(store)).run_of(spec), manifest.checkpoints[-1])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_with_too_large_a_learning_rate_fails_and_says_so(optimizer: str, tmp_path: Path) -> None:
    spec = with_settings(SMOKE, learning_rate=1e30, optimizer=optimizer)
    check_failed(train(spec, Store(str(tmp_path))), tmp_path, spec, last_good=0, stop=10)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("step", [20, 25, 29])
def test_a_loss_that_is_not_finite_keeps_the_checkpoints_before_it(
    value: float, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_loss(monkeypatch, lambda made, loss, outputs: loss + value if made == step else loss)
    check_failed(train(SMOKE, Store(str(tmp_path))), tmp_path, SMOKE, last_good=20, stop=30)


def test_a_gradient_that_is_not_finite_keeps_the_checkpoints_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The square root of 0 is finite and its slope is not: at update 30 the loss is fine and the weights become NaN.
    with_loss(monkeypatch, lambda made, loss, outputs: loss + (0 * outputs).sum().sqrt() if made == 29 else loss)
    check_failed(train(SMOKE, Store(str(tmp_path))), tmp_path, SMOKE, last_good=20, stop=30)


def test_a_failed_run_stays_failed_and_is_tried_again_from_its_last_good_checkpoint_when_asked(
    tmp_path: Path, whole: dict[str, tuple[Manifest, dict[str, str]]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        with_loss(patch, lambda made, loss, outputs: loss * float("nan") if made == 25 else loss)
        failed = train(SMOKE, Store(str(tmp_path)))
    assert failed.status == "failed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Loop", lambda *_: pytest.fail("a failed run was trained again"))
        assert train(SMOKE, Store(str(tmp_path))) == failed
    manifest = train(SMOKE, Store(str(tmp_path)), retry_failed=True)
    assert (manifest.status, manifest.reason) == ("complete", "")
    assert digests(tmp_path, SMOKE) == whole["adamw in batches"][1]


def test_losses_that_draw_noise_are_the_same_after_a_death_and_differ_between_seeds_and_steps(tmp_path: Path) -> None:
    drawn: list[float] = []

    def noisy(made: int, loss: Tensor, outputs: Tensor) -> Tensor:
        drawn.append(float(torch.rand(())))
        return loss * (1 + drawn[-1])

    def train_into(store: Path, spec: RunSpec, death: int | None = None) -> list[float]:
        drawn.clear()
        torch.manual_seed(len(str(store)))  # each process starts elsewhere
        before = torch.get_rng_state()
        with pytest.MonkeyPatch.context() as patch:
            with_loss(patch, noisy)
            if death is not None:
                die_at(death, patch)
                with pytest.raises(Death):
                    train(spec, Store(str(store)))
            else:
                train(spec, Store(str(store)))
        assert torch.equal(torch.get_rng_state(), before)
        return list(drawn)

    whole = train_into(tmp_path / "whole", SMOKE)
    train_into(tmp_path / "died", SMOKE, death=33)
    assert train_into(tmp_path / "died", SMOKE) == whole[30:]
    assert digests(tmp_path / "died", SMOKE) == digests(tmp_path / "whole", SMOKE)
    assert len(set(whole)) == 60
    assert set(train_into(tmp_path / "other", dataclasses.replace(SMOKE, seed=1))).isdisjoint(whole)


@pytest.mark.parametrize("death", [0, 14, 61, 99])
def test_accumulated_updates_resume_to_equal_bits(death: int, tmp_path: Path) -> None:
    # 4 batches an epoch: 2 updates of 2
    spec = with_settings(SMOKE, accumulate=2, batch_size=32, schedule="cosine-to-zero")
    train(spec, Store(str(tmp_path / "whole")))
    with pytest.MonkeyPatch.context() as patch:
        die_at(death, patch)
        with pytest.raises(Death):
            train(spec, Store(str(tmp_path / "died")))
    train(spec, Store(str(tmp_path / "died")))
    assert digests(tmp_path / "died", spec) == digests(tmp_path / "whole", spec)


@pytest.mark.parametrize(("accumulate", "per_epoch"), [(1, 3), (2, 2), (3, 3), (9, 3)])
def test_batches_that_make_no_whole_update_are_left_out(accumulate: int, per_epoch: int) -> None:
    # 50 examples in batches of 20, 20 and 10
    spec = dataclasses.replace(SMOKE, batch_size=20, accumulate=accumulate)
    batches = Batches(spec, Examples(torch.arange(50), torch.arange(50)))
    for number in range(8):
        epoch, position = divmod(number, per_epoch)
        order = training.epoch_order(spec.seed, epoch, 50)
        assert torch.equal(batches(number).inputs, order[20 * position : 20 * position + 20])


def test_updates_take_as_many_batches_as_the_spec_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = Batches.__call__
    monkeypatch.setattr(Batches, "__call__", lambda self, n: (asked.append(n), original(self, n))[1])
    spec = dataclasses.replace(SMOKE, net=Mlp(width=4), batch_size=32, accumulate=3)
    experiment = get_experiment(spec.experiment)
    data = load_examples(spec, Store("nowhere"))["train"]
    assert len(data.targets) in range(97, 129)  # four batches
    loop = training.Loop(experiment, spec, experiment.net(spec), data)
    assert loop.per_epoch == 1
    before = [p.detach().clone() for p in loop.net.parameters()]
    loop.run(0, 1)
    assert asked == [0, 1, 2]
    assert not all(torch.equal(p, b) for p, b in zip(loop.net.parameters(), before, strict=True))
    loop.run(1, 3)
    assert asked == list(range(9))


def test_float16_on_the_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="precision='float16' is not allowed: expected float32 or bfloat16 on the cpu"):
        train(with_settings(SMOKE, precision="float16"), Store(str(tmp_path)))


def test_bfloat16_is_used_in_the_products_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: set[torch.dtype] = set()
    with_loss(monkeypatch, lambda made, loss, outputs: (kinds.add(outputs.dtype), loss)[1])
    spec = with_settings(SMOKE, precision="bfloat16", steps=2)
    manifest = train(spec, Store(str(tmp_path)))
    assert kinds == {torch.bfloat16}
    weights = read_checkpoint(Store(str(tmp_path)).run_of(spec), manifest.checkpoints[-1])
    assert {w.dtype for w in weights.values()} == {torch.float32}


def test_a_schedule_is_followed_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    original = Updater.__call__
    monkeypatch.setattr(Updater, "__call__", lambda self, *args: (rates.append(args[1]), original(self, *args))[1])
    spec = with_settings(SMOKE, schedule="milestones", milestones=(1, 3), steps=20, learning_rate=0.5)
    train(spec, Store(str(tmp_path)))
    assert rates == pytest.approx([0.5] * 4 + [0.05] * 8 + [0.005] * 8)


def test_the_network_is_trained_in_training_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: set[bool] = set()
    forward = TransformerNet.forward
    monkeypatch.setattr(TransformerNet, "forward", lambda self, x: (modes.add(self.training), forward(self, x))[1])
    train(dataclasses.replace(SMOKE, steps=2), Store(str(tmp_path)))
    assert modes == {True}


def test_a_full_batch_is_the_training_set_in_its_own_order() -> None:
    examples = Examples(torch.arange(5), torch.arange(5))
    batches = Batches(dataclasses.replace(SMOKE, batch_size=None), examples)
    assert all(batches(step) is examples for step in (0, 1, 7))


def test_batches_of_another_epoch_come_in_another_order() -> None:
    examples = Examples(torch.arange(50), torch.arange(50))

    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(dataclasses.replace(SMOKE, batch_size=20, seed=seed), examples)
        return torch.cat([batches(3 * epoch + position).inputs for position in range(3)]).tolist()

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(found) for found in orders}) == 9
    assert order(1, 2) == orders[5]
