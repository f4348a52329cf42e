"""What decay does between checkpoints: against the update written out, and weights with and without it bit by bit."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import specdyn as sd
from helpers.analysed import train
from specdyn.models.experiments.base import experiment_of, get_experiment
from specdyn.models.nets.decay_sums import SINCE, SUM, is_of_decay
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.models.spec.start import StartFrom
from specdyn.storage.checkpoints import read_finished
from specdyn.storage.places import Store
from specdyn.tasks.library.nets import load_net
from specdyn.tasks.plan.cost import checkpoint_bytes
from specdyn.tasks.training.optimizers import Updater
from specdyn.tasks.training.replay import keep_states

SMOKE = with_settings(
    get_experiment("modular_addition").preset("smoke").spec, steps=20, checkpoint_every=10, weight_decay=1.0
)
KINDS = [
    {"optimizer": "adamw"},
    {"optimizer": "muon"},
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.9},
    {"optimizer": "sam", "momentum": 0.5, "nesterov": True},
    {"optimizer": "adamw", "decay": "nuclear"},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay_on": "attention"},
]


def spec(**settings: object) -> RunSpec:
    return with_settings(SMOKE, **settings)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_sum_is_what_the_run_lacks_without_decay(kind: dict[str, object]) -> None:
    """A loss that is linear in the weights has one gradient everywhere, so that decay is all that differs."""
    run = spec(**kind, record_decay=True, weight_decay=0.3)
    net = experiment_of(run).net(run).double()
    without = experiment_of(spec(**kind)).net(spec(**kind)).double()
    slopes = {name: torch.randn_like(p) for name, p in without.named_parameters()}
    updaters = Updater(run, net), Updater(spec(**kind, weight_decay=0.0), without)

    def loss(of: nn.Module) -> Tensor:
        return sum((p * slopes[name]).sum() for name, p in of.named_parameters())  # type: ignore[return-value]

    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    for begin, stop in ((0, 3), (3, 7)):
        at_begin = {name: (p - start[name]).detach().clone() for name, p in net.named_parameters()}
        plain = {name: p.detach().clone() for name, p in without.named_parameters()}
        updaters[0].begin(begin)
        for step in range(begin, stop):
            for updater, of in zip(updaters, (net, without), strict=True):
                updater(step, 0.01 * (step + 1), lambda of=of: [loss(of)])
        assert int(net.get_buffer(SINCE)) == begin
        for name, p in net.named_parameters():
            if p.ndim < 2:
                continue
            moved = p - start[name] - at_begin[name]
            expected = moved - (without.get_parameter(name) - plain[name])
            torch.testing.assert_close(net.get_buffer(name + SUM), expected.detach(), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[4], KINDS[5]], ids=str)
def test_weights_have_the_same_bits_and_checkpoints_the_sums(kind: dict[str, object], tmp_path: Path) -> None:
    store, plain, summed = Store(str(tmp_path)), spec(**kind), spec(**kind, record_decay=True)
    assert plain.run_id != summed.run_id
    of_plain, of_summed = train(plain, store.url), train(summed, store.url)
    for step, since in ((0, -1), (10, 0), (20, 10)):
        expected, found = read_finished(store, of_plain, step), read_finished(store, of_summed, step)
        assert all(torch.equal(found[name], w) for name, w in expected.items())
        assert all(map(is_of_decay, found.keys() - expected.keys()))
        assert int(found[SINCE]) == since
        assert sum(w.numel() * w.element_size() for w in found.values()) == checkpoint_bytes(summed)
        assert bool(found["encoder.weight" + SUM].any()) == (step > 0)
    net = load_net(store.url, summed.run_id, step=20)
    assert torch.equal(net.get_buffer("decoder.weight" + SUM), found["decoder.weight" + SUM])
    assert not [name for name in dict(experiment_of(plain).net(plain).named_buffers()) if is_of_decay(name)]


def test_a_branch_goes_on_with_the_sums_of_its_trunk_and_has_them_where_it_has(tmp_path: Path) -> None:
    store, trunk = Store(str(tmp_path)), spec(**KINDS[3], record_decay=True, steps=30)
    whole = train(trunk, store.url)
    assert keep_states(trunk, store, (20,)) == 20, "trained again from its start, in one go"
    branch = dataclasses.replace(trunk, start=StartFrom(run_id=trunk.run_id, step=20, order=trunk.seed))
    expected, found = read_finished(store, whole, 30), read_finished(store, train(branch, store.url), 30)
    assert expected.keys() == found.keys() and any(map(is_of_decay, found))
    assert all(torch.equal(found[name], w) for name, w in expected.items())
    without = dataclasses.replace(branch, record=dataclasses.replace(branch.record, decay=False))
    with pytest.raises(ValueError, match="has record_decay=True, the branch False: they must be the same"):
        train(without, store.url)


def test_sums_are_no_layers_of_a_checkpoint_that_is_analysed_as_any_other() -> None:
    summed, plain = (experiment_of(run).net(run).state_dict() for run in (spec(record_decay=True), spec()))
    found = [
        sd.analyse(of, ["effective_rank"])["layers"].to_dataset()["layer"].values.tolist() for of in (summed, plain)
    ]
    assert len(summed) > len(plain) and found[0] == found[1]
