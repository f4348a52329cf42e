"""Branches, perturbed runs and lottery tickets against their trunk."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec, from_json, hyperparameters, to_json
from specdyn.models.spec.start import Perturbation, StartFrom, Ticket
from specdyn.storage.checkpoints import Manifest, kept_states, read_checkpoint
from specdyn.storage.places import Store
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.training import training
from specdyn.tasks.training.branches import make_mask, mask_of, require_trunk, store_mask
from specdyn.tasks.training.masks import mask_id
from specdyn.tasks.training.replay import keep_states
from specdyn.tasks.training.training import Loop

train = functools.partial(training.train, device=torch.device("cpu"))
TRUNK = dataclasses.replace(get_experiment("modular_addition").preset("smoke").spec, steps=40)
SPLIT = 20


def branch(order: int = 5, step: int = SPLIT, trunk: RunSpec = TRUNK, **start: Any) -> RunSpec:
    """A branch of the trunk."""
    return dataclasses.replace(trunk, start=StartFrom(run_id=trunk.run_id, step=step, order=order, **start))


def weights(store: Store, spec: RunSpec, manifest: Manifest, step: int) -> dict[str, Tensor]:
    """The checkpoint of a step."""
    entry = next(entry for entry in manifest.checkpoints if entry.step == step)
    return read_checkpoint(store.run_of(spec), entry)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether all tensors are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a trunk that kept its state at step 20."""
    store = Store(str(tmp_path_factory.mktemp("trunk")))
    train(TRUNK, store, (SPLIT,))
    return store


@pytest.fixture(scope="module")
def trunk(store: Store) -> Manifest:
    """The trunk's manifest."""
    return train(TRUNK, store)


def test_a_branch_in_the_trunks_own_order_is_the_trunk(store: Store, trunk: Manifest) -> None:
    spec = branch(order=TRUNK.seed)
    manifest = train(spec, store)
    assert manifest.steps == (20, 30, 40)
    for step in manifest.steps:
        assert same(weights(store, spec, manifest, step), weights(store, TRUNK, trunk, step))


def test_a_branch_begins_at_the_trunk_and_goes_its_own_way(store: Store, trunk: Manifest) -> None:
    spec, other = branch(order=5), branch(order=6)
    manifest, others = train(spec, store), train(other, store)
    assert same(weights(store, spec, manifest, SPLIT), weights(store, TRUNK, trunk, SPLIT))
    final = weights(store, spec, manifest, 40)
    assert not same(final, weights(store, TRUNK, trunk, 40))
    assert not same(final, weights(store, other, others, 40))


def test_a_branch_that_died_ends_with_the_same_bits(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again = branch(order=8), str(tmp_path / "again")
    expected = train(whole, store)
    train(TRUNK, Store(again), (SPLIT,))
    run, made = Loop.run, []

    def dies(self: Loop, start: int, stop: int) -> Tensor:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(start)
        return run(self, start, stop)

    monkeypatch.setattr(Loop, "run", dies)
    with pytest.raises(KeyboardInterrupt):
        train(whole, Store(again))
    monkeypatch.setattr(Loop, "run", run)
    assert made == [20]
    assert [entry.sha256 for entry in train(whole, Store(again)).checkpoints] == [
        e.sha256 for e in expected.checkpoints
    ]


def test_a_trunk_trained_again_to_a_step_keeps_the_state_it_had(store: Store, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    train(TRUNK, Store(other))
    assert kept_states(Store(other).run_of(TRUNK)) == {}
    keep_states(TRUNK, Store(other), (0, SPLIT))
    found = kept_states(Store(other).run_of(TRUNK))
    assert sorted(found) == [0, SPLIT]
    # The name carries the hash of the content.
    assert Path(found[SPLIT]).name == Path(kept_states(store.run_of(TRUNK))[SPLIT]).name
    spec = branch(step=0, order=TRUNK.seed)
    assert [e.sha256 for e in train(TRUNK, Store(other)).checkpoints][-1] != ""
    assert same(
        weights(Store(other), spec, train(spec, Store(other)), 40),
        weights(Store(other), TRUNK, train(TRUNK, Store(other)), 40),
    )


def test_a_state_is_not_kept_for_a_step_without_a_checkpoint(store: Store, trunk: Manifest) -> None:
    with pytest.raises(ValueError, match=r"step 13 .* has no checkpoint; those it has: 0, 10, 20, 30, 40"):
        keep_states(TRUNK, store, (13,))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (branch(step=30), "did not keep its state at step 30; the steps that it kept are: 20"),
        (
            dataclasses.replace(TRUNK, start=StartFrom(run_id="0" * 12, step=20, order=1)),
            "the trunk 000000000000 of modular_addition is not in the store; a branch needs a finished run",
        ),
        (
            dataclasses.replace(branch(), net=dataclasses.replace(TRUNK.net, width=20)),
            "has net=.*, the branch .*: they must be the same",
        ),
        (dataclasses.replace(branch(), seed=3), "has seed=0, the branch 3"),
    ],
)
def test_a_branch_that_cannot_begin_is_refused_with_the_reason(
    spec: RunSpec, message: str, store: Store, trunk: Manifest
) -> None:
    with pytest.raises(ValueError, match=message):
        require_trunk(spec, store)
    with pytest.raises(ValueError, match=message):
        train(spec, store)


def test_a_start_at_the_end_of_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a step below steps=40"):
        branch(step=40)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Perturbation(size=-1.0), "size=-1.0 is not allowed"),
        (lambda: Perturbation(size=1.0, direction="up"), "unknown direction 'up': known are bottom, random, top"),
        (lambda: Ticket(density=0.0), "density=0.0 is not allowed: expected a number above 0, at most 1"),
        (lambda: Ticket(density=0.5, mask="magnitud"), "unknown mask 'magnitud': .* did you mean 'magnitude'"),
        (lambda: branch(perturbation=Perturbation(size=1.0), ticket=Ticket(density=0.5)), "none beside a perturbation"),
    ],
)
def test_a_start_that_means_nothing_is_refused(made: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()


def test_where_a_run_starts_is_part_of_its_identity_and_of_its_hyperparameters() -> None:
    specs = [
        TRUNK,
        branch(),
        branch(order=6),
        branch(perturbation=Perturbation(size=0.5)),
        branch(ticket=Ticket(density=0.5)),
    ]
    assert len({spec.run_id for spec in specs}) == 5
    kinds = {kind.__name__: kind for kind in get_experiment("modular_addition").kinds}
    assert all(from_json(to_json(spec), kinds) == spec for spec in specs)
    assert "trunk" not in hyperparameters(TRUNK)
    found = hyperparameters(specs[4])
    assert (found["trunk"], found["split_step"], found["order"], found["density"]) == (TRUNK.run_id, 20, 5, 0.5)


def test_a_perturbation_has_its_size_and_spares_the_last_layer(store: Store, trunk: Manifest) -> None:
    spec = branch(perturbation=Perturbation(size=0.5, noise_seed=3))
    begun, before = weights(store, spec, train(spec, store), SPLIT), weights(store, TRUNK, trunk, SPLIT)
    *layers, last = network_layout(TRUNK).layers
    assert torch.equal(begun[last.parameter], before[last.parameter])
    for layer in layers:
        w, moved = before[layer.parameter].double(), begun[layer.parameter].double()
        assert moved.norm() == pytest.approx(w.norm().item(), rel=1e-5)
        # Noise is nearly orthogonal to the weights: |W'| = |W| then puts W at an angle whose tangent is the size.
        cosine = float((w * moved).sum() / (w.norm() * moved.norm()))
        assert cosine == pytest.approx(1 / (1 + 0.5**2) ** 0.5, abs=0.05)


@pytest.mark.parametrize("kind", ["magnitude", "random", "reinit", "shuffled"])
def test_the_weights_that_a_mask_drops_are_zero_at_every_update(
    kind: str, store: Store, trunk: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = branch(ticket=Ticket(density=0.2, mask=kind, mask_seed=4))
    mask, looked_at = mask_of(spec, store), []
    assert list(mask) == [layer.parameter for layer in network_layout(TRUNK).layers[:-1]]
    call = training.Updater.__call__

    def watched(self: Any, *args: Any) -> Tensor:
        loss = call(self, *args)
        looked_at.append(all(not self._net.get_parameter(name)[~kept].any() for name, kept in mask.items()))
        return loss

    monkeypatch.setattr(training.Updater, "__call__", watched)
    manifest = train(spec, store)
    assert looked_at == [True] * 20
    for step in manifest.steps:
        found = weights(store, spec, manifest, step)
        assert all(not found[name][~kept].any() for name, kept in mask.items())
        assert all(found[name][kept].all() for name, kept in mask.items() if kind != "reinit" or step > SPLIT)
    before = weights(store, TRUNK, trunk, SPLIT)
    begun = weights(store, spec, manifest, SPLIT)
    kept_as_it_was = all(torch.equal(begun[name][kept], before[name][kept]) for name, kept in mask.items())
    assert kept_as_it_was == (kind in ("magnitude", "random"))
    if kind == "shuffled":
        plain = mask_of(branch(ticket=Ticket(density=0.2)), store)
        for name, kept in mask.items():
            assert torch.equal(begun[name][kept].sort().values, before[name][plain[name]].sort().values)


def test_the_magnitude_mask_keeps_the_largest_of_the_last_checkpoint(store: Store, trunk: Manifest) -> None:
    spec = branch(ticket=Ticket(density=0.3))
    final = weights(store, TRUNK, trunk, 40)
    mask = mask_of(spec, store)
    kept = torch.cat([final[name][of].abs() for name, of in mask.items()])
    dropped = torch.cat([final[name][~of].abs() for name, of in mask.items()])
    assert kept.min() > dropped.max()
    assert len(kept) == int(0.3 * (len(kept) + len(dropped))) - 1  # one less, as published


def test_a_random_mask_has_the_densities_of_the_magnitude_mask(store: Store, trunk: Manifest) -> None:
    final = weights(store, TRUNK, trunk, 40)
    chosen = {layer.parameter: final[layer.parameter] for layer in network_layout(TRUNK).layers[:-1]}
    by_kind = {
        kind: make_mask(chosen, branch(ticket=Ticket(density=0.3, mask=kind)).start)  # type: ignore[arg-type]
        for kind in ("magnitude", "random", "shuffled")
    }
    counts = [[int(of.sum()) for of in mask.values()] for mask in by_kind.values()]
    assert counts[0] == counts[1] == counts[2]
    assert len({mask_id(mask) for mask in by_kind.values()}) == 3


def test_an_iterative_mask_keeps_the_largest_of_what_the_round_before_kept(store: Store, trunk: Manifest) -> None:
    first = branch(ticket=Ticket(density=0.6, mask="iterative"))
    assert torch.equal(*(next(iter(mask_of(s, store).values())) for s in (first, branch(ticket=Ticket(density=0.6)))))
    second = branch(ticket=Ticket(density=0.4, mask="iterative", previous=first.run_id))
    with pytest.raises(ValueError, match=f"run {first.run_id} .* is not finished"):
        mask_of(second, store)
    final = weights(store, first, train(first, store), 40)
    outer, inner = mask_of(first, store), mask_of(second, store)
    assert all(not (inner[name] & ~outer[name]).any() for name in inner)
    kept = torch.cat([final[name][inner[name]].abs() for name in inner])
    dropped = torch.cat([final[name][outer[name] & ~inner[name]].abs() for name in inner])
    assert kept.min() > dropped.max()
    assert len(kept) == int(0.4 * sum(of.numel() for of in inner.values())) - 1
    with pytest.raises(ValueError, match="none but for iterative masks"):
        Ticket(density=0.4, previous=first.run_id)


def test_a_mask_is_stored_once_under_its_content(store: Store, trunk: Manifest, tmp_path: Path) -> None:
    mask = mask_of(branch(ticket=Ticket(density=0.3)), store)
    name = store_mask(Store(str(tmp_path)), mask)
    assert name == mask_id(mask)
    assert [path.name for path in (tmp_path / "masks").iterdir()] == [f"{name}.safetensors"]


def test_a_density_that_empties_a_layer_is_refused_before_training(store: Store, trunk: Manifest) -> None:
    with pytest.raises(ValueError, match="density"):
        train(branch(ticket=Ticket(density=1e-5)), store)


def test_a_run_that_begins_at_another_can_be_a_trunk_too(store: Store, trunk: Manifest) -> None:
    middle = branch(ticket=Ticket(density=0.5))
    train(middle, store)
    keep_states(middle, store, (30,))
    spec = dataclasses.replace(middle, start=StartFrom(run_id=middle.run_id, step=30, order=5))
    final = train(spec, store)
    assert final.steps == (30, 40)
    # In the same order, but without the mask that its trunk is held to.
    assert not same(weights(store, spec, final, 40), weights(store, middle, train(middle, store), 40))
